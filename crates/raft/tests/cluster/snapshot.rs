//! Followers that are too far behind for the log.

use std::time::Duration;

use catena_raft::Config;
use catena_store::backend::Engine;

use crate::cluster::{Cluster, Tune, get, put_many, put_surely, wait_until};

const SHORT_LOG: Tune = |config| {
    config.log_proposals_max = 400;
    config.log_proposals_keep = 10;
};

/// Stops a follower, and writes until the log has lost what it lacks.
async fn fall_behind(cluster: &mut Cluster, away: u64) {
    cluster.stop(away).await;
    let leader = cluster.leader().await;
    let value = "v".repeat(1000);
    let behind = cluster.node(leader).status().last_index;
    // Twice, for the log is cut in steps of some hundred proposals.
    for _ in 0..2 {
        put_many(cluster.node(leader), 1000, &value).await;
    }
    wait_until("a purged log", || {
        cluster.node(leader).status().purged > behind
    })
    .await;
}

async fn follower_far_behind(tune: Tune) {
    let mut cluster = Cluster::new(3, tune).await;
    let away = cluster.follower().await;
    put_surely(cluster.node(away), "before", "1").await;
    fall_behind(&mut cluster, away).await;
    cluster.start(away).await;
    wait_until("the snapshot to be installed", || {
        get(cluster.node(away), "k999").is_some()
    })
    .await;
    // It goes on from there, in the log, and after a restart.
    put_surely(cluster.node(away), "after", "1").await;
    cluster.wait_equal().await;
    cluster.stop(away).await;
    cluster.start(away).await;
    cluster.wait_equal().await;
    assert_eq!(get(cluster.node(away), "before").as_deref(), Some("1"));
    cluster.shutdown().await;
}

fn sled(config: &mut Config) {
    SHORT_LOG(config);
    config.engine = Engine::Sled;
}

#[tokio::test]
async fn follower_far_behind_gets_a_snapshot() {
    follower_far_behind(SHORT_LOG).await;
}

#[tokio::test]
async fn follower_far_behind_gets_a_snapshot_on_sled() {
    follower_far_behind(sled).await;
}

/// A bit of its head or of its records is flipped on the way: the snapshot is not installed, and is sent again.
#[tokio::test]
async fn snapshot_that_is_damaged_on_its_way_is_not_installed() {
    let mut cluster = Cluster::new(3, SHORT_LOG).await;
    let away = cluster.follower().await;
    fall_behind(&mut cluster, away).await;
    cluster.hub.damage_snapshots(away, &[0, 1, 2]);
    cluster.start(away).await;
    wait_until("a whole snapshot to be installed", || {
        get(cluster.node(away), "k999").is_some()
    })
    .await;
    assert_eq!(cluster.hub.still_to_damage(away), 0);
    cluster.wait_equal().await;
    cluster.shutdown().await;
}

/// The log is full several times while the snapshot travels, and yet has what comes behind it when it has arrived.
#[tokio::test]
async fn one_snapshot_is_enough_however_much_is_written_meanwhile() {
    fn steady(config: &mut Config) {
        SHORT_LOG(config);
        // Another leader would send another snapshot.
        config.election = Duration::from_secs(2);
    }
    let mut cluster = Cluster::new(3, steady).await;
    let away = cluster.follower().await;
    fall_behind(&mut cluster, away).await;
    let leader = cluster.leader().await;
    cluster.hub.hold_snapshots(away);
    cluster.start(away).await;
    wait_until("a snapshot on its way", || cluster.hub.snapshots(away) > 0).await;
    for _ in 0..5 {
        put_many(cluster.node(leader), 1000, "v").await;
    }
    cluster.hub.let_snapshots_go(away);
    cluster.wait_equal().await;
    assert_eq!(cluster.hub.snapshots(away), 1);
    cluster.shutdown().await;
}

#[tokio::test]
async fn new_member_gets_what_the_log_has_lost() {
    let mut cluster = Cluster::new(1, SHORT_LOG).await;
    let first = cluster.ids[0];
    put_many(cluster.node(first), 1000, "v").await;
    wait_until("a purged log", || cluster.node(first).status().purged > 0).await;
    let urls = vec![crate::cluster::url(1)];
    let (member, _) = cluster.node(first).add_member(urls).await.unwrap();
    cluster.start(member.id).await;
    wait_until("the new member to have all", || {
        get(cluster.node(member.id), "k999").is_some()
    })
    .await;
    assert_eq!(cluster.node(member.id).reader().members().present.len(), 2);
    put_surely(cluster.node(member.id), "a", "1").await;
    cluster.wait_equal().await;
    cluster.shutdown().await;
}
