//! What goes through.

use std::time::Duration;

use bytes::Bytes;
use catena_raft::transport::discover;

use crate::members::{Founders, Running, listen, put, put_surely, wait_until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_write_read_and_agree() {
    let founders = Founders::new(3).await;
    let writers = founders.running.iter().enumerate().map(|(n, running)| {
        let node = running.node.clone();
        tokio::spawn(async move {
            for k in 0..100 {
                put_surely(&node, &format!("{n}/{k}")).await;
                node.read_index().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    wait_until("equal members", || {
        let hash = |running: &Running| running.node.reader().hash_kv(0).unwrap().hash;
        let hashes: Vec<u32> = founders.running.iter().map(hash).collect();
        hashes.windows(2).all(|pair| pair[0] == pair[1])
    })
    .await;
    founders.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_go_through() {
    let founders = Founders::new(3).await;
    for n in 0..4 {
        let value = Bytes::from(vec![n; 5 << 20]);
        let node = &founders.running[usize::from(n) % 3].node;
        node.propose(put("large", value)).await.unwrap();
    }
    founders.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joiner_discovers_itself_and_joins() {
    let founders = Founders::new(1).await;
    let first = &founders.running[0];
    let (listener, url) = listen().await;
    let (added, _) = first.node.add_member(vec![url.clone()]).await.unwrap();

    let cluster = discover(std::slice::from_ref(&first.url), Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!(cluster.cluster_id, founders.cluster_id);
    let own = cluster
        .members
        .iter()
        .find(|member| member.peer_urls.contains(&url))
        .unwrap();
    assert_eq!(own.id, added.id);
    cluster.check_new(own.id).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let joiner = Running::start(dir.path(), listener, cluster.cluster_id, own, None).await;
    put_surely(&joiner.node, "joined").await;
    joiner.node.read_index().await.unwrap();
    // Whoever comes without data under this id from now on has lost it, and is told what to do.
    let peers = std::slice::from_ref(&first.url);
    let cluster = discover(peers, Duration::from_secs(5)).await.unwrap();
    let refused = cluster.check_new(own.id).unwrap_err().to_string();
    assert!(refused.contains("etcdctl member remove"), "{refused}");
    joiner.stop().await;
    founders.stop().await;
}
