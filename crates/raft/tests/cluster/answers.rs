//! Calls between members whose answers are lost or late.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_raft::Node;
use futures_util::poll;

use crate::cluster::{Cluster, put, wait_until};

/// How often a key was written.
fn writes(node: &Node, key: &str) -> i64 {
    let request = pb::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..Default::default()
    };
    let (answer, _) = node.reader().range(&request).unwrap();
    answer.kvs.first().map_or(0, |kv| kv.view().version)
}

#[tokio::test]
async fn forwarded_write_whose_answer_is_lost_is_done_once() {
    let cluster = Cluster::new(3, |_| {}).await;
    // A leader that changes meanwhile may be one that nobody called; then there is another leader to ask.
    for round in 0..10 {
        let leader = cluster.leader().await;
        let follower = cluster.follower().await;
        cluster.hub.lose_answer(follower, leader);
        let key = format!("key {round}");
        let written = cluster.node(follower).propose(put(&key, "1")).await;
        // Whatever was sent a second time stands in the log before this.
        let after = cluster.node(leader).propose(put("after", "1")).await;
        cluster.wait_equal().await;
        let times = writes(cluster.node(follower), &key);
        assert!(times <= 1, "the write was done {times} times");
        if written.is_ok() {
            assert_eq!(times, 1);
        }
        if after.is_ok() && !cluster.hub.is_losing() {
            return cluster.shutdown().await;
        }
    }
    panic!("no answer was lost in ten rounds");
}

#[tokio::test]
async fn read_that_comes_during_a_round_gets_its_own() {
    let cluster = Cluster::new(3, |config| config.request_timeout = Duration::from_secs(30)).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower().await;
    let before = cluster.hub.calls(follower, leader);
    let calls = || cluster.hub.calls(follower, leader) - before;
    cluster.hub.hold_answers(follower, leader);
    let node = cluster.node(follower).clone();
    let first = tokio::spawn(async move { node.read_index().await });
    wait_until("a round", || calls() > 0).await;

    let rounds;
    // What is committed between the beginning of that round and now must be seen by this read.
    {
        let mut second = pin!(cluster.node(follower).read_index());
        assert!(poll!(&mut second).is_pending());
        rounds = calls();
        cluster.hub.let_go(follower, leader);
        first.await.unwrap().unwrap();
        second.await.unwrap();
    }
    assert!(
        calls() > rounds || cluster.leader().await != leader,
        "a read was answered by a round that began before it"
    );
    cluster.shutdown().await;
}
