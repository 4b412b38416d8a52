//! A fleet in virtual time. Servers answer with a latency of their own, a few calls at once, the others queue; calls come at random
//! moments. All of it is seeded, so every figure asserted here is the same in each run.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
    fmt::{self, Display},
    sync::Arc,
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use self::reference::{Kind, Reference, Ticket};
use super::{Algorithm, Balancer, Class, Context, Options, Outcome, Token};
use crate::{Instance, ServiceName};

mod reference;

const SEED: u64 = 0x5eed_ba1a;

/// An instance with the defaults, its id in its address.
pub(super) fn instance(id: &str) -> Instance {
    let service = ServiceName::new("user").unwrap();
    let endpoint = format!("grpc://{id}:50051").parse().unwrap();
    Instance::new(service, id, vec![endpoint])
}

pub(super) fn fleet(count: usize) -> Vec<Arc<Instance>> {
    let ids = (0..count).map(|number| format!("i{number:04}"));
    ids.map(|id| Arc::new(instance(&id))).collect()
}

pub(super) fn secs(secs: f64) -> Duration {
    Duration::from_secs_f64(secs)
}

/// How a server behaves.
#[derive(Clone, Copy)]
struct Behaviour {
    latency: f64,
    fails: bool,
}

const NORMAL: Behaviour = Behaviour {
    latency: 0.010,
    fails: false,
};

/// Calls that a server works on at once.
const WORKERS: usize = 16;

struct Call {
    at: Duration,
    ticket: Picked,
}

/// Whose rule a fleet is called by.
#[derive(Clone, Copy, Debug)]
enum Whose {
    Ours(Algorithm),
    Theirs(Kind),
}

impl Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(algorithm) => algorithm.fmt(f),
            Self::Theirs(kind) => write!(f, "{kind:?}'s"),
        }
    }
}

/// The rules of others, beside which ours are shown.
const THEIRS: [Whose; 3] = [
    Whose::Theirs(Kind::Kratos),
    Whose::Theirs(Kind::GoZero),
    Whose::Theirs(Kind::Linkerd),
];

/// The balancer of a fleet.
enum Chooser {
    Ours(Box<Balancer>),
    Theirs(Reference),
}

/// What a balancer wants back when a call is over.
enum Picked {
    Ours(Token),
    Theirs(Ticket),
}

impl Chooser {
    fn new(whose: Whose) -> Self {
        match whose {
            Whose::Ours(algorithm) => Self::Ours(Box::new(Balancer::new(Options {
                algorithm,
                ..Options::default()
            }))),
            Whose::Theirs(kind) => Self::Theirs(Reference::new(kind)),
        }
    }

    fn apply(&mut self, fleet: &[Arc<Instance>], now: Duration) {
        match self {
            Self::Ours(balancer) => balancer.apply(fleet, now),
            Self::Theirs(reference) => {
                reference.apply(fleet.iter().map(|instance| instance.id.clone()));
            }
        }
    }

    fn pick(&mut self, now: Duration, rng: &mut SmallRng) -> (String, Picked) {
        match self {
            Self::Ours(balancer) => {
                let pick = balancer.pick(&Context::default(), now, rng).unwrap();
                (pick.instance.id.clone(), Picked::Ours(pick.token))
            }
            Self::Theirs(reference) => {
                let (id, ticket) = reference.pick(now, rng);
                (id, Picked::Theirs(ticket))
            }
        }
    }

    fn done(&mut self, picked: Picked, class: Class, now: Duration) {
        match (self, picked) {
            (Self::Ours(balancer), Picked::Ours(token)) => {
                balancer.done(token, Outcome::from(class), now);
            }
            (Self::Theirs(reference), Picked::Theirs(ticket)) => {
                reference.done(ticket, class == Class::Failure, now);
            }
            (Self::Ours(_), Picked::Theirs(_)) | (Self::Theirs(_), Picked::Ours(_)) => {
                unreachable!("a call ends where it began")
            }
        }
    }

    fn in_flight(&self, id: &str) -> usize {
        match self {
            Self::Ours(balancer) => {
                let mut slots = balancer.slots();
                let slot = slots.find(|slot| slot.instance.id == id);
                slot.map_or(0, |slot| slot.in_flight as usize)
            }
            Self::Theirs(reference) => reference.in_flight(id),
        }
    }
}

#[derive(Default)]
struct Server {
    working: usize,
    queue: VecDeque<Call>,
}

/// One finished call.
struct Record {
    at: Duration,
    id: String,
    latency: f64,
}

struct Simulation {
    chooser: Chooser,
    rng: SmallRng,
    behaviour: HashMap<String, Behaviour>,
    servers: HashMap<String, Server>,
    /// What ends when, and at which server.
    ends: BinaryHeap<Reverse<(Duration, u64, String)>>,
    working: HashMap<u64, Call>,
    next: u64,
    now: Duration,
    records: Vec<Record>,
}

impl Simulation {
    fn new(whose: Whose, count: usize) -> Self {
        let mut chooser = Chooser::new(whose);
        chooser.apply(&fleet(count), Duration::ZERO);
        Self {
            chooser,
            rng: SmallRng::seed_from_u64(SEED),
            behaviour: HashMap::new(),
            servers: HashMap::new(),
            ends: BinaryHeap::new(),
            working: HashMap::new(),
            next: 0,
            now: Duration::ZERO,
            records: Vec::new(),
        }
    }

    /// Lets `rate` calls a second come for that many seconds.
    fn run(&mut self, rate: f64, seconds: f64) {
        let end = self.now + secs(seconds);
        loop {
            let pause = -(1.0 - self.rng.random::<f64>()).ln() / rate;
            let arrival = self.now + secs(pause);
            self.advance(arrival.min(end));
            if arrival >= end {
                return;
            }
            self.arrive();
        }
    }

    fn advance(&mut self, until: Duration) {
        while let Some(Reverse((at, _, _))) = self.ends.peek()
            && *at <= until
        {
            let Some(Reverse((at, number, id))) = self.ends.pop() else {
                return;
            };
            self.now = at;
            self.finish(number, &id);
        }
        self.now = until;
    }

    fn arrive(&mut self) {
        let now = self.now;
        let (id, ticket) = self.chooser.pick(now, &mut self.rng);
        let call = Call { at: now, ticket };
        let server = self.servers.entry(id.clone()).or_default();
        if server.working < WORKERS {
            server.working += 1;
            self.start(call, id);
        } else {
            server.queue.push_back(call);
        }
    }

    fn start(&mut self, call: Call, id: String) {
        let latency = self.behaviour_of(&id).latency * self.rng.random_range(0.8..1.2);
        self.next += 1;
        self.ends
            .push(Reverse((self.now + secs(latency), self.next, id)));
        self.working.insert(self.next, call);
    }

    fn finish(&mut self, number: u64, id: &str) {
        let call = self.working.remove(&number).unwrap();
        let class = if self.behaviour_of(id).fails {
            Class::Failure
        } else {
            Class::Success
        };
        self.records.push(Record {
            at: call.at,
            id: id.to_owned(),
            latency: (self.now - call.at).as_secs_f64(),
        });
        self.chooser.done(call.ticket, class, self.now);
        let server = self.servers.get_mut(id).unwrap();
        match server.queue.pop_front() {
            Some(next) => self.start(next, id.to_owned()),
            None => server.working -= 1,
        }
    }

    fn behaviour_of(&self, id: &str) -> Behaviour {
        self.behaviour.get(id).copied().unwrap_or(NORMAL)
    }

    /// The 99th percentile of the latencies of calls that came after `from`.
    fn p99(&self, from: f64, only: impl Fn(&Record) -> bool) -> f64 {
        let records = self.records.iter();
        let chosen = records.filter(|record| record.at >= secs(from) && only(record));
        let mut latencies: Vec<f64> = chosen.map(|record| record.latency).collect();
        latencies.sort_by(f64::total_cmp);
        latencies[latencies.len() * 99 / 100]
    }

    /// The part of the calls that came between two moments that went to `id`.
    fn share(&self, id: &str, from: f64, to: f64) -> f64 {
        let within = |record: &&Record| (secs(from)..secs(to)).contains(&record.at);
        let all = self.records.iter().filter(within).count();
        let own = self.records.iter().filter(within);
        own.filter(|record| record.id == id).count() as f64 / all as f64
    }
}

/// One of ten instances is ten times slower: the whole fleet's p99 beside that of the other nine.
fn p99_with_a_slow_one(whose: Whose) -> f64 {
    let mut simulation = Simulation::new(whose, 10);
    let slow = Behaviour {
        latency: 0.100,
        ..NORMAL
    };
    simulation.behaviour.insert("i0003".to_owned(), slow);
    simulation.run(1000.0, 20.0);
    let ratio = simulation.p99(3.0, |_| true) / simulation.p99(3.0, |record| record.id != "i0003");
    println!("{whose}: p99 with a slow instance is {ratio:.2} times the fleet's");
    ratio
}

#[test]
fn slow_instance_does_not_show_in_p99() {
    assert!(p99_with_a_slow_one(Whose::Ours(Algorithm::P2cEwma)) <= 2.0);
    assert!(p99_with_a_slow_one(Whose::Ours(Algorithm::Random)) >= 8.0);
    for whose in THEIRS {
        p99_with_a_slow_one(whose);
    }
}

/// The part of the calls that an instance gets, three seconds on, which fails every call at once.
fn share_of_a_failing_one(whose: Whose) -> f64 {
    let mut simulation = Simulation::new(whose, 10);
    let failing = Behaviour {
        latency: 0.0001,
        fails: true,
    };
    simulation.behaviour.insert("i0003".to_owned(), failing);
    simulation.run(1000.0, 20.0);
    let share = simulation.share("i0003", 3.0, 20.0);
    let percent = share * 100.0;
    println!("{whose}: a fast-failing instance gets {percent:.3} %");
    share
}

#[test]
fn fast_failing_instance_gets_next_to_nothing() {
    for algorithm in Algorithm::ALL {
        let share = share_of_a_failing_one(Whose::Ours(algorithm));
        assert!(share <= 0.02, "{algorithm}: {share}");
    }
    for whose in THEIRS {
        share_of_a_failing_one(whose);
    }
}

/// How many of 10,000 calls an instance holds that stopped answering.
fn stuck_at_a_hanging_one(whose: Whose) -> usize {
    let mut simulation = Simulation::new(whose, 10);
    simulation.run(1000.0, 5.0);
    let hanging = Behaviour {
        latency: 1000.0,
        ..NORMAL
    };
    simulation.behaviour.insert("i0003".to_owned(), hanging);
    simulation.run(1000.0, 10.0);
    let stuck = simulation.chooser.in_flight("i0003");
    println!("{whose}: a hanging instance holds {stuck} of 10,000 calls");
    stuck
}

#[test]
fn hanging_instance_is_left_before_any_call_ends() {
    assert!(stuck_at_a_hanging_one(Whose::Ours(Algorithm::P2cEwma)) < 100);
    for whose in THEIRS {
        stuck_at_a_hanging_one(whose);
    }
}

/// The share of a new instance in its first three seconds, and after its slow start.
fn shares_of_a_cold_one(whose: Whose) -> (f64, f64) {
    let mut simulation = Simulation::new(whose, 9);
    simulation.run(1000.0, 10.0);
    simulation.chooser.apply(&fleet(10), simulation.now);
    simulation.run(1000.0, 60.0);
    let first = simulation.share("i0009", 10.0, 13.0) * 10.0;
    let then = simulation.share("i0009", 40.0, 70.0) * 10.0;
    println!("{whose}: a cold instance gets {first:.2}, then {then:.2} of its share");
    (first, then)
}

#[test]
fn cold_instance_comes_to_its_share() {
    for algorithm in [Algorithm::P2cEwma, Algorithm::Wrr, Algorithm::LeastRequest] {
        let (first, then) = shares_of_a_cold_one(Whose::Ours(algorithm));
        assert!(first < 0.6, "{algorithm}: {first}");
        assert!((0.75..1.25).contains(&then), "{algorithm}: {then}");
    }
    for whose in THEIRS {
        shares_of_a_cold_one(whose);
    }
}

#[test]
fn instance_that_recovers_is_taken_back() {
    let mut simulation = Simulation::new(Whose::Ours(Algorithm::P2cEwma), 10);
    let failing = Behaviour {
        latency: 0.0001,
        fails: true,
    };
    simulation.behaviour.insert("i0003".to_owned(), failing);
    simulation.run(1000.0, 10.0);
    simulation.behaviour.clear();
    simulation.run(1000.0, 120.0);
    let share = simulation.share("i0003", 90.0, 130.0) * 10.0;
    assert!(share > 0.5, "{share} of its share");
}
