//! A running member, as the rest of the house sees it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use catena_runtime::{BoxFuture, NetError, Network, Runtime, Service, Task, watch};
use catena_store::{Command, Member, Outcome, Reader};
use parking_lot::Mutex;

use crate::{
    CallError, Config, Leadership, MemberError, MoveError, ProposeError, ReadError, StartError,
    Status, Stop, id, members,
    propose::{self, Proposals},
    read::{ReadDesk, ReadGate},
    service::PeerService,
    shared::Shared,
    start, transfer,
    types::{Prod, Types},
    wire::MemberRequest,
};

/// First method number that is free for [`Node::handle`].
pub const METHOD_FREE: u32 = 100;

/// Answers calls that other parts of a member send to the leader, such as the renewal of leases. They are small: they travel beside
/// heartbeats.
pub trait Handler: Send + Sync + 'static {
    /// Answers one call.
    fn call(&self, from: u64, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>>;
}

/// A running member. Cheap to clone; what runs ends with [`Node::shutdown`].
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) proposals: Proposals,
    pub(crate) reads: Arc<ReadGate>,
    /// What runs beside the callers; aborted at the end.
    pub(crate) tasks: Mutex<Vec<Task>>,
}

impl Node {
    /// Opens log and store, starts consensus, and founds the cluster if the configuration says so. Returns before there is a
    /// leader.
    pub async fn start(
        runtime: Runtime,
        network: Arc<dyn Network>,
        config: Config,
    ) -> Result<Self, StartError> {
        Self::start_on::<Prod>(runtime, network, config).await
    }

    /// Like [`Node::start`], with consensus on another asynchronous runtime: that of a simulation.
    pub async fn start_on<C: Types>(
        runtime: Runtime,
        network: Arc<dyn Network>,
        config: Config,
    ) -> Result<Self, StartError> {
        let inner = start::start::<C>(runtime, network, config).await?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The member's id.
    pub fn member_id(&self) -> u64 {
        self.inner.shared.identity.member_id
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.inner.shared.identity.cluster_id
    }

    /// What answers the other members.
    pub fn service(&self) -> Arc<dyn Service> {
        Arc::new(PeerService {
            shared: self.inner.shared.clone(),
            reads: self.inner.reads.clone(),
        })
    }

    /// The applied state.
    pub fn reader(&self) -> &Reader {
        &self.inner.shared.machine.reader
    }

    /// Brings a command through the log and returns its outcome, as applied on this member. On a follower it is forwarded to the
    /// leader. An error says whether the command may still take effect. Changes of members, but for what a member publishes of
    /// itself, have methods of their own.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        debug_assert!(propose::may_be_proposed(&command));
        let Inner {
            shared, proposals, ..
        } = self.inner.as_ref();
        proposals.propose(shared, &command).await
    }

    /// Brings commands through the log in one entry, but only if this member leads `term` when they are appended: for decisions
    /// that only that leader may take, such as the expiry of leases.
    pub async fn propose_as_leader(
        &self,
        term: u64,
        commands: &[Command],
    ) -> Result<Vec<Outcome>, ProposeError> {
        propose::propose_as_leader(&self.inner.shared, term, commands).await
    }

    /// Waits until the local store has applied all that was committed, anywhere, when this was called.
    pub async fn read_index(&self) -> Result<(), ReadError> {
        self.inner.reads.read(&self.inner.shared).await
    }

    /// A desk where the readers of one thread gather, and what serves it: to be run on that thread, until the desk is dropped.
    pub fn read_desk(&self) -> (ReadDesk, impl Future<Output = ()> + Send + 'static) {
        ReadDesk::new(&self.inner.shared, &self.inner.reads)
    }

    /// Proves that this member leads; returns the term.
    pub async fn confirm_leader(&self) -> Result<u64, ReadError> {
        let shared = &self.inner.shared;
        if let Some(term) = shared.surely_led_term() {
            return Ok(term);
        }
        let confirmed = shared.consensus.confirm(shared.rules.election).await;
        confirmed.map_err(ReadError::from)
    }

    /// What the member knows now. Indexes count from 1, as in etcd.
    pub fn status(&self) -> Status {
        let mut status = self.inner.shared.consensus.status();
        let known = *self.inner.shared.leadership.borrow();
        if known.term == status.term {
            (status.leader, status.role) = (known.leader, known.role);
        }
        // Consensus learns of what was applied a little later.
        if let Some(applied) = self.reader().applied() {
            status.applied = status.applied.max(applied.index + 1);
        }
        status
    }

    /// Who leads, as it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.shared.leadership.clone()
    }

    /// Adds a member. It votes once it has caught up, so that a member that never starts costs no quorum; it is listed as a voter
    /// from the start, as in etcd. Returns the new member and all members.
    pub async fn add_member(
        &self,
        peer_urls: Vec<String>,
    ) -> Result<(Member, Vec<Member>), MemberError> {
        let id = self.new_id(&peer_urls);
        let members = self
            .change(MemberRequest::AddVoter { id, peer_urls })
            .await?;
        added(id, members)
    }

    /// Adds a learner. Returns the new member and all members.
    pub async fn add_learner(
        &self,
        peer_urls: Vec<String>,
    ) -> Result<(Member, Vec<Member>), MemberError> {
        let id = self.new_id(&peer_urls);
        let members = self
            .change(MemberRequest::AddLearner { id, peer_urls })
            .await?;
        added(id, members)
    }

    /// Removes a member for ever. Returns the members left.
    pub async fn remove_member(&self, id: u64) -> Result<Vec<Member>, MemberError> {
        self.change(MemberRequest::Remove { id }).await
    }

    /// Makes a learner that has caught up a voter. Returns all members.
    pub async fn promote_member(&self, id: u64) -> Result<Vec<Member>, MemberError> {
        self.change(MemberRequest::Promote { id }).await
    }

    /// Replaces the peer URLs of a member. Returns all members.
    pub async fn update_member(
        &self,
        id: u64,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, MemberError> {
        self.change(MemberRequest::Update { id, peer_urls }).await
    }

    async fn change(&self, request: MemberRequest) -> Result<Vec<Member>, MemberError> {
        members::change(&self.inner.shared, request).await
    }

    fn new_id(&self, peer_urls: &[String]) -> u64 {
        let now = self.inner.shared.runtime.clock.unix_secs();
        id::member_id(peer_urls, "", Some(now))
    }

    /// Hands leadership to another voter and waits until it leads.
    pub async fn move_leader(&self, to: u64) -> Result<(), MoveError> {
        let shared = &self.inner.shared;
        transfer::move_leader(shared, to, shared.rules.request_timeout).await
    }

    /// Calls a method of the leader, which may be this member, once. Methods are those of [`Node::handle`].
    pub async fn call_leader(
        &self,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        self.inner.shared.call_leader(method, body, timeout).await
    }

    /// Answers calls of `method`, which is [`METHOD_FREE`] or above, with `handler` from now on.
    pub fn handle(&self, method: u32, handler: Arc<dyn Handler>) {
        debug_assert!(method >= METHOD_FREE);
        self.inner.shared.handlers.write().insert(method, handler);
    }

    /// Gives space back to the file system: rewrites the engine's files while reads and writes go on. Not while a snapshot is
    /// received, which replaces them.
    pub async fn defragment(&self) -> Result<(), catena_store::Fatal> {
        self.inner.shared.machine.defragment().await
    }

    /// Completes when the member must exit, with the reason.
    pub async fn stopped(&self) -> Stop {
        self.inner.shared.stop.stopped().await
    }

    /// Hands leadership over if this member has it, then stops all that runs and closes log and store.
    pub async fn shutdown(&self) {
        let shared = &self.inner.shared;
        if shared.stop.get().is_none() {
            transfer::before_stop(shared).await;
        }
        shared.stop.set(Stop::Asked);
        shared.consensus.shutdown().await;
        if let Err(error) = shared.machine.close().await {
            // The log still holds what the engine lacks.
            tracing::warn!(%error, "store not flushed");
        }
        shared.machine.wal.clone().close().await;
        self.inner.tasks.lock().clear();
    }
}

fn added(id: u64, members: Vec<Member>) -> Result<(Member, Vec<Member>), MemberError> {
    let member = members.iter().find(|member| member.id == id).cloned();
    Ok((member.ok_or(MemberError::NotFound)?, members))
}
