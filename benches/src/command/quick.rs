//! A change beside what was before it.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use framework::peers::target_dir;
use tokio::runtime::Runtime;

use super::full;
use crate::{
    load::Op,
    machine::{Machine, git},
    program,
    report::Results,
    rounds::{Contender, Rounds},
    subject::Subject,
};

/// The working tree beside the commit before it.
#[derive(Args, Debug)]
pub(crate) struct Quick {
    /// What to compare with; without it, the last commit if something is changed in the working tree, else the one before.
    #[arg(long)]
    before: Option<String>,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each cell is measured.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
}

const ONE_MEMBER: [(Op, usize); 9] = [
    (Op::Put, 1),
    (Op::Put, 64),
    (Op::Put, 1000),
    (Op::Get, 64),
    (Op::Get, 1000),
    (Op::Range, 64),
    (Op::Txn, 64),
    (Op::Swap, 64),
    (Op::Keepalive, 64),
];
const THREE_MEMBERS: [(Op, usize); 3] = [(Op::Put, 64), (Op::Put, 1000), (Op::Get, 64)];

impl Quick {
    /// Builds both, measures them in turn, prints the report and writes it below `target/`.
    pub(crate) fn run(self) -> Result<()> {
        let revision = self.before.clone().map_or_else(before, Ok)?;
        println!("building {revision} and the working tree");
        let before = Contender {
            subject: Subject::Before,
            program: Some(program::of_revision(&revision)?),
        };
        let contenders = vec![before, Contender::own(Subject::Catena)?];
        let began = Instant::now();
        let (runtime, machine) = (Runtime::new()?, Machine::look()?);
        let mut rounds = Rounds {
            runtime: &runtime,
            contenders,
            measured: Vec::new(),
        };
        let length = Duration::from_secs_f64(self.seconds);
        for round in 0..self.rounds {
            rounds.closed(round, 1, &ONE_MEMBER, length)?;
            rounds.closed(round, 3, &THREE_MEMBERS, length)?;
        }
        let results = Results {
            machine,
            against: vec![Subject::Before],
            cells: rounds.measured,
            scenarios: Vec::new(),
            minutes: full::minutes(began),
        };
        full::finish(&results, &target_dir().join("benches"), "quick")
    }
}

/// What the working tree is a change of.
fn before() -> Result<String> {
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(if changed { "HEAD" } else { "HEAD~1" }.to_owned())
}
