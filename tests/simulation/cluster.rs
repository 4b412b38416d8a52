//! Three members, production code but for the world they run in.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use catena_raft::{Config, Node, Stop, identity};
use catena_store::{Member, Position, backend::Engine};
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;

use crate::{
    disk::Crash,
    network::Net,
    world::{self, Chance, Machine},
};

catena_raft::type_config! {
    /// Consensus on virtual time.
    pub(crate) Sim on SimRuntime
}

const CLUSTER_ID: u64 = 0xca7e;

/// The members.
pub(crate) const IDS: [u64; 3] = [1, 2, 3];

struct Computer {
    machine: Machine,
    node: Option<Node>,
    /// Crashes so far.
    crashes: u64,
}

struct Inner {
    net: Net,
    computers: Mutex<BTreeMap<u64, Computer>>,
    /// Why members stopped that nobody crashed.
    stopped: Mutex<Vec<(u64, Stop)>>,
}

/// Computers, links and what runs on them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

impl Cluster {
    /// Computers with empty disks; nothing runs.
    pub(crate) fn new(chance: &Chance) -> Self {
        let computer = |id| {
            let computer = Computer {
                machine: Machine::new(chance),
                node: None,
                crashes: 0,
            };
            (id, computer)
        };
        Self(Arc::new(Inner {
            net: Net::new(chance),
            computers: Mutex::new(IDS.into_iter().map(computer).collect()),
            stopped: Mutex::default(),
        }))
    }

    pub(crate) fn net(&self) -> &Net {
        &self.0.net
    }

    /// Starts a member that does not run.
    pub(crate) async fn start(&self, id: u64) {
        let runtime = self.0.computers.lock()[&id].machine.boot();
        let network = self.0.net.port(id);
        let data_dir = Path::new("/data");
        let identity = identity::open(&runtime, data_dir, CLUSTER_ID, id);
        let config = Config {
            initial: Some(IDS.map(founder).to_vec()),
            engine: Engine::Redb,
            // So small that snapshots, purges and rotations happen all the time.
            log_proposals_max: 100,
            log_proposals_keep: 30,
            wal: catena_wal::Options {
                segment_bytes: 32 << 10,
                cache_bytes: 8 << 10,
                ..catena_wal::Options::default()
            },
            ..Config::new(data_dir, identity.expect("the identity opens"))
        };
        let node = Node::start_on::<Sim>(runtime, network, config).await;
        let node = node.unwrap_or_else(|error| panic!("member {id} does not start: {error}"));
        self.0.net.attach(id, node.service());
        world::tell(|| format!("member {id} starts: {:?}", state(&node)));
        let crashes = {
            let mut computers = self.0.computers.lock();
            let computer = computers.get_mut(&id).expect("a member of the cluster");
            computer.node = Some(node.clone());
            computer.crashes
        };
        let cluster = self.clone();
        world::spawn(async move {
            let reason = node.stopped().await;
            if cluster.0.computers.lock()[&id].crashes == crashes {
                cluster.0.stopped.lock().push((id, reason));
            }
        });
    }

    /// Ends the process of a member.
    pub(crate) fn crash(&self, id: u64, crash: Crash) {
        self.0.net.crash(id);
        let mut computers = self.0.computers.lock();
        let computer = computers.get_mut(&id).expect("a member of the cluster");
        computer.machine.crash(crash);
        let node = computer.node.take();
        computer.crashes += 1;
        drop(computers);
        // Tasks of openraft itself cannot be ended from outside; cut off from disk and network, they end by themselves.
        if let Some(node) = node {
            world::tell(|| format!("member {id} crashes, {crash:?}: {:?}", state(&node)));
            world::spawn(async move { node.shutdown().await });
        }
    }

    /// The member, if it runs.
    pub(crate) fn node(&self, id: u64) -> Option<Node> {
        self.0.computers.lock()[&id].node.clone()
    }

    pub(crate) fn running(&self) -> Vec<u64> {
        let runs = |id: &u64| self.node(*id).is_some();
        IDS.into_iter().filter(runs).collect()
    }

    /// Panics if a member stopped that nobody crashed.
    pub(crate) fn assert_nobody_stopped(&self) {
        let stopped = self.0.stopped.lock();
        assert!(stopped.is_empty(), "members stopped: {stopped:?}");
    }

    /// Changes how fast the disk of a member is.
    pub(crate) fn set_latency(&self, id: u64, latency: crate::disk::Latency) {
        self.0.computers.lock()[&id]
            .machine
            .drive()
            .set_latency(latency);
    }

    /// Waits until `done` says so, and panics at the deadline.
    pub(crate) async fn wait_until(&self, what: &str, deadline: Duration, done: impl Fn() -> bool) {
        let end = world::now() + deadline;
        while !done() {
            assert!(world::now() < end, "not within {deadline:?}: {what}");
            self.assert_nobody_stopped();
            world::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// For those who read what happened: what is applied, and the revision.
fn state(node: &Node) -> (Option<Position>, i64) {
    (node.reader().applied(), node.reader().revision())
}

fn founder(id: u64) -> Member {
    Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec![format!("http://m{id}:2380")],
        ..Member::default()
    }
}
