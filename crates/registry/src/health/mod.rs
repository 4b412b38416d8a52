//! Asking instances whether they are well, instead of finding out with a call.
//!
//! One task for each channel owns all of its checks: the `schedule` says which instance is due, each check runs inside the task
//! and has a time limit, and few run at once. What it finds goes to the balancer, which stops calling an instance that two
//! checks in a row found dead, and starts again after one that found it well. Calls' own outcomes are the other half
//! ([`balance`](crate::balance)): they notice sooner, but only what calls run into.
//!
//! A channel that nobody uses checks nobody.

mod probe;
mod schedule;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::{sleep, timeout};
use tracing::info;

pub(crate) use self::probe::{GrpcProbe, HttpProbe, Probe};
use self::schedule::Schedule;
use crate::{
    balance::{Key, SlotView},
    channel::Fleet,
};

/// How often the list of instances is looked at, and with it what is due.
const TICK: Duration = Duration::from_millis(100);

/// A channel without a call for this long checks nobody until the next one.
const USED_WITHIN: Duration = Duration::from_secs(300);

/// How instances are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What is asked.
    pub check: Check,
    /// The time between two checks of an instance, give or take a tenth: 5 seconds.
    pub interval: Duration,
    /// How long one may take: 2 seconds.
    pub timeout: Duration,
    /// How many that fail in a row make an instance dead: 2. One that succeeds makes it well.
    pub failures: u32,
    /// How many run at once: 16.
    pub concurrency: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            check: Check::Ask(None),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            failures: 2,
            concurrency: 16,
        }
    }
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The instance's own word: `grpc.health.v1` about the service named here, by default the whole process; of HTTP a GET of the path
    /// named here, by default `/healthz`. An instance that does not know the question is well, for it answers.
    Ask(Option<String>),
    /// Whether it accepts a connection.
    Connect,
}

/// Checks the instances for as long as it runs.
pub(crate) async fn run<P: Probe>(fleet: Arc<Fleet>, probe: P, options: Options) {
    let rng = SmallRng::from_rng(&mut rand::rng());
    let mut schedule = Schedule::new(options.interval, options.failures, rng);
    let mut running = FuturesUnordered::new();
    loop {
        let now = fleet.now();
        if fleet.unused_for() < USED_WITHIN {
            let slots = callable(fleet.slots());
            schedule.set_targets(slots.keys().copied(), now);
            let room = options.concurrency.saturating_sub(running.len());
            for key in schedule.due(now, room) {
                if let Some(slot) = slots.get(&key) {
                    running.push(check(&probe, slot.clone(), options.timeout));
                }
            }
        }
        tokio::select! {
            Some((slot, found)) = running.next(), if !running.is_empty() => {
                let failure = found.err();
                if let Some(alive) = schedule.record(slot.key, failure.is_none(), fleet.now()) {
                    let instance = &slot.instance;
                    info!(
                        service = %instance.service, id = instance.id, alive, ?failure,
                        "health changed"
                    );
                    fleet.set_health(slot.key, alive);
                }
            }
            () = sleep(TICK) => {}
        }
    }
}

/// The instances that take calls.
fn callable(slots: Vec<SlotView>) -> HashMap<Key, SlotView> {
    let slots = slots.into_iter().filter(|slot| slot.endpoint.is_some());
    slots
        .filter(|slot| slot.instance.is_callable())
        .map(|slot| (slot.key, slot))
        .collect()
}

/// Checks one instance.
async fn check<P: Probe>(
    probe: &P,
    slot: SlotView,
    limit: Duration,
) -> (SlotView, Result<(), String>) {
    let Some(endpoint) = slot.endpoint.clone() else {
        return (slot, Ok(()));
    };
    let found = timeout(limit, probe.probe(slot.key, &endpoint)).await;
    let found = found.unwrap_or_else(|_elapsed| Err(format!("no answer within {limit:?}")));
    (slot, found)
}
