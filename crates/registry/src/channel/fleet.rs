//! The service as its caller knows it: the balancer, what feeds it, and the calls in flight.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::{debug, warn};

use super::Error;
use crate::{
    Change, ClientSlot, Endpoint, Instance, Scheme, ServiceName,
    balance::{Balancer, Class, Context, Key, NoInstance, Options, Outcome, Pick, SlotView, Token},
};

/// What a channel has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls.
    pub calls: u64,
    /// Attempts beyond the first of a call.
    pub repeats: u64,
    /// Picks for which ejections were ignored.
    pub panics: u64,
    /// Ejections.
    pub ejections: u64,
}

/// What callers know of one service. Shared by its calls, its feed and its checks.
#[derive(Debug)]
pub(crate) struct Fleet {
    service: ServiceName,
    state: Mutex<State>,
    /// The moment that the balancer's times count from.
    origin: Instant,
    /// Whether discovery has read the store; a change of it, or of the list, wakes who waits.
    synced: watch::Sender<bool>,
    calls: AtomicU64,
    repeats: AtomicU64,
    /// The milliseconds from the origin to the last call.
    called_at_ms: AtomicU64,
}

#[derive(Debug)]
struct State {
    balancer: Balancer,
    rng: SmallRng,
}

impl Fleet {
    pub(super) fn new(service: ServiceName, schemes: Vec<Scheme>, options: Options) -> Self {
        let options = Options { schemes, ..options };
        let rng = SmallRng::from_rng(&mut rand::rng());
        let balancer = Balancer::new(options);
        Self {
            service,
            state: Mutex::new(State { balancer, rng }),
            origin: Instant::now(),
            synced: watch::Sender::new(false),
            calls: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            called_at_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Chooses an instance. If there is none because discovery has not answered yet, waits for its answer, until `give_up`.
    pub(super) async fn pick(
        self: &Arc<Self>,
        context: &Context<'_>,
        give_up: Instant,
    ) -> Result<(Chosen, InFlight), NoInstance> {
        let mut changes = self.synced.subscribe();
        loop {
            let is_synced = *changes.borrow_and_update();
            match self.pick_now(context) {
                Err(_none) if !is_synced && context.tried.is_empty() => {
                    let waited = timeout_at(give_up, changes.changed()).await;
                    if !matches!(waited, Ok(Ok(()))) {
                        return self.pick_now(context);
                    }
                }
                picked => return picked,
            }
        }
    }

    fn pick_now(self: &Arc<Self>, context: &Context<'_>) -> Result<(Chosen, InFlight), NoInstance> {
        let now = self.now();
        let state = &mut *self.state.lock();
        let Pick {
            key,
            instance,
            endpoint,
            token,
        } = state.balancer.pick(context, now, &mut state.rng)?;
        let chosen = Chosen {
            key,
            instance,
            endpoint,
        };
        let in_flight = InFlight {
            fleet: Arc::clone(self),
            token: Some(token),
        };
        Ok((chosen, in_flight))
    }

    pub(super) fn note_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX);
        self.called_at_ms.store(now, Ordering::Relaxed);
    }

    pub(super) fn note_repeat(&self) {
        self.repeats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn totals(&self) -> Totals {
        let (panics, ejections) = self.state.lock().balancer.totals();
        Totals {
            calls: self.calls.load(Ordering::Relaxed),
            repeats: self.repeats.load(Ordering::Relaxed),
            panics,
            ejections,
        }
    }

    /// The instances and what is known of them.
    pub(crate) fn slots(&self) -> Vec<SlotView> {
        self.state.lock().balancer.slots().collect()
    }

    /// Takes what a check found.
    pub(crate) fn set_health(&self, key: Key, alive: bool) {
        self.state.lock().balancer.set_health(key, alive);
    }

    /// How long it is since the last call, or since the beginning.
    pub(crate) fn unused_for(&self) -> Duration {
        let called_at = Duration::from_millis(self.called_at_ms.load(Ordering::Relaxed));
        self.now().saturating_sub(called_at)
    }

    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn set_slot(&self, number: u32) {
        debug!(service = %self.service, number, "the caller's slot changed");
        let balancer = &mut self.state.lock().balancer;
        balancer.set_slot(Some(u64::from(number)));
    }

    fn apply(&self, change: &Change) {
        let now = self.now();
        let told = {
            let balancer = &mut self.state.lock().balancer;
            balancer.apply(&change.all, now);
            balancer.set_settings(&change.settings)
        };
        if let Err(reason) = told {
            warn!(service = %self.service, reason, "a setting of the service is ignored");
        }
        debug!(
            service = %self.service,
            instances = change.all.len(),
            revision = change.revision,
            stale = change.stale,
            "instances changed"
        );
        self.synced.send_replace(change.synced);
    }
}

/// Follows the service; what is known when the changes end stays. Holds the caller's slot, if it takes part in subsets. `sweep` is
/// called after each change, and every so often.
pub(super) async fn feed(
    fleet: Arc<Fleet>,
    changes: impl Stream<Item = Change> + Send,
    slot: Option<ClientSlot>,
    every: Duration,
    sweep: impl Fn(&[SlotView]) + Send,
) {
    let mut ticks = tokio::time::interval(every);
    let mut changes = pin!(changes.fuse());
    let mut numbers = slot.as_ref().map(ClientSlot::number);
    loop {
        tokio::select! {
            Some(change) = changes.next() => fleet.apply(&change),
            Some(number) = next_number(&mut numbers) => fleet.set_slot(number),
            _ = ticks.tick() => {}
        }
        sweep(&fleet.slots());
    }
}

/// The next number of the caller's slot. Waits for ever where there is none. While the store cannot be reached the slot has no
/// number: then the last one stays.
async fn next_number(numbers: &mut Option<watch::Receiver<Option<u32>>>) -> Option<u32> {
    if let Some(receiver) = numbers {
        if receiver.changed().await.is_ok() {
            return *receiver.borrow_and_update();
        }
        // The slot is gone with the registry that held it.
        *numbers = None;
    }
    std::future::pending().await
}

/// The instance of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) key: Key,
    pub(super) instance: Arc<Instance>,
    pub(super) endpoint: Arc<Endpoint>,
}

/// A call in flight. Dropped before [`done`](Self::done), it was given up.
#[derive(Debug)]
pub(super) struct InFlight {
    fleet: Arc<Fleet>,
    token: Option<Token>,
}

impl InFlight {
    /// The answer has begun.
    pub(super) fn answered(&mut self) {
        if let Some(token) = &mut self.token {
            let now = self.fleet.now();
            self.fleet.state.lock().balancer.answered(token, now);
        }
    }

    /// The call is over.
    pub(super) fn done(mut self, outcome: Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(token) = self.token.take() {
            let now = self.fleet.now();
            self.fleet.state.lock().balancer.done(token, outcome, now);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end(Outcome::from(Class::Canceled));
    }
}

/// The error of a call for which nobody is left.
pub(super) fn nobody(fleet: &Fleet, why: NoInstance, last: Option<Error>) -> Error {
    Error::NoInstance {
        service: fleet.service.to_string(),
        why,
        last: last.map(Arc::new),
    }
}
