//! Members that go away.

use std::time::{Duration, Instant};

use catena_raft::{ProposeError, ReadError};

use crate::cluster::{Cluster, get, is_unknown, put, put_surely, wait_until};

#[tokio::test]
async fn writes_go_on_without_the_leader_and_it_catches_up() {
    let mut cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let survivor = cluster.follower().await;
    put_surely(cluster.node(survivor), "before", "1").await;
    cluster.hub.isolate(leader, true);
    put_surely(cluster.node(survivor), "after", "1").await;

    cluster.hub.isolate(leader, false);
    cluster.wait_equal().await;
    assert_eq!(get(cluster.node(leader), "after").as_deref(), Some("1"));

    cluster.stop(leader).await;
    put_surely(cluster.node(survivor), "later", "1").await;
    cluster.start(leader).await;
    cluster.wait_equal().await;
    assert_eq!(get(cluster.node(leader), "later").as_deref(), Some("1"));
    cluster.shutdown().await;
}

#[tokio::test]
async fn returning_member_deposes_nobody() {
    let cluster = Cluster::new(3, |config| config.election = Duration::from_millis(500)).await;
    let leader = cluster.leader().await;
    let away = cluster.follower().await;
    let term = cluster.node(leader).status().term;
    cluster.hub.isolate(away, true);
    // Several elections' time: without pre-vote it would come back with a higher term.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    cluster.hub.isolate(away, false);
    put_surely(cluster.node(leader), "a", "1").await;
    wait_until("the member to be back", || {
        get(cluster.node(away), "a").is_some()
    })
    .await;
    let status = cluster.node(leader).status();
    assert_eq!((status.leader, status.term), (Some(leader), term));
    cluster.shutdown().await;
}

#[tokio::test]
async fn member_that_does_not_hear_the_leader_raises_no_term() {
    let cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let deaf = cluster.follower().await;
    cluster.hub.deafen(deaf, leader);
    // Several elections' time, in which it asks the others for their votes again and again.
    tokio::time::sleep(Duration::from_millis(4000)).await;
    let term = |id: u64| cluster.node(id).status().term;
    let others = || {
        let ids = cluster.ids.iter().filter(|id| **id != deaf);
        ids.map(|id| term(*id)).max().unwrap_or_default()
    };
    // Should the others have elected someone meanwhile, it follows them. Alone it goes nowhere.
    wait_until("no term but that of the others", || term(deaf) <= others()).await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn isolated_members_neither_write_nor_read() {
    let cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    cluster.hub.isolate(leader, true);
    let begin = Instant::now();
    let node = cluster.node(leader).clone();
    let write = tokio::spawn(async move { node.propose(put("lost", "1")).await });
    let read = cluster.node(leader).read_index().await;
    assert_eq!(read.unwrap_err(), ReadError::Timeout);
    let error = write.await.unwrap().unwrap_err();
    assert!(
        is_unknown(&error) || error == ProposeError::NoLeader,
        "{error:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(6));
    assert!(cluster.node(leader).confirm_leader().await.is_err());

    // It was never acknowledged, and what the others wrote meanwhile holds.
    put_surely(cluster.node(follower), "kept", "1").await;
    cluster.hub.isolate(leader, false);
    cluster.wait_equal().await;
    assert_eq!(get(cluster.node(leader), "kept").as_deref(), Some("1"));
    cluster.shutdown().await;
}

#[tokio::test]
async fn dead_member_is_left_alone_and_found_again() {
    let mut cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let dead = cluster.follower().await;
    put_surely(cluster.node(leader), "before", "1").await;
    cluster.stop(dead).await;
    let before = cluster.hub.streams(dead);
    for n in 0..20 {
        put_surely(cluster.node(leader), &format!("k{n}"), "1").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let tried = cluster.hub.streams(dead) - before;
    assert!(tried <= 20, "{tried} attempts in 2 seconds");
    cluster.start(dead).await;
    cluster.wait_equal().await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn writes_do_not_wait_for_a_leader_that_hangs() {
    let cluster = Cluster::new(3, |config| config.request_timeout = Duration::from_secs(30)).await;
    let leader = cluster.leader().await;
    let survivor = cluster.follower().await;
    put_surely(cluster.node(survivor), "before", "1").await;
    cluster.hub.freeze(leader, true);
    let node = cluster.node(survivor).clone();
    let stuck = tokio::spawn(async move { node.propose(put("stuck", "1")).await });
    let elected = || {
        let known = *cluster.node(survivor).leadership().borrow();
        known.leader.is_some_and(|id| id != leader)
    };
    wait_until("another leader", elected).await;
    // That one is still on its way, its fate unknown; those behind it go to the new leader at once.
    assert!(!stuck.is_finished());
    let begin = Instant::now();
    put_surely(cluster.node(survivor), "after", "1").await;
    assert!(begin.elapsed() < Duration::from_secs(10));
    stuck.abort();
    cluster.hub.freeze(leader, false);
    cluster.wait_equal().await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn member_that_never_knew_a_leader_says_deadline() {
    let mut cluster = Cluster::new(3, |_| {}).await;
    let follower = cluster.follower().await;
    let others: Vec<u64> = cluster
        .ids
        .iter()
        .copied()
        .filter(|id| *id != follower)
        .collect();
    cluster.stop(follower).await;
    for other in others {
        cluster.stop(other).await;
    }
    cluster.start(follower).await;
    let error = cluster.node(follower).propose(put("a", "1")).await;
    assert_eq!(error.unwrap_err(), ProposeError::Deadline);
    cluster.shutdown().await;
}
