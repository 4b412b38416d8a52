//! Members from a snapshot file.

use std::sync::Arc;

use catena_runtime::{OpenMode, Runtime};
use catena_store::{backend::Engine, bbolt};

use catena_raft::restore::{Restore, RestoreError, restore};

use crate::cluster::{Cluster, get, put, put_surely};

#[tokio::test]
async fn a_restored_cluster_has_the_data_and_goes_on() {
    let cluster = Cluster::new(1, |_| {}).await;
    let node = cluster.node(cluster.ids[0]);
    for n in 0..100 {
        node.propose(put(&format!("k{n}"), "old")).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let mut file = std::fs::File::create(&path).unwrap();
    let snapshot = Arc::new(node.reader().snapshot());
    bbolt::Writer::plan(snapshot)
        .unwrap()
        .write_to(&mut file)
        .unwrap();
    let hash = node.reader().hash_kv(0).unwrap();
    cluster.shutdown().await;

    let mut cluster = Cluster::restored(3, &path).await;
    for node in cluster.nodes.values() {
        node.read_index().await.unwrap();
        assert_eq!(node.reader().hash_kv(101).unwrap().hash, hash.hash);
        assert_eq!(node.reader().members().present.len(), 3);
        assert_eq!(get(node, "k99").as_deref(), Some("old"));
    }
    let leader = cluster.leader().await;
    let outcome = put_surely(cluster.node(leader), "k0", "new").await;
    assert_eq!(outcome.revision, 102);
    cluster.wait_equal().await;
    // And what it wrote since lies behind what was restored when it starts again.
    cluster.stop(leader).await;
    cluster.start(leader).await;
    cluster.leader().await;
    cluster.wait_equal().await;
    assert_eq!(get(cluster.node(leader), "k0").as_deref(), Some("new"));
    cluster.shutdown().await;

    let taken = Restore {
        data_dir: dir.path().to_owned(),
        engine: Engine::Redb,
        cluster_id: 1,
        member_id: 1,
        members: Vec::new(),
        revision_bump: 0,
    };
    let runtime = Runtime::system();
    let opened = runtime.disk.open(&path, OpenMode::Read).unwrap();
    let reader = bbolt::Reader::open(opened, bbolt::Digest::Required).unwrap();
    let refused = restore(&runtime, taken, reader).await;
    assert!(matches!(refused, Err(RestoreError::NotEmpty(_))));
}
