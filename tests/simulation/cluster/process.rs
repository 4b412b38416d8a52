//! One life of a member.

use std::{path::Path, sync::Arc};

use catena_raft::{Config, Node, Observer, StartError, identity};
use catena_runtime::Runtime;
use catena_server::Indoor;
use catena_store::{Member, Position, backend::Engine};
use tokio::sync::oneshot;

use super::{
    Cluster, name,
    pause::{Freezer, Freezing, FreezingService, FreezingTasks, PEER_STREAM},
};
use crate::world::{self, Chance};

catena_raft::type_config! {
    /// Consensus on virtual time.
    Sim on Freezing
}

const CLUSTER_ID: u64 = 0xca7e;

/// Where the files of a member lie on its disk.
pub(crate) const DATA_DIR: &str = "/data";

/// Where its log lies in there.
pub(crate) const LOG_DIR: &str = "member/wal";

/// And where the engine and what is received to replace it.
pub(crate) const ENGINE_DIR: &str = "member/snap";

/// The name of a task that does what a client asks for.
const CALL: &str = "call";

/// The name of the task that feeds a watch, as the member calls it.
const WATCH: &str = "embedded-watch";

/// A running member.
pub(crate) struct Process {
    pub(crate) id: u64,
    /// Counts the processes of the member.
    pub(crate) incarnation: u64,
    pub(crate) node: Node,
    pub(crate) indoor: Indoor,
    runtime: Runtime,
    freezer: Freezer,
}

impl Process {
    /// Opens what lies on the disk, or founds the cluster.
    pub(super) async fn start(
        cluster: &Cluster,
        (id, incarnation): (u64, u64),
        mut runtime: Runtime,
        founders: Option<Vec<Member>>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        let freezer = Freezer::default();
        cluster.invariants().lives(id, incarnation, freezer.clone());
        runtime.tasks = Arc::new(FreezingTasks {
            inner: runtime.tasks,
            freezer: freezer.clone(),
        });
        let settings = cluster.settings();
        let identity = identity::open(&runtime, Path::new(DATA_DIR), CLUSTER_ID, id)?;
        let config = Config {
            initial: founders,
            engine: Engine::Redb,
            heartbeat: settings.heartbeat,
            election: settings.election,
            pre_vote: settings.pre_vote,
            log_proposals_max: settings.log_proposals.0,
            log_proposals_keep: settings.log_proposals.1,
            store: settings.store.clone(),
            wal: catena_wal::Options {
                segment_bytes: settings.segment_bytes,
                cache_bytes: settings.cache_bytes,
                ..catena_wal::Options::default()
            },
            observer,
            ..Config::new(DATA_DIR, identity)
        };
        let network = cluster.net().port(id);
        let start = Node::start_on::<Sim>(runtime.clone(), network, config);
        let node = freezer.hold("start", start).await?;
        let service = FreezingService {
            inner: node.service(),
            freezer: freezer.clone(),
        };
        cluster.net().attach(id, Arc::new(service));
        let server = settings.server(&name(id));
        let indoor = Indoor::open(server, runtime.clone(), node.clone());
        Ok(Self {
            id,
            incarnation,
            node,
            indoor: indoor.expect("the series of a new member have names of their own"),
            runtime,
            freezer,
        })
    }

    /// Runs something in the member's process; `None` if the process ends before. Dropping the future ends the work, as a client that
    /// goes away does.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, answer) = oneshot::channel();
        let work = Box::pin(async move {
            // The caller may have gone.
            let _gone = done.send(work.await);
        });
        let _until_answered = self.runtime.tasks.spawn(CALL, work);
        answer.await.ok()
    }

    /// Stands still until it is thawed.
    pub(crate) fn freeze(&self) {
        self.freezer.freeze();
    }

    /// Goes on; how many of its tasks were held.
    pub(crate) fn thaw(&self) -> usize {
        self.freezer.thaw()
    }

    /// Goes on, what was held in any order.
    pub(crate) fn thaw_in_any_order(&self, chance: &Chance) {
        self.freezer.thaw_in_any_order(chance);
    }

    /// What it does for clients: calls, and watches.
    pub(crate) fn client_tasks(&self) -> (usize, usize) {
        (self.freezer.tasks(CALL), self.freezer.tasks(WATCH))
    }

    /// Streams of other members that it serves.
    pub(crate) fn peer_streams(&self) -> usize {
        self.freezer.tasks(PEER_STREAM)
    }

    /// The process is gone: what still runs of it is cut off from disk and network, and ends by itself.
    pub(super) fn end(self: Arc<Self>) {
        self.freezer.thaw();
        world::spawn(async move { self.node.shutdown().await });
    }

    /// The term that it leads, by its own account.
    pub(crate) fn led_term(&self) -> Option<u64> {
        self.node.leadership().borrow().led_term()
    }

    /// For those who read what happened: what is applied, and the revision.
    pub(crate) fn state(&self) -> (Option<Position>, i64) {
        (self.node.reader().applied(), self.node.reader().revision())
    }
}
