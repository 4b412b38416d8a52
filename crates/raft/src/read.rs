//! The read gate: one round with a quorum serves all reads that waited when it began.
//!
//! One task asks, on a follower through the leader; while a round is under way, the next readers gather. A reader then waits by
//! itself until the store has applied the index.
//!
//! A follower's question carries its vote. Where leader and follower are a quorum, as two of three are, that is the round: the leader
//! asks nobody else. It counts because every vote is in the follower's log before it is given (see [`crate::log`]), so the question
//! would carry another one if the follower had helped to elect somebody else before.
//!
//! The leader, where one other member makes a quorum with it, asks one: whether its vote is still for us. That is the same question from
//! the other side, and holds for the same reason. If the member does not say so in a moment, the round is one with all.
//!
//! Where many readers share a thread, they may gather at a [`ReadDesk`] of their own before, which then asks at the gate for all of
//! them: so the way between threads is gone once, and not by each.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{
    ReadError,
    blocking::timeout,
    method,
    shared::{Leader, Shared},
    wire,
};

/// Readers that wait for the next round, at most; beyond that a reader waits to be let in.
const READERS_MAX: usize = 64 << 10;

/// A round that has no answer is begun anew after this long, as in etcd.
const ROUND_MAX: Duration = Duration::from_millis(500);

/// Pause before a round is begun anew that was refused at once.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// A member that is asked alone answers within this, or all are asked.
const WITNESS_MAX: Duration = Duration::from_millis(50);

/// After one that did not, all are asked for this long.
const WITNESS_PAUSE: Duration = Duration::from_secs(1);

struct Reading {
    deadline: Duration,
    reply: oneshot::Sender<Result<u64, ReadError>>,
}

/// What the leader answers another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReadAnswer {
    /// The index to wait for.
    Index(u64),
    /// None.
    Refused(ReadError),
}

/// The entry to the gate.
pub(crate) struct ReadGate {
    readers: mpsc::Sender<Reading>,
}

/// The other end, for [`run`].
pub(crate) struct Readers {
    readers: mpsc::Receiver<Reading>,
}

impl ReadGate {
    /// A new gate.
    pub(crate) fn new() -> (Self, Readers) {
        let (sender, readers) = mpsc::channel(READERS_MAX);
        (Self { readers: sender }, Readers { readers })
    }

    /// Waits until the store has applied all that was committed when this was called.
    pub(crate) async fn read(&self, shared: &Shared) -> Result<(), ReadError> {
        if shared.sole_leader().is_some() {
            return Ok(());
        }
        let deadline = shared.now() + shared.rules.request_timeout;
        let index = self.index(deadline).await?;
        let reader = &shared.machine.reader;
        if reader
            .applied()
            .is_some_and(|applied| applied.index >= index)
        {
            return Ok(());
        }
        let left = deadline.saturating_sub(shared.now());
        let applied = reader.wait_applied(index);
        timeout(shared.runtime.clock.as_ref(), left, applied)
            .await
            .ok_or(ReadError::Timeout)
    }

    /// Answers member `from`, which takes us for the leader and has sent its vote; it is not sent on.
    pub(crate) async fn answer(&self, shared: &Shared, from: u64, vote: &[u8]) -> ReadAnswer {
        if shared.leader() != Leader::Here {
            return ReadAnswer::Refused(ReadError::NotLeader);
        }
        if let Ok(vote) = wire::decode(vote)
            && let Some(index) = shared.consensus.read_index_of(from, vote).await
        {
            return ReadAnswer::Index(index);
        }
        match self.index(shared.now() + ROUND_MAX).await {
            Ok(index) => ReadAnswer::Index(index),
            Err(error) => ReadAnswer::Refused(error),
        }
    }

    async fn index(&self, deadline: Duration) -> Result<u64, ReadError> {
        let (reply, index) = oneshot::channel();
        let reading = Reading { deadline, reply };
        let stopped = |_| ReadError::Stopped;
        self.readers.send(reading).await.map_err(stopped)?;
        index.await.unwrap_or(Err(ReadError::Stopped))
    }
}

/// A place before the gate where the readers of one thread gather.
pub struct ReadDesk {
    readers: ReadGate,
    shared: Arc<Shared>,
}

impl ReadDesk {
    /// A new desk before `gate`, and what serves it: until the desk is dropped, on the thread of the readers.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        gate: &Arc<ReadGate>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (readers, ends) = ReadGate::new();
        let serve = serve(shared.clone(), ends, Upstream::Gate(gate.clone()));
        let shared = shared.clone();
        (Self { readers, shared }, serve)
    }

    /// Waits until the local store has applied all that was committed, anywhere, when this was called.
    pub async fn read_index(&self) -> Result<(), ReadError> {
        self.readers.read(&self.shared).await
    }
}

/// Whom a round asks.
enum Upstream {
    /// The quorum.
    Quorum,
    /// The gate of the member, whose own round then begins later than the question.
    Gate(Arc<ReadGate>),
}

/// Runs rounds until the gate is closed.
pub(crate) async fn run(shared: Arc<Shared>, gate: Readers) {
    serve(shared, gate, Upstream::Quorum).await;
}

async fn serve(shared: Arc<Shared>, mut gate: Readers, upstream: Upstream) {
    let mut waiting = VecDeque::new();
    let mut witness = Witness::default();
    loop {
        if waiting.is_empty() {
            match gate.readers.recv().await {
                Some(reading) => waiting.push_back(reading),
                None => return,
            }
        }
        // Those who come in the same turn of the runtime share the round.
        tokio::task::yield_now().await;
        while waiting.len() < READERS_MAX
            && let Ok(reading) = gate.readers.try_recv()
        {
            waiting.push_back(reading);
        }
        let result = match &upstream {
            Upstream::Quorum => round(&shared, &mut witness).await,
            Upstream::Gate(gate) => gate.index(shared.now() + ROUND_MAX).await,
        };
        waiting = settle(&shared, waiting, result);
        if !waiting.is_empty() {
            shared.leader_changes(RETRY_PAUSE).await;
        }
    }
}

/// The member that the leader asks alone.
#[derive(Default)]
struct Witness {
    member: Option<u64>,
    /// The one before, which did not answer.
    silent: u64,
    /// All are asked until then.
    paused_until: Duration,
}

impl Witness {
    /// The index that a read has to wait for, if one member's word is enough and it gives it.
    async fn ask(&mut self, shared: &Shared) -> Option<u64> {
        if shared.now() < self.paused_until {
            return None;
        }
        let member = match self.member {
            Some(member) => member,
            None => *self.member.insert(self.next(shared)?),
        };
        let index = Self::index(shared, member).await;
        if index.is_none() {
            self.member = None;
            self.silent = member;
            self.paused_until = shared.now() + WITNESS_PAUSE;
        }
        index
    }

    /// The voter behind the one that was silent, if any single one makes a quorum with us.
    fn next(&self, shared: &Shared) -> Option<u64> {
        let voters = shared.consensus.configuration().voters;
        let others = || {
            let others = voters.iter().copied();
            others.filter(|id| *id != shared.identity.member_id)
        };
        let behind = others().find(|id| *id > self.silent);
        let next = behind.or_else(|| others().next());
        next.filter(|_| voters.len() <= 3)
    }

    async fn index(shared: &Shared, member: u64) -> Option<u64> {
        let call = shared
            .network
            .call(member, method::TELL_VOTE, Bytes::new(), WITNESS_MAX);
        let vote = wire::decode(&call.await.ok()?).ok()?;
        shared.consensus.read_index_of(member, vote).await
    }
}

async fn round(shared: &Shared, witness: &mut Witness) -> Result<u64, ReadError> {
    match shared.leader() {
        Leader::Here => {
            if let Some(index) = witness.ask(shared).await {
                return Ok(index);
            }
            let index = shared.consensus.read_index(ROUND_MAX).await;
            index.map_err(ReadError::from)
        }
        Leader::There(leader) => {
            let vote = shared.machine.wal.vote().unwrap_or_default();
            let call = shared
                .network
                .call(leader, method::READ_INDEX, vote, ROUND_MAX);
            match call.await.map(|answer| wire::decode_plain(&answer)) {
                Ok(Ok(ReadAnswer::Index(index))) => Ok(index),
                Ok(Ok(ReadAnswer::Refused(_)) | Err(_)) | Err(_) => Err(ReadError::Timeout),
            }
        }
        Leader::Nowhere => {
            shared.leader_changes(ROUND_MAX).await;
            Err(ReadError::NoLeader)
        }
    }
}

/// Answers those who have an answer, or no time left; returns the others.
fn settle(
    shared: &Shared,
    waiting: VecDeque<Reading>,
    result: Result<u64, ReadError>,
) -> VecDeque<Reading> {
    let now = shared.now();
    let mut left = VecDeque::new();
    let waiting = waiting.into_iter();
    for reading in waiting.filter(|reading| !reading.reply.is_closed()) {
        let answer = match result {
            Ok(index) => Ok(index),
            Err(ReadError::Stopped) => Err(ReadError::Stopped),
            Err(_) if reading.deadline <= now => Err(ReadError::Timeout),
            Err(_) => {
                left.push_back(reading);
                continue;
            }
        };
        // The reader may have gone away.
        let _nobody_waits = reading.reply.send(answer);
    }
    left
}
