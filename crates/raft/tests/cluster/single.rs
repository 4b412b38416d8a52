//! One member.

use catena_raft::Role;
use catena_store::backend::Engine;

use crate::cluster::{Cluster, get, put, put_many, wait_until};

#[tokio::test]
async fn write_is_read_back_and_survives_a_restart() {
    let mut cluster = Cluster::new(1, |_| {}).await;
    let id = cluster.ids[0];
    let outcome = cluster.node(id).propose(put("a", "1")).await.unwrap();
    assert_eq!(outcome.revision, 2);
    cluster.node(id).read_index().await.unwrap();
    assert_eq!(get(cluster.node(id), "a").as_deref(), Some("1"));

    cluster.stop(id).await;
    cluster.start(id).await;
    cluster.node(id).read_index().await.unwrap();
    assert_eq!(get(cluster.node(id), "a").as_deref(), Some("1"));
    let outcome = cluster.node(id).propose(put("a", "2")).await.unwrap();
    assert_eq!(outcome.revision, 3);
    cluster.shutdown().await;
}

#[tokio::test]
async fn state_in_memory_is_made_again_from_the_log() {
    let mut cluster = Cluster::new(1, |config| config.engine = Engine::Memory).await;
    let id = cluster.ids[0];
    for n in 0..50 {
        let command = put(&format!("k{n}"), "v");
        cluster.node(id).propose(command).await.unwrap();
    }
    cluster.stop(id).await;
    cluster.start(id).await;
    cluster.node(id).read_index().await.unwrap();
    assert_eq!(cluster.node(id).reader().revision(), 51);
    cluster.shutdown().await;
}

#[tokio::test]
async fn founder_records_members_and_leads() {
    let cluster = Cluster::new(1, |_| {}).await;
    let node = cluster.node(cluster.ids[0]);
    node.read_index().await.unwrap();
    let members = node.reader().members();
    assert_eq!(members.cluster_id, Some(node.cluster_id()));
    assert_eq!(members.present[&node.member_id()].name, "m0");

    let status = node.status();
    assert_eq!(
        (status.leader, status.role),
        (Some(node.member_id()), Role::Leader)
    );
    assert_eq!(node.confirm_leader().await.unwrap(), status.term);
    cluster.shutdown().await;
}

#[tokio::test]
async fn concurrent_writes_share_entries() {
    let cluster = Cluster::new(1, |_| {}).await;
    let node = cluster.node(cluster.ids[0]);
    node.propose(put("first", "v")).await.unwrap();
    let before = node.status().last_index;
    let writes = (0..1000).map(|n| {
        let node = node.clone();
        tokio::spawn(async move {
            node.propose(put(&format!("k{n}"), "v"))
                .await
                .unwrap()
                .revision
        })
    });
    let mut revisions = Vec::new();
    for write in writes.collect::<Vec<_>>() {
        revisions.push(write.await.unwrap());
    }
    revisions.sort_unstable();
    assert_eq!(revisions, (3..1003).collect::<Vec<_>>());
    let entries = node.status().last_index - before;
    assert!(entries < 500, "{entries} entries for 1000 writes");
    cluster.shutdown().await;
}

#[tokio::test]
async fn fenced_write_needs_the_term() {
    let cluster = Cluster::new(1, |_| {}).await;
    let node = cluster.node(cluster.ids[0]);
    let term = node.confirm_leader().await.unwrap();
    let outcomes = node
        .propose_as_leader(term, &[put("a", "1"), put("b", "1")])
        .await;
    assert_eq!(outcomes.unwrap().len(), 2);
    let refused = node.propose_as_leader(term + 1, &[put("a", "2")]).await;
    assert_eq!(refused.unwrap_err(), catena_raft::ProposeError::NotLeader);
    assert_eq!(get(node, "a").as_deref(), Some("1"));
    cluster.shutdown().await;
}

#[tokio::test]
async fn log_is_cut_behind_the_engine() {
    let tune: crate::cluster::Tune = |config| {
        config.log_proposals_max = 1000;
        config.log_proposals_keep = 300;
    };
    let mut cluster = Cluster::new(1, tune).await;
    let id = cluster.ids[0];
    put_many(cluster.node(id), 1500, "v").await;
    cluster.node(id).propose(put("last", "v")).await.unwrap();
    wait_until("a purged log", || cluster.node(id).status().purged > 0).await;
    let status = cluster.node(id).status();
    assert!(status.purged < status.last_index, "{status:?}");

    cluster.stop(id).await;
    cluster.start(id).await;
    cluster.node(id).read_index().await.unwrap();
    assert_eq!(cluster.node(id).reader().revision(), 1502);
    cluster.shutdown().await;
}
