//! What members hold when everything is over.

use std::sync::Arc;

use framework::history::{Final, Pair};

use super::all_pairs;
use crate::cluster::{Cluster, Process, name};

/// Writes down the state of every member.
pub(crate) async fn record(cluster: &Cluster) {
    for process in cluster.running() {
        let last = of(&process).await;
        cluster.recorder().last(last);
    }
}

async fn of(process: &Arc<Process>) -> Final {
    let pairs = all_pairs(process).await.expect("a member at rest answers");
    let reader = process.node.reader();
    let hash = reader.hash_kv(0).expect("the store can be hashed");
    Final {
        endpoint: name(process.id),
        member: process.id,
        revision: reader.revision(),
        compact_revision: hash.compact_revision,
        hash: hash.hash,
        hash_revision: hash.hash_revision,
        kvs: pairs.kvs.iter().map(Pair::from).collect(),
    }
}
