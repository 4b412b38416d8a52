//! What all handlers of one member share.

use std::{pin::pin, sync::Arc, time::Duration};

use catena_api::{errors, etcd::etcdserverpb as pb};
use catena_raft::{Leadership, Node};
use catena_runtime::{Runtime, Task, watch};
use catena_store::Reader;
use futures_util::FutureExt;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    budget::Budget,
    config::ServerConfig,
    error::{engine_failed, status},
    hall,
    lessor::Lessor,
    metrics::Metrics,
};

/// The version announced to clients, scripts and operators: the etcd that the member behaves as.
pub const ETCD_VERSION: &str = "3.7.1";

/// The version that members agree on and that storage has: a minor version, with a patch of 0, as etcd writes it.
pub const CLUSTER_VERSION: &str = "3.7.0";

/// Looks without a leader after which streams that want one are ended.
const LEADERLESS_LOOKS_MAX: u32 = 3;

/// Bytes of requests that are not complete, from all clients: the largest that is allowed, about a hundred times. A client that
/// sends slowly holds its share until [`crate::v3rpc`] gives it up.
const RECEIVING_BYTES_MAX: usize = 128 << 20;

/// Bytes of large answers that clients have not taken.
const ANSWERING_BYTES_MAX: usize = 128 << 20;

/// Intervals of keys that are read at a time: nobody knows before how large the answer will be, so this many of any size may be
/// there beside [`ANSWERING_BYTES_MAX`]. Reading is work for the processor, so more at a time would not be quicker.
const RANGES_MAX: usize = 4;

/// Writes of clients under way: enough for the batches that are written, sent and gathered at a time on a slow disk, and few
/// enough that those that wait for their answers get them in time. The others wait unread; see [`crate::v3rpc`].
const WRITES_MAX: usize = 2048;

/// One member's parts, as its handlers see them. Shared by all of them behind one `Arc`.
pub(crate) struct Server {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) runtime: Runtime,
    pub(crate) node: Node,
    pub(crate) reader: Reader,
    pub(crate) lessor: Lessor,
    pub(crate) metrics: Metrics,
    /// What clients have sent of requests that are not complete.
    pub(crate) receiving: Budget,
    /// Large answers that clients have not taken.
    pub(crate) answering: Budget,
    /// Room for reading intervals.
    pub(crate) ranges: Semaphore,
    /// Places for writes.
    pub(crate) writes: Semaphore,
    /// Cancelled when the member stops serving.
    pub(crate) stopping: CancellationToken,
    leadership: watch::Receiver<Leadership>,
    /// How often leadership was found lost; see [`Server::watch_leader`].
    leader_losses: watch::Sender<u64>,
    /// Whether the member's own record is in the store.
    ready: watch::Sender<bool>,
}

impl Server {
    pub(crate) fn new(
        config: ServerConfig,
        runtime: Runtime,
        node: Node,
        metrics: Metrics,
    ) -> Self {
        let reader = node.reader().clone();
        let leadership = node.leadership();
        Self {
            lessor: Lessor::default(),
            receiving: Budget::new(RECEIVING_BYTES_MAX),
            answering: Budget::new(ANSWERING_BYTES_MAX),
            ranges: Semaphore::new(RANGES_MAX),
            writes: Semaphore::new(WRITES_MAX),
            stopping: CancellationToken::new(),
            leader_losses: watch::Sender::new(0),
            ready: watch::Sender::new(false),
            config: Arc::new(config),
            runtime,
            node,
            reader,
            metrics,
            leadership,
        }
    }

    /// Who leads, as this member knows.
    pub(crate) fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// A receiver of leadership's changes.
    pub(crate) fn leadership_changes(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The leader, if one is known.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.leadership().leader
    }

    /// Whether the record of members lists this one as a learner.
    pub(crate) fn is_learner(&self) -> bool {
        let members = self.reader.members();
        let own = members.present.get(&self.node.member_id());
        own.is_some_and(|member| member.is_learner)
    }

    /// The header of an answer given now.
    pub(crate) fn header(&self, revision: i64) -> pb::ResponseHeader {
        let term = self.reader.applied().map_or(0, |position| position.term);
        self.header_of_term(revision, term)
    }

    /// The header of an answer that was applied in `term`.
    pub(crate) fn header_of_term(&self, revision: i64, term: u64) -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: self.node.cluster_id(),
            member_id: self.node.member_id(),
            revision,
            raft_term: term,
        }
    }

    /// Waits until local state has all that was committed when this was called.
    pub(crate) async fn linearize(&self) -> Result<(), Status> {
        hall::read_index(&self.node).await.map_err(|error| {
            self.metrics.read_indexes_failed.inc();
            status(error)
        })
    }

    /// Runs `work`, which reads much, away from the threads that serve.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (done, result) = oneshot::channel();
        let run = move || {
            // The caller may have gone.
            let _caller_gone = done.send(work());
        };
        self.runtime.tasks.blocking(name, Box::new(run)).await;
        result.await.map_err(|_| errors::STOPPED.into())
    }

    /// What a failed read says to the client.
    pub(crate) fn read_failed(&self, error: catena_store::ReadError) -> Status {
        match error {
            catena_store::ReadError::Refused(refused) => status(refused),
            catena_store::ReadError::Fatal(fatal) => engine_failed(&fatal),
        }
    }

    /// Completes when the member is known to its cluster by name, and so may answer clients.
    pub(crate) async fn ready(&self) {
        if *self.ready.borrow() {
            return;
        }
        // The sender lives in `self`, so waiting cannot fail.
        let mut ready = self.ready.subscribe();
        let _sender_lives = ready.wait_for(|ready| *ready).await;
    }

    /// Lets clients in.
    pub(crate) fn set_ready(&self) {
        self.ready.send_replace(true);
    }

    /// Completes when the leader has been away for so long that a client which wants one should look for another member.
    pub(crate) async fn leader_lost(&self) {
        let _sender_lives = self.leader_losses.subscribe().changed().await;
    }

    /// Counts changes of the leader, and looks once in an election timeout whether there is one, until the member stops.
    pub(crate) async fn watch_leader(&self) {
        let mut leadership = self.leadership.clone();
        let mut look = self.runtime.clock.sleep(self.config.election);
        let (mut seen, mut leaderless) = (None, 0);
        loop {
            tokio::select! {
                biased;
                changed = leadership.changed() => if changed.is_err() { return },
                () = &mut look => {
                    look = self.runtime.clock.sleep(self.config.election);
                    leaderless = if self.leader().is_some() { 0 } else { leaderless + 1 };
                    if leaderless == LEADERLESS_LOOKS_MAX {
                        self.leader_losses.send_modify(|losses| *losses += 1);
                    }
                }
            }
            let leader = leadership.borrow_and_update().leader;
            if leader.is_some() && leader != seen {
                self.metrics.leader_changes.inc();
                seen = leader;
            }
        }
    }

    /// Starts a task, which ends with its handle.
    pub(crate) fn spawn(
        &self,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Task {
        self.runtime.tasks.spawn(name, Box::pin(future))
    }

    /// Runs `future` at most until the time for requests is over.
    pub(crate) async fn in_time<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        self.within(self.config.request_timeout(), future).await
    }

    /// Runs `future` at most for `limit`.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let mut future = pin!(future);
        // Most need no wait, and so no clock.
        if let Some(result) = future.as_mut().now_or_never() {
            return Some(result);
        }
        tokio::select! {
            biased;
            result = future => Some(result),
            () = self.runtime.clock.sleep(limit) => None,
        }
    }
}
