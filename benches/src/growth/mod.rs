//! How the store grows: what its work costs when there is a hundred or a thousand times as much of something.
//!
//! Each kind of growth is one file. It starts members of its own, measures one subject and leaves [`Figure`]s. Where two states are
//! compared, with and without something, they take turns in [`beside`]: a machine that becomes slower decides nothing.

mod behind;
mod connections;
mod keys;
mod large;
mod leases;
mod log;
mod watchers;

mod beside;
mod cost;
mod place;
mod report;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use framework::Cluster;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::{machine::Machine, process, report::Spread, rounds::Contender, subject::Subject};

pub(crate) use report::{Figure, Goal, Report, Run};

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Growth {
    /// Keys: cost per put and memory.
    Keys,
    /// Watchers of keys that nobody touches.
    Watchers,
    /// Connections that lie idle.
    Connections,
    /// Leases.
    Leases,
    /// Values: of 1 MiB.
    Values,
    /// The log.
    Log,
    /// What a member has missed.
    Behind,
}

/// How much of each there is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Sizes {
    /// Try everything in small: all of it in under three minutes.
    #[arg(long)]
    pub(crate) short: bool,
    /// Numbers of keys, from the least to the most.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10000,1000000,10000000",
        default_value_if("short", "true", "1000,10000,100000")
    )]
    keys: Vec<usize>,
    /// Idle watchers.
    #[arg(
        long,
        default_value_t = 10_000,
        default_value_if("short", "true", "1000")
    )]
    watchers: usize,
    /// Idle connections.
    #[arg(
        long,
        default_value_t = 10_000,
        default_value_if("short", "true", "1000")
    )]
    connections: usize,
    /// Leases.
    #[arg(
        long,
        default_value_t = 100_000,
        default_value_if("short", "true", "6400")
    )]
    leases: usize,
    /// Puts of 1 MiB.
    #[arg(long, default_value_t = 1500, default_value_if("short", "true", "60"))]
    values: u64,
    /// MiB that are written to the log.
    #[arg(long, default_value_t = 10 << 10, default_value_if("short", "true", "200"))]
    log_mib: u64,
    /// Puts that a member misses.
    #[arg(
        long,
        default_value_t = 1_000_000,
        default_value_if("short", "true", "50000")
    )]
    behind: u64,
    /// How often what is compared is measured.
    #[arg(long, default_value_t = 5, default_value_if("short", "true", "2"))]
    rounds: usize,
    /// How long each time.
    #[arg(long, default_value_t = 2.0, default_value_if("short", "true", "0.4"))]
    seconds: f64,
}

impl Sizes {
    fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// A subject on which growth is measured.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    runtime: &'a Runtime,
    contender: &'a Contender,
    sizes: &'a Sizes,
    figures: Vec<Figure>,
    remarks: Vec<String>,
}

impl<'a> Stage<'a> {
    /// Measures one growth of one subject.
    pub(crate) fn run(
        growth: Growth,
        contender: &'a Contender,
        runtime: &'a Runtime,
        sizes: &'a Sizes,
    ) -> Result<Run> {
        let began = Instant::now();
        let machine = Machine::look()?;
        let mut stage = Self {
            runtime,
            contender,
            sizes,
            figures: Vec::new(),
            remarks: Vec::new(),
        };
        let run = match growth {
            Growth::Keys => keys::run(&mut stage),
            Growth::Watchers => watchers::run(&mut stage),
            Growth::Connections => connections::run(&mut stage),
            Growth::Leases => leases::run(&mut stage),
            Growth::Values => large::run(&mut stage),
            Growth::Log => log::run(&mut stage),
            Growth::Behind => behind::run(&mut stage),
        };
        run.with_context(|| format!("{growth:?} of {}", contender.subject.title()))?;
        Ok(Run {
            growth,
            subject: contender.subject,
            machine,
            short: sizes.short,
            minutes: began.elapsed().as_secs_f64() / 60.0,
            figures: stage.figures,
            remarks: stage.remarks,
        })
    }

    fn subject(&self) -> Subject {
        self.contender.subject
    }

    /// Starts new members.
    fn start(&self, members: usize, flags: &[&str]) -> Result<Cluster> {
        let program = self.contender.program.clone();
        let start = self.subject().start_cluster(members, program, flags);
        self.runtime.block_on(start)
    }

    /// Says what is being done, for who waits.
    fn progress(&self, what: &str) {
        eprintln!("{} … {what}", self.subject().title());
    }

    /// Says what a reader of the figures must know.
    fn remark(&mut self, what: impl Into<String>) {
        self.remarks.push(what.into());
    }

    /// Notes a figure and prints it.
    fn found(&mut self, what: &str, unit: &str, value: f64) {
        let spread = Spread {
            median: value,
            low: value,
            high: value,
        };
        self.note(what, unit, spread, None);
    }

    /// Notes a figure that has a goal.
    fn reached(&mut self, what: &str, unit: &str, value: f64, goal: Goal) {
        self.found(what, unit, value);
        if let Some(figure) = self.figures.last_mut() {
            figure.goal = Some(goal);
        }
    }

    /// Notes a figure that was measured in several rounds; nothing if there was none.
    fn spread(&mut self, what: &str, unit: &str, values: Vec<f64>, goal: Option<Goal>) {
        if let Some(spread) = Spread::of(values) {
            self.note(what, unit, spread, goal);
        }
    }

    fn note(&mut self, what: &str, unit: &str, value: Spread, goal: Option<Goal>) {
        let figure = Figure {
            what: what.to_owned(),
            unit: unit.to_owned(),
            value,
            goal,
        };
        println!("{:<10} {figure}", self.subject().title());
        self.figures.push(figure);
    }
}

/// Connections of one process beside those of a load, and what else it has open.
fn allow_connections(count: usize) -> Result<()> {
    const BESIDE: u64 = 1000;
    process::allow_files(count as u64 + BESIDE)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn kib(bytes: f64) -> f64 {
    bytes / 1024.0
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Digits in groups, as a reader counts.
fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups = groups.map(|group| String::from_utf8_lossy(group).into_owned());
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_grouped() {
        for (count, text) in [
            (7, "7"),
            (123, "123"),
            (1000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(super::grouped(count), text);
        }
    }
}
