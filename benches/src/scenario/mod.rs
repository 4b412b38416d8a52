//! What is no throughput of an operation: watchers, a Kubernetes-shaped mix, memory and maintenance over a long history, snapshots.
//!
//! Each scenario is one file. It starts members of its own, one of them, and leaves [`Finding`]s, of which less is always better.

mod history;
mod kubernetes;
mod snapshot;
mod watch;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use tokio::runtime::Runtime;

use crate::{
    load::Outcome,
    report::Finding,
    rounds::Contender,
    subject::{Running, Subject},
};

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 1,000 watchers on one key, and 1,000 watched keys.
    Watch,
    /// Lists of 500, watches, updates by transaction, leases.
    Kubernetes,
    /// Start to ready, memory, compaction and defragmentation with 1,100,000 revisions.
    History,
    /// A snapshot of 1 GiB.
    Snapshot,
}

/// A contender whose scenarios are run.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    runtime: &'a Runtime,
    contender: Contender,
    findings: Vec<Finding>,
}

impl<'a> Scene<'a> {
    /// No scenario has been run yet.
    pub(crate) fn new(runtime: &'a Runtime, contender: Contender) -> Self {
        Self {
            runtime,
            contender,
            findings: Vec::new(),
        }
    }

    /// Runs scenarios; gives what was found.
    pub(crate) fn run(mut self, scenarios: &[Scenario]) -> Result<Vec<Finding>> {
        for scenario in scenarios {
            let run = match scenario {
                Scenario::Watch => watch::run(&mut self),
                Scenario::Kubernetes => kubernetes::run(&mut self),
                Scenario::History => history::run(&mut self),
                Scenario::Snapshot => snapshot::run(&mut self),
            };
            run.with_context(|| format!("{scenario:?} of {}", self.subject().title()))?;
        }
        Ok(self.findings)
    }

    fn subject(&self) -> Subject {
        self.contender.subject
    }

    fn start(&self) -> Result<Running> {
        let program = self.contender.program.clone();
        self.runtime.block_on(self.subject().start(1, program))
    }

    /// Notes a finding and prints it.
    fn found(&mut self, what: &str, value: f64, unit: &str) {
        println!("{:<10} {what}: {value:.1} {unit}", self.subject().title());
        self.findings.push(Finding {
            subject: self.subject(),
            what: what.to_owned(),
            value,
            unit: unit.to_owned(),
        });
    }
}

/// An outcome without errors.
fn good(outcome: Outcome) -> Result<Outcome> {
    let (errors, answers) = (outcome.errors, outcome.answers);
    ensure!(errors == 0, "{errors} of {answers} answers were errors");
    Ok(outcome)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
