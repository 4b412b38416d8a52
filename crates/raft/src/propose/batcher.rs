//! The task that owns the queue.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use catena_runtime::{BoxFuture, NetError, watch};
use catena_store::Outcome;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};

use super::{Admitted, PROPOSALS_MAX, Proposal, Queue, overdue};
use crate::{
    Leadership, ProposeError, batch,
    consensus::Written,
    method,
    shared::{Leader, Shared},
    types::Commands,
    wire::{self, ProposeAnswer},
};

/// Batches on their way at a time: one is written while the next one is gathered.
const WINDOW: usize = 2;

/// Proposals in a batch: CPU per proposal falls up to here and not beyond.
pub(super) const BATCH_PROPOSALS_MAX: usize = 512;

/// Bytes in a batch, unless one command is larger.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// What was admitted further apart does not share a batch: a batch waits for its last proposal's deadline, and so much later than its
/// own may the first one be answered.
const BATCH_SPREAD_MAX: Duration = Duration::from_millis(500);

/// Pause before a batch that was refused is sent again: a new leader is refused for a round trip, one that has lost its quorum for
/// longer.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// What a batch came to.
enum Attempted {
    /// Everybody was answered.
    Answered,
    /// Certainly not appended.
    Again(Vec<Proposal>),
    /// It may be applied yet.
    Unknown(Stray),
}

/// A batch whose fate is unknown.
struct Stray {
    ticket: batch::Ticket,
    outcomes: oneshot::Receiver<Vec<Outcome>>,
    proposals: Vec<Proposal>,
    /// The leader lost sight of it in this term or a later one: when an entry of a higher term is applied, it is lost.
    discarded: Option<u64>,
}

struct Batcher {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Proposal>,
    admitted: Arc<Admitted>,
    leadership: watch::Receiver<Leadership>,
    /// By age.
    waiting: VecDeque<Proposal>,
    on_their_way: FuturesUnordered<BoxFuture<'static, Attempted>>,
    strays: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Nothing is sent before.
    pause_until: Option<Duration>,
}

/// Runs until the queue is closed.
pub(crate) async fn run(shared: Arc<Shared>, queue: Queue) {
    let batcher = Batcher {
        leadership: shared.leadership.clone(),
        queue: queue.proposals,
        admitted: queue.admitted,
        shared,
        waiting: VecDeque::new(),
        on_their_way: FuturesUnordered::new(),
        strays: FuturesUnordered::new(),
        pause_until: None,
    };
    batcher.run().await;
}

impl Batcher {
    async fn run(mut self) {
        let mut arrived = Vec::with_capacity(BATCH_PROPOSALS_MAX);
        loop {
            self.send_batches();
            let wake = self.wake();
            tokio::select! {
                biased;
                Some(attempted) = self.on_their_way.next() => self.attempted(attempted),
                Some(()) = self.strays.next() => {}
                count = self.queue.recv_many(&mut arrived, BATCH_PROPOSALS_MAX),
                    if self.waiting.len() < PROPOSALS_MAX =>
                {
                    if count == 0 {
                        return;
                    }
                    self.waiting.extend(arrived.drain(..));
                }
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.pause_until = None;
                }
                () = wake => self.expire(),
            }
        }
    }

    /// Sends what waits, if there is somebody to send it to.
    fn send_batches(&mut self) {
        while !self.waiting.is_empty() && self.on_their_way.len() < WINDOW {
            let leader = self.shared.leader();
            if leader == Leader::Nowhere || self.is_paused() {
                return;
            }
            let proposals = self.take_batch();
            let attempt = attempt(self.shared.clone(), proposals, leader);
            self.on_their_way.push(Box::pin(attempt));
        }
    }

    fn is_paused(&self) -> bool {
        let handing_over = &self.shared.handing_over;
        handing_over.load(std::sync::atomic::Ordering::Relaxed)
            || self
                .pause_until
                .is_some_and(|until| self.shared.now() < until)
    }

    fn take_batch(&mut self) -> Vec<Proposal> {
        self.note_delay();
        let count = fitting(&self.waiting);
        self.waiting.drain(..count).collect()
    }

    /// Notes for how long the oldest has waited. What waited for a leader is no measure of the load.
    fn note_delay(&self) {
        let now = self.shared.now();
        let delay = self.waiting.front().map_or(Duration::ZERO, |oldest| {
            now.saturating_sub(oldest.admitted.max(self.shared.leader_since()))
        });
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let noted = &self.admitted.delay_millis;
        noted.store(millis, std::sync::atomic::Ordering::Relaxed);
    }

    /// Completes when something that waits is overdue or may be sent again.
    fn wake(&self) -> BoxFuture<'static, ()> {
        let Some(oldest) = self.waiting.front() else {
            return Box::pin(std::future::pending());
        };
        let at = match self.on_their_way.len() < WINDOW && self.is_paused() {
            true => oldest.deadline.min(self.shared.now() + RETRY_PAUSE),
            false => oldest.deadline,
        };
        let left = at.saturating_sub(self.shared.now());
        self.shared.runtime.clock.sleep(left)
    }

    /// Answers what waited too long.
    fn expire(&mut self) {
        let now = self.shared.now();
        while self
            .waiting
            .front()
            .is_some_and(|proposal| proposal.deadline <= now)
        {
            if let Some(proposal) = self.waiting.pop_front() {
                let error = overdue::unsent(&self.shared, &proposal);
                proposal.answer(Err(error));
            }
        }
    }

    fn attempted(&mut self, attempted: Attempted) {
        match attempted {
            Attempted::Answered => {}
            Attempted::Again(proposals) => {
                self.pause_until = Some(self.shared.now() + RETRY_PAUSE);
                for proposal in proposals.into_iter().rev() {
                    self.waiting.push_front(proposal);
                }
                self.expire();
            }
            Attempted::Unknown(stray) => {
                self.strays.push(Box::pin(wait(self.shared.clone(), stray)));
            }
        }
    }
}

/// How many of those that wait, by age, make the next batch.
fn fitting(waiting: &VecDeque<Proposal>) -> usize {
    let Some(oldest) = waiting.front() else {
        return 0;
    };
    let mut bytes = 0;
    let fits = waiting.iter().take(BATCH_PROPOSALS_MAX);
    fits.take_while(|proposal| {
        let first = bytes == 0;
        bytes += proposal.command.len();
        let is_close = proposal.deadline <= oldest.deadline + BATCH_SPREAD_MAX;
        first || bytes <= BATCH_BYTES_MAX && is_close
    })
    .count()
}

fn answer_all(proposals: Vec<Proposal>, outcomes: Vec<Outcome>) {
    for (proposal, outcome) in proposals.into_iter().zip(outcomes) {
        proposal.answer(Ok(outcome));
    }
}

/// Sends one batch.
async fn attempt(shared: Arc<Shared>, proposals: Vec<Proposal>, leader: Leader) -> Attempted {
    let (ticket, outcomes) = shared.machine.pending.register();
    let commands = batch::encode(ticket, proposals.iter().map(|proposal| &proposal.command));
    let stray = Stray {
        ticket,
        outcomes,
        proposals,
        discarded: None,
    };
    let left = overdue::left(&shared, &stray.proposals);
    match leader {
        Leader::Here => write(&shared, stray, commands, left).await,
        Leader::There(id) => forward(&shared, stray, id, commands, left).await,
        Leader::Nowhere => again(&shared, stray),
    }
}

fn again(shared: &Shared, stray: Stray) -> Attempted {
    shared.machine.pending.forget(stray.ticket);
    Attempted::Again(stray.proposals)
}

async fn write(shared: &Shared, mut stray: Stray, commands: Commands, left: Duration) -> Attempted {
    let write = shared.consensus.write(commands, None);
    let clock = shared.runtime.clock.as_ref();
    match crate::blocking::timeout(clock, left, write).await {
        Some(Written::Applied) => match stray.outcomes.try_recv() {
            Ok(outcomes) => {
                answer_all(stray.proposals, outcomes);
                Attempted::Answered
            }
            Err(_) => Attempted::Unknown(stray),
        },
        Some(Written::NotLeader(_) | Written::NotNow) => again(shared, stray),
        Some(Written::Discarded { term }) => {
            stray.discarded = Some(term);
            Attempted::Unknown(stray)
        }
        Some(Written::Stopped) => {
            for proposal in stray.proposals {
                proposal.answer(Err(ProposeError::Stopped));
            }
            Attempted::Answered
        }
        None => Attempted::Unknown(stray),
    }
}

async fn forward(
    shared: &Shared,
    mut stray: Stray,
    leader: u64,
    commands: Commands,
    left: Duration,
) -> Attempted {
    let left_millis = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    let body = wire::propose(left_millis, &commands);
    let call = shared.network.call(leader, method::PROPOSE, body, left);
    let mut leadership = shared.leadership.clone();
    let deposed = leadership.wait_for(|known| known.leader != Some(leader));
    let answer: Result<Bytes, NetError> = tokio::select! {
        biased;
        // We may apply the entry before the leader's answer is here.
        Ok(outcomes) = &mut stray.outcomes => {
            answer_all(stray.proposals, outcomes);
            return Attempted::Answered;
        }
        answer = call => answer,
        // It may hang for long, while others are waiting to be sent to the next one.
        _ = deposed => Err(NetError::Timeout),
    };
    let answer = match answer {
        Ok(answer) => wire::decode_plain(&answer).unwrap_or(ProposeAnswer::Unknown),
        // Nothing was sent.
        Err(NetError::Unreachable(_) | NetError::Refused(_)) => return again(shared, stray),
        Err(NetError::Lost(_) | NetError::Timeout) => ProposeAnswer::Unknown,
    };
    match answer {
        // Its outcomes come when we have applied it as well.
        ProposeAnswer::Applied | ProposeAnswer::Unknown => Attempted::Unknown(stray),
        ProposeAnswer::NotLeader(_) | ProposeAnswer::NotNow => again(shared, stray),
        ProposeAnswer::Discarded { term } => {
            stray.discarded = Some(term);
            Attempted::Unknown(stray)
        }
        ProposeAnswer::TooMany | ProposeAnswer::Malformed => {
            shared.machine.pending.forget(stray.ticket);
            for proposal in stray.proposals {
                proposal.answer(Err(ProposeError::TooManyRequests));
            }
            Attempted::Answered
        }
    }
}

/// Waits for a stray: until it is applied, certainly lost, or overdue. All in it were admitted within the time that a batch waits,
/// so one deadline, the last one's, serves all.
async fn wait(shared: Arc<Shared>, mut stray: Stray) {
    let mut applied_term = shared.machine.applied_term();
    let discarded = stray.discarded;
    let lost = async move {
        match discarded {
            // The sender goes with the store; then everything is over anyway.
            Some(term) => applied_term
                .wait_for(|applied| *applied > term)
                .await
                .is_ok(),
            None => std::future::pending().await,
        }
    };
    let left = overdue::left(&shared, &stray.proposals);
    let error: fn(&Shared, &Proposal) -> ProposeError = tokio::select! {
        biased;
        outcomes = &mut stray.outcomes => match outcomes {
            Ok(outcomes) => return answer_all(stray.proposals, outcomes),
            Err(_) => |_, _| ProposeError::Stopped,
        },
        _ = lost => |_, _| ProposeError::TimeoutLeaderFailure,
        () = shared.runtime.clock.sleep(left) => overdue::sent,
    };
    shared.machine.pending.forget(stray.ticket);
    // It may have been applied just now.
    if let Ok(outcomes) = stray.outcomes.try_recv() {
        return answer_all(stray.proposals, outcomes);
    }
    for proposal in stray.proposals {
        let error = error(&shared, &proposal);
        proposal.answer(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::propose::Room;

    fn proposal(bytes: usize, admitted: Duration) -> Proposal {
        Proposal {
            command: vec![0; bytes].into(),
            reply: oneshot::channel().0,
            admitted,
            deadline: admitted + Duration::from_secs(7),
            leaderless: false,
            _room: Room {
                bytes,
                admitted: Arc::default(),
            },
        }
    }

    #[test]
    fn batch_is_bounded_in_count_bytes_and_age() {
        let queue = |proposals: &[(usize, u64)]| {
            let proposals = proposals.iter();
            let of =
                |(bytes, millis): &(usize, u64)| proposal(*bytes, Duration::from_millis(*millis));
            fitting(&proposals.map(of).collect())
        };
        assert_eq!(queue(&[]), 0);
        assert_eq!(
            queue(&vec![(8, 0); BATCH_PROPOSALS_MAX + 1]),
            BATCH_PROPOSALS_MAX
        );
        assert_eq!(
            queue(&[(BATCH_BYTES_MAX + 1, 0), (8, 0)]),
            1,
            "a large one goes alone"
        );
        assert_eq!(queue(&[(BATCH_BYTES_MAX, 0), (8, 0)]), 1);
        assert_eq!(
            queue(&[(8, 0), (8, 500), (8, 501), (8, 502)]),
            2,
            "old and young part"
        );
    }
}
