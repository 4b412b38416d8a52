//! openraft, asked through [`Consensus`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, watch};
use openraft::{
    ChangeMembers, Instant, LinearizerOption, Precondition, Raft, RaftMetrics, RaftState,
    ServerState,
    async_runtime::watch::WatchReceiver,
    entry::RaftPayload,
    errors::{
        ChangeMembershipError, ClientWriteError, ForwardReason, ForwardToLeader, InitializeError,
        LinearizableReadError, RaftError,
    },
    raft::ChangeMembershipRequest,
    type_config::TypeConfigExt,
};

use super::{Changed, Configuration, Consensus, NotReadable, Written};
use crate::{
    Leadership, PeerStatus, Role, Status,
    blocking::timeout,
    machine::{Machine, StateMachine},
    receive,
    types::{
        self, Commands, CommittedLeaderId, LogId, Membership, Payload, Peer, StoredMembership,
        Types, Vote,
    },
};

/// openraft.
pub(crate) struct Core<C: Types> {
    pub(crate) raft: Raft<C, StateMachine>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) id: u64,
    /// A leader that was silent for so long, or had no quorum, is none.
    pub(crate) contact: Duration,
    /// A receiver of a snapshot waits no longer for its next part.
    pub(crate) idle: Duration,
}

impl<C: Types> Clone for Core<C> {
    fn clone(&self) -> Self {
        Self {
            raft: self.raft.clone(),
            machine: self.machine.clone(),
            ..*self
        }
    }
}

impl<C: Types> Core<C> {
    fn metrics<T>(&self, read: impl FnOnce(&RaftMetrics<C>) -> T) -> T {
        // The guard blocks openraft's core, so it ends here.
        read(&self.raft.metrics().borrow_watched())
    }

    /// Openraft names a leader as long as nobody else was elected. One that is silent, or that has lost its quorum, leads nobody:
    /// then we know of none, as etcd, whose leaders step down and whose followers forget. `age` is how long `named` has been so.
    fn doubt(&self, named: Leadership, age: Duration) -> Leadership {
        let silent = match named.leader {
            None => return named,
            Some(leader) if leader == self.id => self.quorum_silent(),
            Some(_) => self.machine.heard.ago(),
        };
        if silent.unwrap_or(Duration::MAX).min(age) < self.contact {
            return named;
        }
        let role = match named.role {
            Role::Leader => Role::Follower,
            other => other,
        };
        Leadership {
            leader: None,
            role,
            ..named
        }
    }

    pub(crate) fn committed(&self) -> Option<LogId> {
        self.metrics(|metrics| metrics.local_committed)
    }

    fn written(&self, error: ClientWriteError<C>, term: u64) -> Written {
        match error {
            ClientWriteError::ForwardToLeader(to) => not_leader(&to),
            ClientWriteError::LogEntryDiscarded(_) => Written::Discarded { term },
            ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_) => Written::NotNow,
        }
    }

    async fn linearize(&self, option: LinearizerOption) -> Result<u64, NotReadable> {
        match self.raft.get_read_linearizer(option).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(match to.reason {
                    ForwardReason::NotLeader => NotReadable::NotLeader(to.leader_id),
                    ForwardReason::LeadershipTransfer | ForwardReason::LeaseExpired => {
                        NotReadable::NoQuorum
                    }
                })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(NotReadable::NoQuorum)
            }
            Err(RaftError::Fatal(_)) => Err(NotReadable::Stopped),
        }
    }

    fn changed<T>(result: Result<T, RaftError<C, ClientWriteError<C>>>) -> Changed {
        let error = match result {
            Ok(_) => return Changed::Applied,
            Err(RaftError::Fatal(_)) => return Changed::Stopped,
            Err(RaftError::APIError(error)) => error,
        };
        match error {
            ClientWriteError::ForwardToLeader(to) => match not_leader(&to) {
                Written::NotLeader(leader) => Changed::NotLeader(leader),
                _ => Changed::Busy,
            },
            ClientWriteError::LogEntryDiscarded(_) => Changed::Lost,
            ClientWriteError::PreconditionFailed(_) => Changed::Busy,
            ClientWriteError::ChangeMembershipError(error) => match error {
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_) => Changed::Busy,
                other => Changed::Refused(other.to_string()),
            },
        }
    }
}

fn not_leader<C: Types>(to: &ForwardToLeader<C>) -> Written {
    match to.reason {
        ForwardReason::NotLeader => Written::NotLeader(to.leader_id),
        ForwardReason::LeadershipTransfer | ForwardReason::LeaseExpired => Written::NotNow,
    }
}

fn precondition<C: Types>(at: Option<LogId>) -> [Precondition<C>; 1] {
    [Precondition::LastMembershipLogId {
        last_membership_log_id: at,
    }]
}

/// Whether these members are a quorum of every configuration.
fn are_quorum(members: &[u64], membership: &Membership) -> bool {
    membership.get_joint_config().iter().all(|voters| {
        let present = members.iter().filter(|id| voters.contains(id)).count();
        present > voters.len() / 2
    })
}

fn leadership(
    state: ServerState,
    vote: &Vote,
    leader: Option<u64>,
    membership: &StoredMembership,
    id: u64,
) -> Leadership {
    let role = match state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner
            if membership.membership().get_node(&id).is_some()
                && !membership.voter_ids().any(|voter| voter == id) =>
        {
            Role::Learner
        }
        ServerState::Learner | ServerState::Follower | ServerState::Shutdown => Role::Follower,
    };
    Leadership {
        leader,
        term: vote.leader_id.term,
        role,
    }
}

fn counted<'a>(log_id: impl Into<Option<&'a LogId>>) -> u64 {
    log_id.into().map_or(0, |log_id| log_id.index + 1)
}

impl<C: Types> Consensus for Core<C> {
    fn write(&self, commands: Commands, fence: Option<u64>) -> BoxFuture<'_, Written> {
        Box::pin(async move {
            let term = self.metrics(|metrics| metrics.current_term);
            let (responder, applied) = C::responder();
            let mut write = self.raft.write(commands).responder(responder);
            if let Some(term) = fence {
                write = write.with_leader(CommittedLeaderId::new(term));
            }
            if write.await.is_err() {
                return Written::Stopped;
            }
            match applied.await {
                Ok(Ok(_)) => Written::Applied,
                Ok(Err(error)) => self.written(error, term),
                Err(_) => Written::Stopped,
            }
        })
    }

    fn read_index(&self, wait: Duration) -> BoxFuture<'_, Result<u64, NotReadable>> {
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(wait);
        Box::pin(self.linearize(option))
    }

    fn read_index_of(&self, by: u64, vote: Vote) -> BoxFuture<'_, Option<u64>> {
        let own = self.id;
        let look = move |state: &RaftState<C>| {
            let ours = state.vote_ref();
            let is_ours = ours.committed
                && ours.leader_id == vote.leader_id
                && ours.leader_id.voted_for == own;
            let memberships = [
                state.membership_state.effective(),
                state.membership_state.committed(),
            ];
            let is_quorum = || {
                memberships
                    .into_iter()
                    .all(|stored| are_quorum(&[own, by], stored.membership()))
            };
            let committed = state.cluster_committed()?;
            // An index of an earlier term may be behind what the leader of that term has answered.
            let is_known = committed.leader_id.term == vote.leader_id.term;
            (is_ours && is_known && is_quorum()).then_some(committed.index)
        };
        Box::pin(async move { self.raft.with_raft_state(look).await.ok()? })
    }

    fn confirm(&self, wait: Duration) -> BoxFuture<'_, Result<u64, NotReadable>> {
        Box::pin(async move {
            let before = self.leadership();
            let term = before
                .led_term()
                .ok_or(NotReadable::NotLeader(before.leader))?;
            let option = LinearizerOption::new(None, true).with_wait_timeout(wait);
            self.linearize(option).await?;
            let after = self.leadership();
            match after.led_term() == Some(term) {
                true => Ok(term),
                false => Err(NotReadable::NotLeader(after.leader)),
            }
        })
    }

    fn confirmed_within(&self, limit: Duration) -> Option<u64> {
        let now = C::now();
        self.metrics(|metrics| {
            let acked = metrics.last_quorum_acked?.into_inner();
            let is_recent = now.saturating_duration_since(acked) < limit;
            (metrics.state == ServerState::Leader && is_recent).then_some(metrics.current_term)
        })
    }

    fn backlog(&self) -> u64 {
        self.metrics(|metrics| {
            counted(&metrics.local_committed).saturating_sub(counted(&metrics.last_applied))
        })
    }

    fn status(&self) -> Status {
        let now = C::now();
        self.metrics(|metrics| {
            let leadership = leadership(
                metrics.state,
                &metrics.vote,
                metrics.current_leader,
                &metrics.membership_config,
                self.id,
            );
            let heard = metrics.heartbeat.as_ref();
            let peer = |(id, matched): (&u64, &Option<LogId>)| PeerStatus {
                id: *id,
                matched: matched.as_ref().map(|matched| matched.index + 1),
                silent: heard
                    .and_then(|heard| heard.get(id).copied().flatten())
                    .map(|at| now.saturating_duration_since(at.into_inner())),
            };
            Status {
                leader: leadership.leader,
                term: leadership.term,
                role: leadership.role,
                committed: counted(&metrics.local_committed),
                applied: counted(&metrics.last_applied),
                last_index: metrics.last_log_index.map_or(0, |index| index + 1),
                purged: counted(&metrics.purged),
                peers: metrics
                    .replication
                    .iter()
                    .flatten()
                    .filter(|(id, _)| **id != self.id)
                    .map(peer)
                    .collect(),
            }
        })
    }

    fn leadership(&self) -> Leadership {
        self.metrics(|metrics| {
            leadership(
                metrics.state,
                &metrics.vote,
                metrics.current_leader,
                &metrics.membership_config,
                self.id,
            )
        })
    }

    fn follow(&self, sender: watch::Sender<Leadership>) -> BoxFuture<'static, ()> {
        let mut metrics = self.raft.server_metrics();
        let core = self.clone();
        Box::pin(async move {
            let clock = core.machine.runtime.clock.clone();
            let mut told = (Leadership::default(), clock.now());
            loop {
                metrics.borrow_and_update();
                let now = core.leadership();
                if now != told.0 {
                    told = (now, clock.now());
                }
                let age = clock.now().saturating_sub(told.1);
                let known = core.doubt(now, age);
                sender.send_if_modified(|before| std::mem::replace(before, known) != known);
                // Silence changes no metrics, so it is looked for again and again.
                let changed = timeout(clock.as_ref(), core.contact / 8, metrics.changed()).await;
                if matches!(changed, Some(Err(_))) {
                    return;
                }
            }
        })
    }

    fn stopped(&self) -> BoxFuture<'static, String> {
        let mut metrics = self.raft.server_metrics();
        let all = self.raft.metrics();
        Box::pin(async move {
            // The sender goes with openraft's core; its last word stands in the metrics.
            while metrics.changed().await.is_ok() {}
            match &all.borrow_watched().running_state {
                Err(fatal) => fatal.to_string(),
                Ok(()) => "core ended".to_owned(),
            }
        })
    }

    fn configuration(&self) -> Configuration {
        self.metrics(|metrics| {
            let stored = &metrics.membership_config;
            Configuration {
                at: *stored.log_id(),
                voters: stored.voter_ids().collect(),
                peers: stored
                    .nodes()
                    .map(|(id, peer)| (*id, peer.clone()))
                    .collect(),
            }
        })
    }

    fn quorum_silent(&self) -> Option<Duration> {
        let now = C::now();
        self.metrics(|metrics| {
            // A single voter needs nobody's answer, and openraft notes none.
            if metrics
                .membership_config
                .voter_ids()
                .all(|id| id == self.id)
            {
                return Some(Duration::ZERO);
            }
            let acked = metrics.last_quorum_acked?.into_inner();
            Some(now.saturating_duration_since(acked))
        })
    }

    fn change(
        &self,
        at: Option<LogId>,
        voters: BTreeSet<u64>,
        peers: BTreeMap<u64, Peer>,
        commands: Commands,
    ) -> BoxFuture<'_, Changed> {
        Box::pin(async move {
            let Some(membership) = types::membership(voters, peers) else {
                return Changed::Refused("no voter, or one that is no member".to_owned());
            };
            let payload = Payload::normal(commands);
            let result = self
                .raft
                .append_membership(membership, payload, precondition(at))
                .await;
            Self::changed(result)
        })
    }

    fn set_peer(
        &self,
        at: Option<LogId>,
        id: u64,
        peer: Peer,
        commands: Commands,
    ) -> BoxFuture<'_, Changed> {
        Box::pin(async move {
            let nodes = ChangeMembers::SetNodes(BTreeMap::from([(id, peer)]));
            let request = ChangeMembershipRequest::new(nodes, true)
                .with_payload(Payload::blank(), Payload::normal(commands))
                .with_preconditions(precondition(at));
            Self::changed(self.raft.change_membership_with_payload(request).await)
        })
    }

    fn transfer(&self, to: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(fatal) = self.raft.trigger().transfer_leader(to).await {
                tracing::debug!(%fatal, "no transfer: consensus has stopped");
            }
        })
    }

    fn initialize(&self, peers: BTreeMap<u64, Peer>) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move {
            match self.raft.initialize(peers).await {
                Ok(()) => Ok(true),
                // A log or a vote, be it one given to another founder, is enough.
                Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn is_initialized(&self) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.raft.is_initialized().await.unwrap_or(true) })
    }

    fn snapshot(&self, last: LogId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let mut metrics = self.raft.metrics();
            if self.raft.trigger().snapshot().await.is_err() {
                return;
            }
            while metrics.borrow_watched().snapshot < Some(last) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        })
    }

    fn purge(&self, upto: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(fatal) = self.raft.trigger().purge_log(upto).await {
                tracing::debug!(%fatal, "no purge: consensus has stopped");
            }
        })
    }

    fn answer(
        &self,
        from: u64,
        method: u32,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(receive::answer(self, from, method, body))
    }

    fn receive_entries(&self, from: u64, stream: Duplex) -> BoxFuture<'static, ()> {
        Box::pin(receive::entries(self.clone(), from, stream))
    }

    fn receive_snapshot(&self, from: u64, stream: Duplex) -> BoxFuture<'static, ()> {
        Box::pin(receive::snapshot(self.clone(), from, stream))
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.raft.shutdown().await.is_err() {
                tracing::warn!("consensus ended by a panic");
            }
        })
    }
}
