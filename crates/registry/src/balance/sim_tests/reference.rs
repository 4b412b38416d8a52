//! How the balancers of others choose, as oracles beside ours: kratos' and go-zero's p2c and linkerd's. Each holds the numbers of its
//! own source; what one of them has no word for (weights, ejection, slow start) is absent.

use std::{cell::Cell, collections::BTreeMap, time::Duration};

use rand::{Rng, rngs::SmallRng};

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kratos,
    GoZero,
    Linkerd,
}

/// One instance as they know it.
#[derive(Default)]
struct Node {
    id: String,
    /// The average latency in nanoseconds; in kratos and go-zero 0 before the first sample.
    lag: f64,
    /// The average success, 0 to 1000.
    success: f64,
    sampled: Option<Duration>,
    picked: Option<Duration>,
    calls: u64,
    in_flight: BTreeMap<u64, Duration>,
    /// kratos: the calls whose age is watched, by their number.
    watched: BTreeMap<u64, (u64, Duration)>,
    /// kratos: what the last look gave, and when that was.
    cost: Cell<Option<(f64, Duration)>>,
}

/// A rule and what it knows.
pub(super) struct Reference {
    kind: Kind,
    nodes: Vec<Node>,
    calls: u64,
}

/// A call in flight.
pub(super) struct Ticket {
    id: String,
    call: u64,
    started: Duration,
}

/// What go-zero and kratos count as the best.
const SUCCESS_MAX: f64 = 1000.0;

/// Below it go-zero draws again.
const SUCCESS_HEALTHY: f64 = 500.0;

/// Places for calls whose age kratos watches; a call whose place is taken is not.
const WATCHED_MAX: u64 = 200;

/// How long kratos believes what it computed.
const CACHED: Duration = Duration::from_millis(5);

/// kratos' load of an instance without samples, for each call in flight.
const PENALTY: f64 = 100_000.0;

/// What kratos adds to a latency, in nanoseconds.
const ZONES: f64 = 5e6;

/// What linkerd records for a failure, at least; and what it assumes before the first sample.
const LINKERD_FAILURE: Duration = Duration::from_secs(5);
const LINKERD_SEED: Duration = Duration::from_secs(1);

fn nanos(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

impl Reference {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            nodes: Vec::new(),
            calls: 0,
        }
    }

    pub(super) fn apply(&mut self, ids: impl Iterator<Item = String>) {
        for id in ids {
            if self.nodes.iter().all(|node| node.id != id) {
                self.nodes.push(Node {
                    id,
                    success: SUCCESS_MAX,
                    ..Node::default()
                });
            }
        }
    }

    pub(super) fn pick(&mut self, now: Duration, rng: &mut SmallRng) -> (String, Ticket) {
        let draws = match self.kind {
            Kind::GoZero => 3,
            Kind::Kratos | Kind::Linkerd => 1,
        };
        let mut pair = self.two(rng);
        for _ in 1..draws {
            let healthy = |place: usize| self.nodes[place].success > SUCCESS_HEALTHY;
            if healthy(pair.0) && healthy(pair.1) {
                break;
            }
            pair = self.two(rng);
        }
        let (a, b) = pair;
        let (winner, loser) = match self.cost(b, now) < self.cost(a, now) {
            true => (b, a),
            false => (a, b),
        };
        let force = match self.kind {
            Kind::Kratos => Some(Duration::from_secs(3)),
            Kind::GoZero => Some(Duration::from_secs(1)),
            Kind::Linkerd => None,
        };
        let picked = self.nodes[loser].picked;
        let waits = |force| picked.is_none_or(|at| now.saturating_sub(at) > force);
        let chosen = match force.is_some_and(waits) {
            true => loser,
            false => winner,
        };
        self.calls += 1;
        let node = &mut self.nodes[chosen];
        node.picked = Some(now);
        node.in_flight.insert(self.calls, now);
        node.calls += 1;
        let watched = node.watched.entry(node.calls % WATCHED_MAX);
        watched.or_insert((self.calls, now));
        let ticket = Ticket {
            id: node.id.clone(),
            call: self.calls,
            started: now,
        };
        (node.id.clone(), ticket)
    }

    pub(super) fn done(&mut self, ticket: Ticket, failed: bool, now: Duration) {
        let Some(node) = self.nodes.iter_mut().find(|node| node.id == ticket.id) else {
            return;
        };
        node.in_flight.remove(&ticket.call);
        node.watched.retain(|_, (call, _)| *call != ticket.call);
        let sample = now.saturating_sub(ticket.started);
        let tau = match self.kind {
            Kind::Kratos => Duration::from_millis(600),
            Kind::GoZero | Kind::Linkerd => Duration::from_secs(10),
        };
        let since = now.saturating_sub(node.sampled.unwrap_or_default());
        let kept = match node.sampled {
            Some(_) => (-since.as_secs_f64() / tau.as_secs_f64()).exp(),
            None => 0.0,
        };
        node.sampled = Some(now);
        match self.kind {
            Kind::Kratos | Kind::GoZero => {
                let success = if failed { 0.0 } else { SUCCESS_MAX };
                node.lag = node.lag * kept + nanos(sample) * (1.0 - kept);
                node.success = node.success * kept + success * (1.0 - kept);
            }
            Kind::Linkerd => {
                let sample = match failed {
                    true => sample.max(LINKERD_FAILURE),
                    false => sample,
                };
                let sample = nanos(sample);
                node.lag = match sample > node.lag {
                    true => sample,
                    false => node.lag * kept + sample * (1.0 - kept),
                };
            }
        }
    }

    /// Calls in flight at an instance.
    pub(super) fn in_flight(&self, id: &str) -> usize {
        let node = self.nodes.iter().find(|node| node.id == id);
        node.map_or(0, |node| node.in_flight.len())
    }

    fn two(&self, rng: &mut SmallRng) -> (usize, usize) {
        let first = rng.random_range(0..self.nodes.len());
        let second = rng.random_range(0..self.nodes.len() - 1);
        (first, second + usize::from(second >= first))
    }

    fn cost(&self, place: usize, now: Duration) -> f64 {
        let node = &self.nodes[place];
        let in_flight = node.in_flight.len() as f64 + 1.0;
        match self.kind {
            Kind::Kratos => match node.cost.get() {
                Some((cost, at)) if now.saturating_sub(at) <= CACHED => cost,
                Some(_) | None => {
                    let cost = node.kratos_load(now) / (node.success * 1e4);
                    node.cost.set(Some((cost, now)));
                    cost
                }
            },
            Kind::GoZero => (node.lag + 1.0).sqrt().floor() * in_flight,
            Kind::Linkerd => {
                let seed = nanos(LINKERD_SEED);
                node.sampled.map_or(seed, |_| node.lag) * in_flight
            }
        }
    }
}

impl Node {
    fn kratos_load(&self, now: Duration) -> f64 {
        let in_flight = self.in_flight.len() as f64 + 1.0;
        if self.lag == 0.0 {
            return PENALTY * in_flight;
        }
        let ages = self.watched.values();
        let ages = ages.map(|(_, started)| nanos(now.saturating_sub(*started)));
        let over: Vec<f64> = ages.filter(|age| *age > self.lag).collect();
        let mean = over.iter().sum::<f64>() / over.len().max(1) as f64;
        let lag = match over.len() > self.watched.len() / 2 {
            true => mean.max(self.lag),
            false => self.lag,
        };
        (lag + ZONES).sqrt().floor() * in_flight
    }
}
