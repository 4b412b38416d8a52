//! Three members in health.

use catena_raft::{METHOD_FREE, MoveError, Node};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use catena_raft::Handler;
use catena_runtime::{BoxFuture, NetError};
use catena_store::codec;
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, get, put, put_surely};

#[tokio::test]
async fn every_member_takes_writes_and_answers_with_its_own_state() {
    let cluster = Cluster::new(3, |_| {}).await;
    for (n, id) in cluster.ids.iter().enumerate() {
        let node = cluster.node(*id);
        let key = format!("k{n}");
        let outcome = node.propose(put(&key, "v")).await.unwrap();
        // The member that answers has applied the write, also if it forwarded it.
        assert!(node.reader().revision() >= outcome.revision);
        assert_eq!(get(node, &key).as_deref(), Some("v"));
    }
    cluster.wait_equal().await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn follower_reads_what_was_written_before() {
    let cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    for n in 0..20 {
        let value = n.to_string();
        cluster
            .node(leader)
            .propose(put("a", &value))
            .await
            .unwrap();
        cluster.node(follower).read_index().await.unwrap();
        assert_eq!(get(cluster.node(follower), "a"), Some(value));
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn whole_cluster_restarts_with_its_data() {
    let mut cluster = Cluster::new(3, |_| {}).await;
    let ids = cluster.ids.clone();
    for n in 0..100 {
        let node = cluster.node(ids[n % 3]);
        put_surely(node, &format!("k{n}"), "v").await;
    }
    for id in &ids {
        cluster.stop(*id).await;
    }
    for id in &ids {
        cluster.start(*id).await;
    }
    let leader = cluster.leader().await;
    cluster.node(leader).read_index().await.unwrap();
    for n in 0..100 {
        assert_eq!(
            get(cluster.node(leader), &format!("k{n}")).as_deref(),
            Some("v")
        );
    }
    cluster.wait_equal().await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn leadership_moves_under_load() {
    let cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let target = cluster.follower().await;
    let writer = {
        let node = cluster.node(leader).clone();
        tokio::spawn(async move {
            for n in 0..300 {
                put_surely(&node, &format!("k{n}"), "v").await;
            }
        })
    };
    cluster.node(leader).move_leader(target).await.unwrap();
    assert_eq!(cluster.leader().await, target);
    writer.await.unwrap();
    cluster.wait_equal().await;
    assert_eq!(cluster.node(leader).reader().revision(), 301);
    cluster.shutdown().await;
}

#[tokio::test]
async fn leadership_moves_to_voters_only_and_from_the_leader() {
    let cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let moved = cluster.node(leader).move_leader(42).await;
    assert_eq!(moved, Err(MoveError::BadTransferee));
    let moved = cluster.node(follower).move_leader(leader).await;
    assert_eq!(moved, Err(MoveError::NotLeader));
    assert_eq!(cluster.node(leader).move_leader(leader).await, Ok(()));
    cluster.shutdown().await;
}

#[tokio::test]
async fn leader_hands_over_before_it_stops() {
    let mut cluster = Cluster::new(3, |config| config.election = Duration::from_secs(5)).await;
    let leader = cluster.leader().await;
    let watcher = cluster.follower().await;
    cluster.stop(leader).await;
    // No election could be over so soon.
    let begin = Instant::now();
    put_surely(cluster.node(watcher), "a", "1").await;
    assert!(begin.elapsed() < Duration::from_secs(4));
    cluster.shutdown().await;
}

/// Number of the peer method that asks for a read index.
const READ_INDEX: u32 = 8;

/// A vote as a question for a read index carries it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Vote {
    term: u64,
    candidate: u64,
    committed: bool,
}

/// A leader that nobody else hears answers a follower, whose question is the only word that it gets; and nobody whose word is worth
/// less. The time of elections is long, so that it holds itself for the leader all the while.
#[tokio::test]
async fn a_question_for_a_read_is_an_acknowledgement_if_the_vote_in_it_is() {
    for members in [3, 5] {
        let cluster =
            Cluster::new(members, |config| config.election = Duration::from_secs(5)).await;
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        cluster.node(follower).read_index().await.unwrap();
        let said = cluster.hub.said(follower, READ_INDEX).unwrap();
        let true_vote: Vote = codec::decode(&said).unwrap();
        assert_eq!(true_vote.candidate, leader);

        cluster.hub.isolate(leader, true);
        let service = cluster.node(leader).service();
        let ask = async |from, vote: Option<Vote>| {
            let body = vote.map_or_else(Bytes::new, |vote| codec::encode(&vote));
            let answer = service.call(from, READ_INDEX, body).await.unwrap();
            // A format, and then which of the two answers it is: an index, or why there is none.
            answer[1] == 0
        };
        let of_next_term = Vote {
            term: true_vote.term + 1,
            ..true_vote
        };
        let for_another = Vote {
            candidate: follower,
            ..true_vote
        };
        let worthless = tokio::join!(
            ask(follower, None),
            ask(follower, Some(of_next_term)),
            ask(follower, Some(for_another)),
            ask(4711, Some(true_vote)),
        );
        assert_eq!(worthless, (false, false, false, false), "{members} members");
        let answered = ask(follower, Some(true_vote)).await;
        assert_eq!(answered, members == 3, "two of {members}");
        cluster.hub.isolate(leader, false);
        cluster.shutdown().await;
    }
}

/// Number of the peer method that asks for a vote.
const TELL_VOTE: u32 = 10;

/// A leader reads by the word of one other member, where that is enough; if it is silent, by that of all, and asks another then.
#[tokio::test]
async fn leader_asks_one_member_and_all_if_it_is_silent() {
    for members in [3, 5] {
        let cluster =
            Cluster::new(members, |config| config.election = Duration::from_secs(5)).await;
        let leader = cluster.leader().await;
        let node = cluster.node(leader);
        node.propose(put("k", "v")).await.unwrap();
        let asked = || cluster.hub.asked(leader, TELL_VOTE);
        for _ in 0..3 {
            node.read_index().await.unwrap();
        }
        let Some(first) = asked() else {
            assert_eq!(members, 5, "nobody was asked alone");
            cluster.shutdown().await;
            continue;
        };
        assert_eq!(members, 3, "one member's word is not enough");
        cluster.hub.isolate(first, true);
        node.read_index().await.unwrap();
        wait_until_read(node, || asked() != Some(first)).await;
        cluster.hub.isolate(leader, true);
        let alone = tokio::time::timeout(Duration::from_secs(2), node.read_index()).await;
        assert!(!matches!(alone, Ok(Ok(()))), "a read without a quorum");
        cluster.hub.isolate(leader, false);
        cluster.hub.isolate(first, false);
        cluster.shutdown().await;
    }
}

/// Reads until it is so.
async fn wait_until_read(node: &Node, is_so: impl Fn() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(
            tokio::time::Instant::now() < until,
            "the silent one is still asked"
        );
        node.read_index().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Echo;

impl Handler for Echo {
    fn call(&self, from: u64, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(async move { Ok(Bytes::from([&from.to_be_bytes()[..], &body].concat())) })
    }
}

#[tokio::test]
async fn leader_answers_methods_of_others() {
    let cluster = Cluster::new(3, |_| {}).await;
    for node in cluster.nodes.values() {
        node.handle(METHOD_FREE, Arc::new(Echo));
    }
    for (id, node) in &cluster.nodes {
        crate::cluster::wait_until("a leader", || node.status().leader.is_some()).await;
        let answer = node
            .call_leader(
                METHOD_FREE,
                Bytes::from_static(b"x"),
                Duration::from_secs(5),
            )
            .await
            .unwrap();
        assert_eq!(answer, Bytes::from([&id.to_be_bytes()[..], b"x"].concat()));
    }
    cluster.shutdown().await;
}
