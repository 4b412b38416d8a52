//! Starting, stopping and asking members.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_raft::{
    Config, Node, ProposeError, id, identity,
    restore::{self, Restore},
};
use catena_runtime::{Network, OpenMode, Runtime};
use catena_store::{Command, Member, MemberChange, Outcome, Request, backend::Engine, bbolt};
use tempfile::TempDir;

use crate::network::Hub;

/// Long enough for an election on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// Changes settings before a member starts.
pub(crate) type Tune = fn(&mut Config);

pub(crate) struct Cluster {
    pub(crate) hub: Hub,
    pub(crate) ids: Vec<u64>,
    pub(crate) nodes: BTreeMap<u64, Node>,
    dirs: BTreeMap<u64, TempDir>,
    founders: Vec<Member>,
    cluster_id: u64,
    tune: Tune,
}

pub(crate) fn url(n: usize) -> String {
    format!("http://127.0.0.1:{}", 10_000 + n)
}

impl Cluster {
    /// Founds a cluster; returns when it has a leader.
    pub(crate) async fn new(members: usize, tune: Tune) -> Self {
        let mut cluster = Self::planned(members, tune);
        for id in cluster.ids.clone() {
            cluster.start(id).await;
        }
        cluster.leader().await;
        cluster
    }

    /// A cluster each of whose members is restored from a snapshot file; returns when it has a leader.
    pub(crate) async fn restored(members: usize, file: &Path) -> Self {
        let mut cluster = Self::planned(members, |_| {});
        for id in cluster.ids.clone() {
            let runtime = Runtime::system();
            let dir = tempfile::tempdir().unwrap();
            let restore = Restore {
                data_dir: dir.path().to_owned(),
                engine: Engine::Redb,
                cluster_id: cluster.cluster_id,
                member_id: id,
                members: cluster.founders.clone(),
                revision_bump: 0,
            };
            let opened = runtime.disk.open(file, OpenMode::Read).unwrap();
            let reader = bbolt::Reader::open(opened, bbolt::Digest::Required).unwrap();
            restore::restore(&runtime, restore, reader).await.unwrap();
            cluster.dirs.insert(id, dir);
            cluster.start(id).await;
        }
        cluster.leader().await;
        cluster
    }

    /// No member is started yet.
    fn planned(members: usize, tune: Tune) -> Self {
        let founders: Vec<Member> = (0..members)
            .map(|n| Member {
                id: id::member_id(&[url(n)], "test", None),
                name: format!("m{n}"),
                peer_urls: vec![url(n)],
                ..Member::default()
            })
            .collect();
        let ids: Vec<u64> = founders.iter().map(|member| member.id).collect();
        Self {
            hub: Hub::default(),
            nodes: BTreeMap::new(),
            dirs: BTreeMap::new(),
            cluster_id: id::cluster_id(&ids),
            ids,
            founders,
            tune,
        }
    }

    /// Starts a member, or starts it again.
    pub(crate) async fn start(&mut self, id: u64) {
        let runtime = Runtime::system();
        let dir = self
            .dirs
            .entry(id)
            .or_insert_with(|| tempfile::tempdir().unwrap());
        let identity = identity::open(&runtime, dir.path(), self.cluster_id, id).unwrap();
        let mut config = Config::new(dir.path(), identity);
        config.engine = Engine::Redb;
        config.heartbeat = Duration::from_millis(50);
        config.election = Duration::from_millis(500);
        config.request_timeout = Duration::from_secs(2);
        config.wal.segment_bytes = 1 << 20;
        if self.founders.iter().any(|founder| founder.id == id) {
            config.initial = Some(self.founders.clone());
        }
        (self.tune)(&mut config);
        let node = start_surely(runtime, self.hub.network(id), config).await;
        self.hub.plug(id, node.service());
        self.nodes.insert(id, node);
    }

    pub(crate) async fn stop(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        node.shutdown().await;
        self.hub.unplug(id);
    }

    pub(crate) fn node(&self, id: u64) -> &Node {
        &self.nodes[&id]
    }

    /// The one that leads according to itself and a majority.
    pub(crate) async fn leader(&self) -> u64 {
        let mut leader = None;
        wait_until("a leader", || {
            let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
            for node in self.nodes.values() {
                if let Some(leader) = node.status().leader {
                    *votes.entry(leader).or_default() += 1;
                }
            }
            leader = votes.iter().find_map(|(id, votes)| {
                let leads = |node: &Node| node.leadership().borrow().led_term().is_some();
                let confirmed =
                    *votes > self.nodes.len() / 2 && self.nodes.get(id).is_some_and(leads);
                confirmed.then_some(*id)
            });
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    /// Some member that does not lead.
    pub(crate) async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.nodes.keys().find(|id| **id != leader).unwrap()
    }

    /// Waits until all members have applied the same and hold the same.
    pub(crate) async fn wait_equal(&self) {
        wait_until("equal members", || {
            let mut seen = Vec::new();
            for node in self.nodes.values() {
                let reader = node.reader();
                seen.push((reader.applied(), reader.hash_kv(0).unwrap().hash));
            }
            seen.windows(2).all(|pair| pair[0] == pair[1])
        })
        .await;
    }

    /// Stops all.
    pub(crate) async fn shutdown(mut self) {
        let ids: Vec<u64> = self.nodes.keys().copied().collect();
        for id in ids {
            self.stop(id).await;
        }
    }
}

/// Starts a member; what is left of its former run may hold the files for a moment.
async fn start_surely(runtime: Runtime, network: Arc<dyn Network>, config: Config) -> Node {
    let begin = Instant::now();
    loop {
        match Node::start(runtime.clone(), network.clone(), config.clone()).await {
            Ok(node) => return node,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(2), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn put(key: &str, value: &str) -> Command {
    Command::internal(Request::Put(pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    }))
}

pub(crate) fn publish(id: u64, name: &str) -> Command {
    Command::internal(Request::Member(MemberChange::Publish {
        id,
        name: name.to_owned(),
        client_urls: vec![format!("http://{name}:2379")],
    }))
}

/// Puts, trying again as a client does that knows its write to be idempotent.
pub(crate) async fn put_surely(node: &Node, key: &str, value: &str) -> Outcome {
    let begin = Instant::now();
    loop {
        match node.propose(put(key, value)).await {
            Ok(outcome) => return outcome,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{key}: {error}"),
        }
    }
}

/// Puts many keys `k0`, `k1`, … at once.
pub(crate) async fn put_many(node: &Node, count: usize, value: &str) {
    let puts: Vec<_> = (0..count)
        .map(|n| {
            let (node, value) = (node.clone(), value.to_owned());
            tokio::spawn(async move { put_surely(&node, &format!("k{n}"), &value).await })
        })
        .collect();
    for put in puts {
        put.await.unwrap();
    }
}

pub(crate) fn get(node: &Node, key: &str) -> Option<String> {
    let request = pb::RangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        ..Default::default()
    };
    let (answer, _) = node.reader().range(&request).unwrap();
    let kv = answer.kvs.first()?.view();
    Some(String::from_utf8(kv.value.to_vec()).unwrap())
}

/// Waits until `condition` holds.
pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn is_unknown(error: &ProposeError) -> bool {
    matches!(
        error,
        ProposeError::Timeout
            | ProposeError::TimeoutLeaderFailure
            | ProposeError::TimeoutConnectionLost
    )
}
