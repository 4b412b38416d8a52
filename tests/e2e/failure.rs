//! What users see while members are missing, stop or start.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use catena_api::etcd::etcdserverpb::{RangeRequest, WatchCreateRequest};
use framework::{Cluster, WatchStream, get, message::one, wait_until};
use serde_json::Value;
use tokio::time::timeout;

use crate::case::{Case, Ground, case};

/// A member notices by then that it has no leader: a few election timeouts.
const NOTICED_WITHIN: Duration = Duration::from_secs(15);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(minority_refuses_what_it_cannot_know)
            .members(3)
            .fresh(&[]),
        case!(stopping_leader_hands_over).members(3).fresh(&[]),
        case!(lease_outlives_its_leader).members(3).fresh(&[]),
        case!(log_is_json_without_errors).members(3).fresh(&[]),
        case!(old_revisions_are_compacted_by_time).fresh(&[
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=1s",
        ]),
    ]
}

async fn minority_refuses_what_it_cannot_know(g: &mut Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    g.cluster.hashes().await?;
    let client = g.cluster.client(0)?;
    let mut watch = WatchStream::open_with(&client, &[("hasleader", "true")]);
    watch
        .create(WatchCreateRequest {
            key: "k".into(),
            ..Default::default()
        })
        .await?;
    for place in [1, 2] {
        g.cluster.members[place].kill()?;
    }
    let serializable = RangeRequest {
        serializable: true,
        ..one("k")
    };
    ensure!(client.range(serializable).await?.count == 1);
    let ended = watch.raw().await?.context("the watch ends with an error")?;
    let ended = ended.err().context("the watch ends with an error")?;
    ensure!(ended.message() == "etcdserver: no leader", "{ended:?}");
    let address = g.cluster.members[0].address();
    let unhealthy = wait_until("the health shows it", NOTICED_WITHIN, async || {
        get(&address, "/health")
            .await
            .ok()
            .filter(|answer| answer.status == 503)
    });
    ensure!(unhealthy.await?.body.contains("RAFT NO LEADER"));
    ensure!(client.status().await?.errors == ["etcdserver: no leader"]);
    // Neither hangs: a member answers after its own time limit.
    let (read, write) = tokio::join!(client.get("k"), client.put("k", "w"));
    ensure!(read.is_err() && write.is_err(), "{read:?} {write:?}");
    g.cluster.start_all().await?;
    client.put("k", "x").await?;
    Ok(())
}

async fn stopping_leader_hands_over(g: &mut Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    let leader = g.cluster.leader().await?;
    let (one, other) = (g.cluster.client(leader + 1)?, g.cluster.client(leader + 2)?);
    g.cluster.members[leader].terminate()?;
    wait_until("a write succeeds", NOTICED_WITHIN, async || {
        let write = timeout(Duration::from_millis(250), one.put("k", "w"));
        write.await.ok()?.ok()
    })
    .await?;
    // The real etcd breaks off reads that wait while the leader changes.
    let found = wait_until("a read succeeds", NOTICED_WITHIN, async || {
        timeout(Duration::from_secs(2), other.get("k"))
            .await
            .ok()?
            .ok()
    });
    ensure!(&found.await?.kvs[0].value()[..] == b"w");
    g.cluster.members[leader].stop()?;
    let log = g.cluster.members[leader].log();
    ensure!(
        log.contains("leadership transfer finished"),
        "left without handing over"
    );
    Ok(())
}

async fn lease_outlives_its_leader(g: &mut Ground<'_>) -> Result<()> {
    let leader = g.cluster.leader().await?;
    let client = g.cluster.client(leader + 1)?;
    let lease = client.grant(5, 0).await?.id;
    g.ok(&["put", "k", "v", &format!("--lease={lease:x}")])?;
    g.cluster.members[leader].kill()?;
    // The lease is renewed by the new leader, however late it came.
    let renewed = wait_until("the lease is renewed", NOTICED_WITHIN, async || {
        timeout(Duration::from_secs(1), client.keep_alive(lease))
            .await
            .ok()?
            .ok()?
    });
    ensure!(renewed.await?.ttl == 5);
    ensure!(client.get("k").await?.count == 1);
    let expired = wait_until("the lease expires", NOTICED_WITHIN, async || {
        client.get("k").await.ok().filter(|found| found.count == 0)
    });
    expired.await?;
    Ok(())
}

async fn log_is_json_without_errors(g: &mut Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    g.ok(&["compaction", "2"])?;
    let ours = g.cluster.setup.target.is_catena();
    for member in &mut g.cluster.members {
        member.stop()?;
        let log = member.log();
        // etcd calls two things errors that are none: the end of its listeners while it stops, and a storage version
        // that it wants to raise before its first entry is applied.
        let stopping = |line: &&str| !ours && line.contains("received signal");
        let early = |line: &&str| !ours && line.contains("missing term information");
        for line in log
            .lines()
            .take_while(|line| !stopping(line))
            .filter(|line| !early(line))
        {
            check_line(line).with_context(|| line.to_owned())?;
        }
        for message in [
            "ready to serve client requests",
            "received signal; shutting down",
        ] {
            ensure!(
                log.contains(&format!("\"msg\":\"{message}\"")),
                "no line {message:?}"
            );
        }
    }
    Ok(())
}

fn check_line(line: &str) -> Result<()> {
    let value: Value = serde_json::from_str(line)?;
    let field = |name: &str| value[name].as_str().with_context(|| format!("no {name}"));
    let (level, ts) = (field("level")?, field("ts")?);
    ensure!(
        ["debug", "info", "warn"].contains(&level),
        "an error in normal operation"
    );
    let (_, fraction) = ts.split_once('.').context("fractions of a second")?;
    ensure!(
        ts.contains('T') && fraction.bytes().take_while(u8::is_ascii_digit).count() == 6,
        "{ts}"
    );
    ensure!(field("caller")?.contains(':') && !field("msg")?.is_empty());
    Ok(())
}

async fn old_revisions_are_compacted_by_time(g: &Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "1"])?;
    let revision = g.revision().await?.to_string();
    g.ok(&["put", "k", "2"])?;
    wait_until(
        "the old revision is compacted",
        NOTICED_WITHIN,
        async || {
            let failed = g.fails(&["get", "k", "--rev", &revision]).ok()?;
            failed
                .contains("required revision has been compacted")
                .then_some(())
        },
    )
    .await?;
    ensure!(g.ok(&["get", "k", "--print-value-only"])? == "2\n");
    Ok(())
}

/// All endpoints of a cluster.
pub(crate) fn endpoints(cluster: &Cluster) -> Vec<String> {
    cluster
        .members
        .iter()
        .map(framework::Member::endpoint)
        .collect()
}
