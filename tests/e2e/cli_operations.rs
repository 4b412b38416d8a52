//! etcdctl and etcdutl: what operators do.

use anyhow::{Result, ensure};
use framework::peers::Release;

use crate::case::{Case, Ground, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(check_perf_passes).fresh(&[]),
        case!(endpoint_status_in_every_format)
            .members(3)
            .every_release(),
        case!(endpoint_health_in_every_format)
            .members(3)
            .every_release(),
        case!(endpoint_hashkv_in_every_format)
            .members(3)
            .every_release(),
        case!(member_list_in_every_format)
            .members(3)
            .every_release(),
        case!(defrag_of_the_cluster).members(3).every_release(),
        case!(alarms_are_listed_and_disarmed).every_release(),
        case!(move_leader).members(3).every_release(),
        case!(version_is_told).every_release(),
    ]
}

async fn check_perf_passes(g: &Ground<'_>) -> Result<()> {
    let ran = g.ctl.run(&["check", "perf", "--load=s"])?;
    ensure!(ran.code == 0 && ran.stdout.contains("PASS\n"), "{ran:?}");
    Ok(())
}

async fn endpoint_status_in_every_format(g: &Ground<'_>) -> Result<()> {
    let simple = g.ok(&["endpoint", "status"])?;
    ensure!(simple.lines().count() == 3, "{simple}");
    for member in &g.cluster.members {
        ensure!(simple.contains(&member.endpoint()));
    }
    // The columns differ between releases; the first truth is that a member leads.
    let leaders = simple
        .lines()
        .filter(|line| line.contains(", true, "))
        .count();
    ensure!(leaders == 1, "{simple}");
    let json = g.json(&["endpoint", "status"])?;
    ensure!(json.as_array().is_some_and(|all| all.len() == 3));
    for member in json.as_array().into_iter().flatten() {
        let status = &member["Status"];
        ensure!(
            status["leader"].as_u64().is_some_and(|leader| leader != 0)
                && status["dbSize"].as_i64() > Some(0),
            "{json}"
        );
        ensure!(
            status["version"]
                .as_str()
                .is_some_and(|version| version.starts_with("3.")),
            "{json}"
        );
    }
    ensure!(
        g.ok(&["endpoint", "status", "-w", "table"])?
            .contains("IS LEADER")
    );
    ensure!(
        g.ok(&["endpoint", "status", "-w", "fields"])?
            .contains("\"RaftTerm\" : ")
    );
    let one = g.cluster.members[1].endpoint();
    let cluster = g.ok(&["endpoint", "status", "--cluster", "--endpoints", &one])?;
    ensure!(cluster.lines().count() == 3, "{cluster}");
    Ok(())
}

async fn endpoint_health_in_every_format(g: &Ground<'_>) -> Result<()> {
    // Older releases print this to standard error.
    let simple = g.ctl.run(&["endpoint", "health"])?;
    ensure!(simple.code == 0, "{simple:?}");
    let lines = simple.stdout + &simple.stderr;
    ensure!(
        lines
            .matches("is healthy: successfully committed proposal: took = ")
            .count()
            == 3,
        "{lines}"
    );
    let json = g.json(&["endpoint", "health"])?;
    let healthy = json
        .as_array()
        .is_some_and(|all| all.len() == 3 && all.iter().all(|member| member["health"] == true));
    ensure!(healthy, "{json}");
    ensure!(
        g.ok(&["endpoint", "health", "-w", "table"])?
            .contains("HEALTH")
    );
    ensure!(
        g.ctl
            .run(&["endpoint", "health", "--endpoints", "127.0.0.1:1"])?
            .code
            == 1
    );
    Ok(())
}

async fn endpoint_hashkv_in_every_format(g: &Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    g.cluster.hashes().await?;
    let simple = g.ok(&["endpoint", "hashkv"])?;
    let mut hashes: Vec<_> = simple
        .lines()
        .filter_map(|line| line.split(", ").nth(1))
        .collect();
    ensure!(hashes.len() == 3, "{simple}");
    hashes.dedup();
    ensure!(hashes.len() == 1, "{simple}");
    let json = g.json(&["endpoint", "hashkv"])?;
    for member in json.as_array().into_iter().flatten() {
        ensure!(
            member["HashKV"]["hash"].as_u64() == hashes[0].parse().ok(),
            "{json}"
        );
    }
    ensure!(
        g.ok(&["endpoint", "hashkv", "-w", "table"])?
            .contains("HASH")
    );
    ensure!(
        g.ok(&["endpoint", "hashkv", "-w", "fields"])?
            .contains("\"Hash\" : ")
    );
    Ok(())
}

async fn member_list_in_every_format(g: &Ground<'_>) -> Result<()> {
    let simple = g.ok(&["member", "list"])?;
    for member in &g.cluster.members {
        let line = format!(
            "started, {}, {}, {}, false",
            member.name,
            member.peer_url(),
            member.endpoint()
        );
        ensure!(simple.contains(&line), "{simple}");
    }
    let json = g.json(&["member", "list"])?;
    ensure!(
        json["members"].as_array().is_some_and(|all| all.len() == 3),
        "{json}"
    );
    ensure!(
        g.ok(&["member", "list", "-w", "table"])?
            .contains("IS LEARNER")
    );
    ensure!(
        g.ok(&["member", "list", "-w", "fields"])?
            .contains("\"MemberID\" : ")
    );
    Ok(())
}

async fn defrag_of_the_cluster(g: &Ground<'_>) -> Result<()> {
    g.ok(&["put", "k", "v"])?;
    let ran = g.ctl.run(&["defrag", "--cluster"])?;
    ensure!(ran.code == 0, "{ran:?}");
    ensure!(
        (ran.stdout + &ran.stderr)
            .matches("Finished defragmenting etcd member[")
            .count()
            == 3
    );
    ensure!(g.ok(&["get", "k"])? == "k\nv\n");
    Ok(())
}

async fn alarms_are_listed_and_disarmed(g: &Ground<'_>) -> Result<()> {
    use catena_api::etcd::etcdserverpb::AlarmRequest;
    ensure!(g.ok(&["alarm", "list"])?.is_empty());
    let client = g.cluster.client(0)?;
    let member_id = client.status().await?.leader;
    client
        .maintenance()
        .alarm(AlarmRequest {
            action: 1,
            member_id,
            alarm: 1,
        })
        .await?;
    let line = format!("memberID:{member_id} alarm:NOSPACE");
    ensure!(g.ok(&["alarm", "list"])?.contains(&line));
    ensure!(
        g.fails(&["put", "k", "v"])?
            .contains("etcdserver: mvcc: database space exceeded")
    );
    if g.release != Release::V34 {
        ensure!(g.ctl.run(&["endpoint", "health"])?.code == 1);
    }
    ensure!(g.ok(&["alarm", "disarm"])?.contains(&line));
    ensure!(g.ok(&["put", "k", "v"])? == "OK\n");
    Ok(())
}

async fn move_leader(g: &Ground<'_>) -> Result<()> {
    let leader = g.cluster.leader().await?;
    let target = g
        .cluster
        .client(leader + 1)?
        .status()
        .await?
        .header
        .unwrap_or_default()
        .member_id;
    let printed = g.ok(&["move-leader", &format!("{target:x}")])?;
    ensure!(
        printed.starts_with("Leadership transferred from "),
        "{printed}"
    );
    ensure!(g.cluster.leader().await? == (leader + 1) % 3);
    Ok(())
}

async fn version_is_told(g: &Ground<'_>) -> Result<()> {
    let printed = g.ok(&["version"])?;
    ensure!(printed.contains("etcdctl version: "), "{printed}");
    Ok(())
}
