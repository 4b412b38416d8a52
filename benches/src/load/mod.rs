//! The load generator.
//!
//! - [`Load`]: how many clients ask, over how many connections, at which pace and for how long;
//! - [`Workload`]: what they ask for; [`Op`] names the ones of the benchmark's table, [`Fan`] and [`Mix`] are those of scenarios,
//!   [`Scattered`] is for more keys than requests could be encoded ahead;
//! - [`Idle`]: connections and watchers that ask for nothing, beside a load;
//! - [`Outcome`]: throughput, latencies, and what it cost the servers and the generator.
//!
//! One thread drives all connections: on two cores, more would take from the servers what they measure. A *closed* loop sends a
//! client's next request when the one before is answered, and finds the highest throughput; its latencies are those of a server at
//! its limit. An *open* loop sends by a timetable, whether or not answers come, and counts latency from the moment at which a request
//! was due: what waits in the generator, because the server is slow, is waiting too.

mod requests;
mod workload;

mod fan;
mod idle;
mod mix;
mod op;
mod scattered;

mod drive;

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;

use crate::{
    histogram::Histogram,
    process::{Servers, Used},
};

pub(crate) use fan::Fan;
pub(crate) use idle::Idle;
pub(crate) use mix::Mix;
pub(crate) use op::{Dataset, Op, grants, renewals};
pub(crate) use requests::{Keys, Requests, value};
pub(crate) use scattered::Scattered;
pub(crate) use workload::{Cycle, Workload};

use op::{PUT, RANGE};
use requests::{Swap, put};
use workload::AnsweredBy;

/// When clients ask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// Each when its last request is answered.
    Closed,
    /// By a timetable, evenly.
    Open {
        /// Requests in a second, of all clients together.
        per_sec: f64,
    },
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// After a time, from the end of the warm-up.
    After(Duration),
    /// After so many answers.
    Answers(u64),
}

/// How many clients ask, and how.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// Clients, each with at most one request in flight.
    pub(crate) clients: usize,
    /// Connections that they share evenly.
    pub(crate) connections: usize,
    /// When they ask.
    pub(crate) pace: Pace,
    /// A time at the beginning that is not measured.
    pub(crate) warm_up: Duration,
    /// When it ends.
    pub(crate) stop: Stop,
}

/// What a load has measured.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Requests answered.
    pub(crate) answers: u64,
    /// Those of them that were answered with an error, or not as they should.
    pub(crate) errors: u64,
    /// Requests that were due and not sent by the end, in an open loop.
    pub(crate) late: u64,
    /// From due to answered.
    pub(crate) latencies: Histogram,
    /// Time and CPU.
    pub(crate) used: Used,
    /// Memory of all servers at the end.
    pub(crate) rss_bytes: u64,
}

impl Load {
    /// A closed loop with as many connections as real clients of that number would share.
    pub(crate) fn closed(clients: usize, stop: Stop) -> Self {
        Self {
            clients,
            connections: connections(clients),
            pace: Pace::Closed,
            warm_up: Duration::ZERO,
            stop,
        }
    }

    /// Runs it against the servers at these addresses.
    pub(crate) fn run(
        &self,
        workload: &mut dyn Workload,
        addresses: &[SocketAddr],
        servers: &Servers,
    ) -> Result<Outcome> {
        drive::run(self, workload, addresses, servers)
    }
}

/// Connections for a number of clients: a few requests in flight on each, and at most 100 in all.
pub(crate) fn connections(clients: usize) -> usize {
    match clients {
        0..4 => clients,
        4..400 => clients.div_ceil(4),
        _ => 100,
    }
}

impl Outcome {
    /// Answers in a second.
    pub(crate) fn per_sec(&self) -> f64 {
        self.answers as f64 / self.used.time.as_secs_f64()
    }

    /// CPU of all servers for each answer, in microseconds.
    pub(crate) fn server_micros(&self) -> f64 {
        self.used.servers.as_secs_f64() * 1e6 / self.answers as f64
    }

    /// CPU of the generator for each answer, in microseconds.
    pub(crate) fn generator_micros(&self) -> f64 {
        self.used.own.as_secs_f64() * 1e6 / self.answers as f64
    }
}
