//! Clients that write and read until they are told to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use framework::{
    history::{Args, Outcome, Recorder},
    mix::Mix,
};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use super::{execute::execute, seats::Seats};

/// A client rests so long between two operations: eight of them then make some hundred a second, which a judge can still search.
const REST: Duration = Duration::from_millis(10);
/// A client whose operation failed rests so long, as users' clients do.
const REST_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// The mix of a run, with whatever randomness it draws from.
pub(crate) type AnyMix = Mix<Box<dyn FnMut(u64) -> u64 + Send>>;

/// What clients share.
#[derive(Clone)]
pub(crate) struct Desk {
    /// The members.
    pub(crate) seats: Seats,
    /// What is recorded.
    pub(crate) recorder: Recorder,
    /// Where operations come from.
    pub(crate) mix: Arc<Mutex<AnyMix>>,
    /// Operations that were done.
    pub(crate) done: Arc<AtomicU64>,
    /// Whether clients end.
    pub(crate) stopped: Arc<AtomicBool>,
}

impl Desk {
    /// Whether clients end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

/// One client after another with unique numbers: whoever does not know what became of its operation is followed by the next.
pub(crate) async fn client(desk: Desk, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut number = desk.recorder.new_client();
    while !desk.is_stopped() {
        let rest = match one(&desk, number, &mut random).await {
            Ending::Done => REST,
            Ending::Failed => REST_AFTER_FAILURE,
            Ending::Unknown => {
                number = desk.recorder.new_client();
                REST_AFTER_FAILURE
            }
        };
        sleep(rest).await;
    }
}

enum Ending {
    Done,
    Failed,
    Unknown,
}

async fn one(desk: &Desk, number: u64, random: &mut StdRng) -> Ending {
    let seat = desk.seats.at(random.random_range(0..60));
    let call = desk.mix.lock().next(number);
    let (mut args, token) = (call.args, call.token);
    if let Args::Compact(compact) = &mut args {
        compact.revision = compact.revision.min(desk.seats.witnessed());
    }
    let recorder = &desk.recorder;
    let called = desk.seats.now_ns();
    let id = recorder.call(number, &seat.endpoint, args.clone(), token, called);
    let outcome = execute(&seat.client, &args).await;
    let ending = match &outcome {
        Outcome::Ok(_) => Ending::Done,
        Outcome::Fail(_) => Ending::Failed,
        Outcome::Unknown(_) => Ending::Unknown,
    };
    if matches!(ending, Ending::Done) {
        desk.done.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(operation) = recorder.finish(id, outcome, desk.seats.now_ns()) {
        desk.mix.lock().learn(&operation);
    }
    ending
}
