//! What a put costs.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};

use super::{Goal, Stage, millis};
use crate::{
    load::{Load, Outcome, Stop, Workload},
    process::Servers,
};

/// Clients that put, each again when it is answered.
const CLIENTS: usize = 64;
/// Not measured at the beginning of each round.
const WARM_UP: Duration = Duration::from_millis(300);

/// Requests in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    cpu_us: f64,
    p50_ms: f64,
    p99_ms: f64,
    per_sec: f64,
}

/// A figure of it: its name, its unit, its value.
type Metric = (&'static str, &'static str, fn(&Cost) -> f64);

const METRICS: [Metric; 4] = [
    ("server CPU", "µs", |cost| cost.cpu_us),
    ("p50", "ms", |cost| cost.p50_ms),
    ("p99", "ms", |cost| cost.p99_ms),
    ("throughput", "/s", |cost| cost.per_sec),
];

impl Cost {
    /// Of what 64 clients ask for, each again when it is answered.
    pub(super) fn measure(
        length: Duration,
        workload: &mut dyn Workload,
        addresses: &[SocketAddr],
        servers: &Servers,
    ) -> Result<Self> {
        let mut load = Load::closed(CLIENTS, Stop::After(length));
        load.warm_up = WARM_UP;
        Ok(Self::of(&good(load.run(workload, addresses, servers)?)?))
    }

    /// Of a load that ran.
    pub(super) fn of(outcome: &Outcome) -> Self {
        Self {
            cpu_us: outcome.server_micros(),
            p50_ms: millis(outcome.latencies.quantile(0.5)),
            p99_ms: millis(outcome.latencies.quantile(0.99)),
            per_sec: outcome.per_sec(),
        }
    }
}

/// Notes all figures of requests.
pub(super) fn found(stage: &mut Stage<'_>, what: &str, rounds: &[Cost]) {
    for (name, unit, of) in METRICS {
        let values = rounds.iter().map(of).collect();
        stage.spread(&format!("{what}: {name}"), unit, values, None);
    }
}

/// Notes all figures of requests as ratios to others of the same round. The goal is one of CPU, which the machine's moods change least.
pub(super) fn ratios(
    stage: &mut Stage<'_>,
    what: &str,
    rounds: &[Cost],
    to: &[Cost],
    goal: Option<Goal>,
) {
    for (place, (name, _, of)) in METRICS.into_iter().enumerate() {
        let pairs = rounds.iter().zip(to);
        let values = pairs.map(|(cost, to)| of(cost) / of(to)).collect();
        let goal = goal.filter(|_| place == 0);
        stage.spread(&format!("{what}: {name}"), "×", values, goal);
    }
}

/// An outcome without errors.
pub(super) fn good(outcome: Outcome) -> Result<Outcome> {
    let (errors, answers) = (outcome.errors, outcome.answers);
    ensure!(errors == 0, "{errors} of {answers} answers were errors");
    ensure!(answers > 0, "nothing was answered");
    Ok(outcome)
}
