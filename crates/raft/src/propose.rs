//! Proposals: gathered into batches, sent to wherever the leader is, answered when they are applied here.
//!
//! One task owns the queue. As long as a leader is known and fewer than [`WINDOW`] batches are on their way, it makes a batch of
//! all that waits and sends it: into our own log if we lead, else to the leader, over one hop. While batches are on their way, the
//! next one grows, so load makes batches larger and not more frequent.
//!
//! ```text
//! waiting ──► on its way ──applied──► answered
//!    ▲            │  not appended        ▲
//!    └────────────┤                      │ applied after all
//!                 └─unknown──► stray ────┴──► deadline: "may still take effect"
//! ```
//!
//! A batch that was certainly not appended goes back and is sent again. One whose fate is unknown is never sent again: it is a stray,
//! for which we only wait, because it may be applied yet.

mod batcher;
mod overdue;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use catena_store::{Command, MemberChange, Outcome, Request};
use tokio::sync::{mpsc, oneshot};

pub(crate) use batcher::run;

use crate::{
    ProposeError, batch,
    blocking::timeout,
    consensus::Written,
    shared::{Leader, Shared},
    types::Commands,
    wire::{self, ProposeAnswer},
};

/// Proposals that wait or are on their way, at most: with 1.5 MiB requests the bytes bind first, with small ones this does.
const PROPOSALS_MAX: usize = 32 << 10;

/// Bytes of them: what a slow disk may make us hold.
const PROPOSED_BYTES_MAX: usize = 128 << 20;

/// Entries committed and not applied, above which nothing more is admitted, as in etcd.
const BACKLOG_MAX: u64 = 5000;

/// Proposals that may wait without regard to for how long: two batches on their way and two behind them.
const QUEUED_MIN: usize = 4 * batcher::BATCH_PROPOSALS_MAX;

/// When those behind them have waited for so long although a leader takes batches, more are coming than can be carried. Whoever is
/// refused then is refused at once; without this, everybody would wait until the time for requests is over.
const QUEUE_DELAY_MAX: Duration = Duration::from_secs(1);

/// Largest command: an entry must fit into a frame of the transport.
const COMMAND_BYTES_MAX: usize = 32 << 20;

/// One command on its way.
struct Proposal {
    command: Bytes,
    reply: oneshot::Sender<Result<Outcome, ProposeError>>,
    admitted: Duration,
    deadline: Duration,
    /// No leader was known when it was admitted.
    leaderless: bool,
    _room: Room,
}

impl Proposal {
    fn answer(self, result: Result<Outcome, ProposeError>) {
        // The caller may have gone away.
        let _nobody_waits = self.reply.send(result);
    }
}

/// What was admitted and is not answered yet.
#[derive(Default)]
struct Admitted {
    proposals: AtomicUsize,
    bytes: AtomicUsize,
    /// How long the oldest of the last batch had waited, in milliseconds.
    delay_millis: AtomicU64,
}

impl Admitted {
    /// Whether more is coming than is carried away.
    fn is_overloaded(&self) -> bool {
        let delay = Duration::from_millis(self.delay_millis.load(Ordering::Relaxed));
        self.proposals.load(Ordering::Relaxed) > QUEUED_MIN && delay > QUEUE_DELAY_MAX
    }
}

/// One proposal and its bytes among what is admitted; given back when dropped.
struct Room {
    bytes: usize,
    admitted: Arc<Admitted>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.admitted.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.admitted.proposals.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The entry to the queue.
pub(crate) struct Proposals {
    queue: mpsc::Sender<Proposal>,
    admitted: Arc<Admitted>,
}

/// The other end of the queue, for [`run`].
pub(crate) struct Queue {
    proposals: mpsc::Receiver<Proposal>,
    admitted: Arc<Admitted>,
}

impl Proposals {
    /// A new queue.
    pub(crate) fn new() -> (Self, Queue) {
        let (queue, proposals) = mpsc::channel(PROPOSALS_MAX);
        let admitted = Arc::new(Admitted::default());
        let queue = Self {
            queue,
            admitted: admitted.clone(),
        };
        let end = Queue {
            proposals,
            admitted,
        };
        (queue, end)
    }

    /// Brings a command through the log.
    pub(crate) async fn propose(
        &self,
        shared: &Shared,
        command: &Command,
    ) -> Result<Outcome, ProposeError> {
        let command = encode(command)?;
        let room = self.admit(shared, command.len())?;
        let (reply, outcome) = oneshot::channel();
        let admitted = shared.now();
        let proposal = Proposal {
            command,
            reply,
            admitted,
            deadline: admitted + shared.rules.request_timeout,
            leaderless: shared.leader() == Leader::Nowhere,
            _room: room,
        };
        match self.queue.try_send(proposal) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(ProposeError::TooManyRequests),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(ProposeError::Stopped),
        }
        outcome.await.unwrap_or(Err(ProposeError::Stopped))
    }

    fn admit(&self, shared: &Shared, bytes: usize) -> Result<Room, ProposeError> {
        let admitted = self.admitted.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.admitted.proposals.fetch_add(1, Ordering::Relaxed);
        let room = Room {
            bytes,
            admitted: self.admitted.clone(),
        };
        let too_much = admitted > PROPOSED_BYTES_MAX || self.admitted.is_overloaded();
        match too_much || is_behind(shared) {
            true => Err(ProposeError::TooManyRequests),
            false => Ok(room),
        }
    }
}

/// Whether apply is too far behind to take more.
fn is_behind(shared: &Shared) -> bool {
    shared.consensus.backlog() > BACKLOG_MAX
}

fn encode(command: &Command) -> Result<Bytes, ProposeError> {
    let command = command.encode();
    match command.len() > COMMAND_BYTES_MAX {
        true => Err(ProposeError::TooLarge),
        false => Ok(command),
    }
}

/// Brings commands through the log as one batch, if this member leads `term` when they are appended.
pub(crate) async fn propose_as_leader(
    shared: &Shared,
    term: u64,
    commands: &[Command],
) -> Result<Vec<Outcome>, ProposeError> {
    let commands = commands.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    let (ticket, mut outcomes) = shared.machine.pending.register();
    let batch = batch::encode(ticket, commands.iter());
    let write = shared.consensus.write(batch, Some(term));
    let limit = shared.rules.request_timeout;
    let written = timeout(shared.runtime.clock.as_ref(), limit, write).await;
    shared.machine.pending.forget(ticket);
    match written {
        Some(Written::Applied) => outcomes.try_recv().map_err(|_| ProposeError::Stopped),
        Some(Written::NotLeader(_) | Written::NotNow) => Err(ProposeError::NotLeader),
        Some(Written::Discarded { .. }) => Err(ProposeError::TimeoutLeaderFailure),
        Some(Written::Stopped) => Err(ProposeError::Stopped),
        None => Err(ProposeError::Timeout),
    }
}

/// Answers a batch that another member forwards. It is appended here or nowhere.
pub(crate) async fn forwarded(shared: &Shared, body: Bytes) -> ProposeAnswer {
    let Ok((left_millis, commands)) = wire::decode_propose(body) else {
        return ProposeAnswer::Malformed;
    };
    if !is_acceptable(&commands) {
        return ProposeAnswer::Malformed;
    }
    if is_behind(shared) {
        return ProposeAnswer::TooMany;
    }
    if shared.handing_over.load(Ordering::Relaxed) {
        return ProposeAnswer::NotNow;
    }
    let left = Duration::from_millis(left_millis.into()).min(shared.rules.request_timeout);
    let write = shared.consensus.write(commands, None);
    match timeout(shared.runtime.clock.as_ref(), left, write).await {
        Some(Written::Applied) => ProposeAnswer::Applied,
        Some(Written::NotLeader(leader)) => ProposeAnswer::NotLeader(leader),
        Some(Written::NotNow) => ProposeAnswer::NotNow,
        Some(Written::Discarded { term }) => ProposeAnswer::Discarded { term },
        Some(Written::Stopped) | None => ProposeAnswer::Unknown,
    }
}

/// Whether every member will be able to apply a batch: one that none can decode would stop all of them.
fn is_acceptable(commands: &Commands) -> bool {
    match batch::decode(commands) {
        Ok((_, commands)) => commands.iter().all(may_be_proposed),
        Err(error) => {
            tracing::warn!(%error, "malformed proposal from peer");
            false
        }
    }
}

/// Changes of members travel with consensus's own change and are made by [`crate::members`] alone.
pub(crate) fn may_be_proposed(command: &Command) -> bool {
    match &command.request {
        Request::Member(MemberChange::Publish { .. }) => true,
        Request::Member(_) => false,
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Txn(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseCheckpoint(_)
        | Request::Alarm(_)
        | Request::ClusterVersion(_) => true,
    }
}
