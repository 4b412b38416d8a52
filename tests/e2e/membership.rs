//! Members that start, join, leave, fall behind and come back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use framework::{Cluster, Load, Setup, get, kept, wait_until};

use crate::{
    case::{Case, Ground, case},
    failure::endpoints,
};

/// A member that was away has caught up by then.
const BACK_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(three_commands_in_any_order).members(3),
        case!(data_survives_a_stop_of_all).members(3).fresh(&[]),
        case!(fourth_member_joins).members(3).fresh(&[]),
        case!(second_member_joins_one).fresh(&[]),
        case!(learner_joins_and_is_promoted).members(3).fresh(&[]),
        case!(removed_member_stops).members(3).fresh(&[]),
        case!(member_away_comes_back_by_log).members(3).fresh(&[]),
        case!(member_away_too_long_comes_back_by_snapshot)
            .members(3)
            .fresh(&["--snapshot-count=200", "--snapshot-catchup-entries=100"]),
        case!(paused_leader_serves_no_stale_read)
            .members(3)
            .fresh(&[]),
        case!(watch_survives_the_other_members)
            .members(3)
            .fresh(&[]),
    ]
}

async fn three_commands_in_any_order(g: &Ground<'_>) -> Result<()> {
    let mut cluster = Cluster::prepare(Setup::new(g.cluster.setup.target, 3))?;
    // The third waits alone, which is visible in its log; then two are enough to begin; the first comes when data is there.
    cluster.members[2].start()?;
    let third = &cluster.members[2];
    wait_until("the third has begun", BACK_WITHIN, async || {
        (third.log().lines().count() > 3).then_some(())
    })
    .await?;
    cluster.members[1].start()?;
    cluster.members[1].ready().await?;
    cluster.members[2].ready().await?;
    cluster.client(1)?.put("k", "v").await?;
    cluster.members[0].start()?;
    cluster.members[0].ready().await?;
    ensure!(cluster.client(0)?.get("k").await?.count == 1);
    equal(&cluster).await
}

/// Demands one hash on all running members.
async fn equal(cluster: &Cluster) -> Result<()> {
    let hashes = cluster.hashes().await?;
    ensure!(
        hashes.windows(2).all(|pair| pair[0].hash == pair[1].hash),
        "{hashes:?}"
    );
    Ok(())
}

async fn data_survives_a_stop_of_all(g: &mut Ground<'_>) -> Result<()> {
    let lease = g.cluster.client(0)?.grant(1000, 0).await?.id;
    for n in 0..20 {
        g.ok(&["put", &format!("k{n}"), "v", &format!("--lease={lease:x}")])?;
    }
    let before = g.cluster.hashes().await?;
    for member in &mut g.cluster.members {
        member.stop()?;
    }
    g.cluster.start_all().await?;
    let after = g.cluster.hashes().await?;
    ensure!(before[0].hash == after[0].hash && before[0].hash_revision == after[0].hash_revision);
    let left = g.cluster.client(1)?.time_to_live(lease).await?;
    ensure!(left.granted_ttl == 1000 && left.keys.len() == 20);
    Ok(())
}

/// Adds a member as a user would, with what `etcdctl member add` prints, and starts it.
async fn join(g: &mut Ground<'_>, name: &str, learner: bool) -> Result<usize> {
    let member = g.cluster.joining(name)?;
    let url = member.peer_url();
    let peer_urls = format!("--peer-urls={url}");
    let mut args = vec!["member", "add", name, &peer_urls];
    args.extend(learner.then_some("--learner"));
    let endpoint = g.cluster.members[0].address();
    args.extend(["--endpoints", &endpoint]);
    // etcd counts a voter as connected after 5 s only, and refuses changes before.
    let printed = wait_until("the member is added", BACK_WITHIN, async || {
        g.ok(&args).ok()
    })
    .await?;
    ensure!(
        printed.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""),
        "{printed}"
    );
    ensure!(printed.contains(&format!("{name}={url}")), "{printed}");
    let place = g.cluster.members.len() - 1;
    g.cluster.members[place].start()?;
    Ok(place)
}

async fn fourth_member_joins(g: &mut Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    let place = join(g, "infra4", false).await?;
    g.cluster.members[place].ready().await?;
    ensure!(g.cluster.client(place)?.get("k").await?.count == 1);
    g.cluster.client(place)?.put("from the fourth", "v").await?;
    let list = g.ok(&["member", "list"])?;
    ensure!(list.matches("started").count() == 4, "{list}");
    equal(g.cluster).await
}

async fn second_member_joins_one(g: &mut Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    let place = join(g, "infra2", false).await?;
    g.cluster.members[place].ready().await?;
    ensure!(g.cluster.client(place)?.get("k").await?.count == 1);
    equal(g.cluster).await
}

async fn learner_joins_and_is_promoted(g: &mut Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    let place = join(g, "infra4", true).await?;
    let (client, address) = (g.cluster.client(place)?, g.cluster.members[place].address());
    let caught_up = wait_until("the learner has the data", BACK_WITHIN, async || {
        let request = framework::message::one("k");
        let request = catena_api::etcd::etcdserverpb::RangeRequest {
            serializable: true,
            ..request
        };
        client
            .range(request)
            .await
            .ok()
            .filter(|found| found.count == 1)
    });
    caught_up.await?;
    let refused = client
        .get("k")
        .await
        .err()
        .context("a learner serves no linearizable read")?;
    ensure!(
        refused.message() == "etcdserver: rpc not supported for learner",
        "{refused}"
    );
    ensure!(client.status().await?.is_learner);
    ensure!(
        get(&address, "/livez").await?.status == 200
            && get(&address, "/readyz").await?.status == 503
    );
    let id = format!(
        "{:x}",
        client.status().await?.header.unwrap_or_default().member_id
    );
    let endpoint = g.cluster.members[0].address();
    let promote = ["member", "promote", &id, "--endpoints", &endpoint];
    wait_until("the learner is promoted", BACK_WITHIN, async || {
        g.ok(&promote).ok()
    })
    .await?;
    g.cluster.members[place].ready().await?;
    ensure!(!client.status().await?.is_learner);
    equal(g.cluster).await
}

async fn removed_member_stops(g: &mut Ground<'_>) -> Result<()> {
    let leader = g.cluster.leader().await?;
    let place = (leader + 1) % 3;
    let id = g
        .cluster
        .client(place)?
        .status()
        .await?
        .header
        .unwrap_or_default()
        .member_id;
    let (id, endpoint) = (format!("{id:x}"), g.cluster.members[leader].address());
    let remove = ["member", "remove", &id, "--endpoints", &endpoint];
    wait_until("the member is removed", BACK_WITHIN, async || {
        g.ok(&remove).ok()
    })
    .await?;
    let member = &mut g.cluster.members[place];
    wait_until("the removed member exits", BACK_WITHIN, async || {
        member.exited()
    })
    .await?;
    g.cluster.client(leader)?.put("k", "v").await?;
    ensure!(g.cluster.client(leader)?.members().await?.len() == 2);
    Ok(())
}

async fn member_away_comes_back_by_log(g: &mut Ground<'_>) -> Result<()> {
    come_back(g, 50, false).await
}

async fn member_away_too_long_comes_back_by_snapshot(g: &mut Ground<'_>) -> Result<()> {
    come_back(g, 2_000, true).await
}

/// A follower is away while so many writes are acknowledged, and comes back while more are.
async fn come_back(g: &mut Ground<'_>, away: usize, by_snapshot: bool) -> Result<()> {
    let load = Load::start(&endpoints(g.cluster), 8);
    let place = (g.cluster.leader().await? + 1) % 3;
    g.cluster.members[place].kill()?;
    let begin = load.acknowledged();
    wait_until("writes go on", Duration::from_secs(120), async || {
        (load.acknowledged() > begin + away).then_some(())
    })
    .await?;
    g.cluster.members[place].start()?;
    g.cluster.members[place].ready().await?;
    let back = load.acknowledged();
    wait_until("writes go on", BACK_WITHIN, async || {
        (load.acknowledged() > back + 50).then_some(())
    })
    .await?;
    let acknowledged = load.stop().await?;
    kept(&g.cluster.client(place)?, &acknowledged).await?;
    let log = g.cluster.members[place].log();
    // etcd's word and ours.
    let came_by_snapshot =
        log.contains("\"applied snapshot\"") || log.contains("\"installed snapshot\"");
    ensure!(
        by_snapshot == came_by_snapshot,
        "by snapshot: {by_snapshot}"
    );
    equal(g.cluster).await
}

async fn paused_leader_serves_no_stale_read(g: &mut Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "old"])?;
    let leader = g.cluster.leader().await?;
    g.cluster.members[leader].pause()?;
    let other = g.cluster.client(leader + 1)?;
    wait_until("another leads", BACK_WITHIN, async || {
        tokio::time::timeout(Duration::from_secs(1), other.put("k", "new"))
            .await
            .ok()?
            .ok()
    })
    .await?;
    let client = g.cluster.client(leader)?;
    let read = tokio::spawn(async move { client.get("k").await });
    g.cluster.members[leader].resume()?;
    if let Ok(found) = read.await? {
        ensure!(
            &found.kvs[0].value()[..] == b"new",
            "a stale read: {found:?}"
        );
    }
    g.cluster.members[leader].ready().await?;
    equal(g.cluster).await
}

async fn watch_survives_the_other_members(g: &mut Ground<'_>) -> Result<()> {
    use catena_api::etcd::etcdserverpb::WatchCreateRequest;
    let leader = g.cluster.leader().await?;
    let place = (leader + 1) % 3;
    let client = g.cluster.client(place)?;
    let mut watch = framework::WatchStream::open(&client);
    watch
        .create(WatchCreateRequest {
            key: "k".into(),
            ..Default::default()
        })
        .await?;
    let first = client
        .put("k", "1")
        .await?
        .header
        .unwrap_or_default()
        .revision;
    g.cluster.members[leader].kill()?;
    let second = wait_until("writes go on", BACK_WITHIN, async || {
        tokio::time::timeout(Duration::from_secs(1), client.put("k", "2"))
            .await
            .ok()?
            .ok()
    })
    .await?;
    let second = second.header.unwrap_or_default().revision;
    // A write whose answer was lost may have happened as well.
    let mut events = watch.events(2).await?;
    while !events.contains(&format!("PUT k=2@{second}")) {
        events.extend(watch.events(1).await?);
    }
    ensure!(events[0] == format!("PUT k=1@{first}"), "{events:?}");
    Ok(())
}
