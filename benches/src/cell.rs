//! One cell of the table: one operation by so many clients, on servers that run.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    load::{Dataset, Load, Op, Outcome, Pace, Stop},
    process::Servers,
    subject::Subject,
};

/// What is asked in a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The operation.
    pub(crate) op: Op,
    /// By so many clients.
    pub(crate) clients: usize,
    /// Over so many connections.
    pub(crate) connections: usize,
    /// At this pace.
    pub(crate) pace: Pace,
    /// Before it is measured.
    pub(crate) warm_up: Duration,
    /// While it is measured.
    pub(crate) length: Duration,
}

/// What was measured in a cell, in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Whose servers.
    pub(crate) subject: Subject,
    /// How many.
    pub(crate) members: usize,
    /// The operation.
    pub(crate) op: Op,
    /// By so many clients.
    pub(crate) clients: usize,
    /// Requests a second that the timetable had, in an open loop.
    pub(crate) offered_per_sec: Option<f64>,
    /// Requests that were due and not sent by the end, in an open loop.
    pub(crate) late: u64,
    /// Requests a second that were answered.
    pub(crate) answered_per_sec: f64,
    /// Median latency in microseconds.
    pub(crate) p50_us: f64,
    /// The latency that 99 of 100 do not exceed.
    pub(crate) p99_us: f64,
    /// The latency that 999 of 1000 do not exceed.
    pub(crate) p999_us: f64,
    /// CPU of all servers for each answer.
    pub(crate) server_cpu_us: f64,
    /// CPU of the generator for each answer.
    pub(crate) generator_cpu_us: f64,
    /// Memory of all servers at the end.
    pub(crate) rss_bytes: u64,
}

impl Cell {
    /// Measures the cell. An answer that is an error fails it: it would be compared with an answer that is none.
    pub(crate) fn measure(
        &self,
        (subject, members): (Subject, usize),
        dataset: &Dataset,
        addresses: &[SocketAddr],
        servers: &Servers,
    ) -> Result<Figures> {
        let (op, clients) = (self.op, self.clients);
        let mut workload = op.workload(dataset, clients, addresses, servers)?;
        let load = Load {
            clients,
            connections: self.connections,
            pace: self.pace,
            warm_up: self.warm_up,
            stop: Stop::After(self.length),
        };
        let outcome = load.run(&mut *workload, addresses, servers)?;
        let (errors, answers) = (outcome.errors, outcome.answers);
        ensure!(errors == 0, "{errors} of {answers} answers were errors");
        ensure!(answers > 0, "nothing was answered");
        let offered_per_sec = match self.pace {
            Pace::Closed => None,
            Pace::Open { per_sec } => Some(per_sec),
        };
        let about = (subject, members, op, clients);
        Ok(Figures::new(about, offered_per_sec, &outcome))
    }
}

impl Figures {
    fn new(
        (subject, members, op, clients): (Subject, usize, Op, usize),
        offered_per_sec: Option<f64>,
        outcome: &Outcome,
    ) -> Self {
        let micros = |share| outcome.latencies.quantile(share).as_secs_f64() * 1e6;
        Self {
            subject,
            members,
            op,
            clients,
            offered_per_sec,
            late: outcome.late,
            answered_per_sec: outcome.per_sec(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
            p999_us: micros(0.999),
            server_cpu_us: outcome.server_micros(),
            generator_cpu_us: outcome.generator_micros(),
            rss_bytes: outcome.rss_bytes,
        }
    }
}

/// The line that is printed as soon as a cell is measured.
impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<10} {} · {:<21} · {:>4} clients: {:>8.0}/s · p50 {:>7.3} p99 {:>7.3} p99.9 {:>7.3} ms · \
             server {:>6.1} µs · generator {:>4.1} µs · {:>4} MiB",
            self.subject.title(),
            self.members,
            self.op.title(),
            self.clients,
            self.answered_per_sec,
            self.p50_us / 1e3,
            self.p99_us / 1e3,
            self.p999_us / 1e3,
            self.server_cpu_us,
            self.generator_cpu_us,
            self.rss_bytes >> 20,
        )?;
        match self.offered_per_sec {
            Some(per_sec) => write!(f, " · {per_sec:.0}/s offered, {} late", self.late),
            None => Ok(()),
        }
    }
}
