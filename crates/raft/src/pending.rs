//! Who waits for which batch.
//!
//! A batch is registered before it is sent anywhere; apply, which sees every entry on every member, answers it when it comes by.

use std::collections::HashMap;

use catena_store::Outcome;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::batch::Ticket;

/// The batches that this run of the member has proposed and not yet seen applied. Bounded by what the batcher admits.
pub(crate) struct Pending {
    run: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seq: u64,
    waiting: HashMap<u64, oneshot::Sender<Vec<Outcome>>>,
}

impl Pending {
    /// For a run of the member; `run` is a random number.
    pub(crate) fn new(run: u64) -> Self {
        Self {
            run,
            state: Mutex::default(),
        }
    }

    /// A ticket for a new batch, and where its outcomes will arrive.
    pub(crate) fn register(&self) -> (Ticket, oneshot::Receiver<Vec<Outcome>>) {
        let (answer, outcomes) = oneshot::channel();
        let mut state = self.state.lock();
        let seq = state.seq;
        state.seq += 1;
        state.waiting.insert(seq, answer);
        (Ticket { run: self.run, seq }, outcomes)
    }

    /// Nobody waits any more.
    pub(crate) fn forget(&self, ticket: Ticket) {
        self.state.lock().waiting.remove(&ticket.seq);
    }

    /// A batch was applied.
    pub(crate) fn applied(&self, ticket: Ticket, outcomes: Vec<Outcome>) {
        if ticket.run != self.run {
            return;
        }
        let waiting = self.state.lock().waiting.remove(&ticket.seq);
        if let Some(answer) = waiting {
            // The proposer's deadline may have passed.
            let _nobody_waits = answer.send(outcomes);
        }
    }
}
