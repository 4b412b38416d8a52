//! The whole comparison.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::{Args, ValueEnum};
use tokio::runtime::Runtime;

use crate::{
    load::Op,
    machine::Machine,
    report::{Results, markdown},
    rounds::{Contender, Rounds},
    scenario::{Scenario, Scene},
    subject::Subject,
};

/// The whole comparison.
#[derive(Args, Debug)]
pub(crate) struct Full {
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each cell is measured.
    #[arg(long, default_value_t = 2.2)]
    seconds: f64,
    /// Where the report goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    output: PathBuf,
}

/// Puts and reads of one key at all numbers of clients, the others at three.
const CELLS: [(Op, &[usize]); 7] = [
    (Op::Put, &[1, 16, 64, 256, 1000]),
    (Op::Get, &[1, 16, 64, 256, 1000]),
    (Op::GetSerializable, &[1, 16, 64, 256, 1000]),
    (Op::Range, &[1, 64, 1000]),
    (Op::Txn, &[1, 64, 1000]),
    (Op::Swap, &[1, 64, 1000]),
    (Op::Keepalive, &[1, 64, 1000]),
];
/// Loads that are offered, as shares of what the better peer reaches when its clients wait for answers.
const SHARES: [f64; 6] = [0.2, 0.45, 0.7, 0.9, 1.2, 1.6];

/// In the order of the first round.
const SUBJECTS: [Subject; 4] = [
    Subject::Catena,
    Subject::Etcd37,
    Subject::Etcd35,
    Subject::Floor,
];
/// The report's name.
const NAME: &str = "full";

impl Full {
    /// Measures all, prints the report and writes it: after each round and each store, so that what goes wrong at the end takes
    /// nothing of what was found before.
    pub(crate) fn run(self) -> Result<()> {
        let contenders = SUBJECTS.map(Contender::own);
        let contenders: Vec<_> = contenders.into_iter().collect::<Result<_>>()?;
        let began = Instant::now();
        let runtime = Runtime::new()?;
        let mut results = Results {
            machine: Machine::look()?,
            against: Subject::PEERS.to_vec(),
            cells: Vec::new(),
            scenarios: Vec::new(),
            minutes: 0.0,
        };
        let mut rounds = Rounds {
            runtime: &runtime,
            contenders: contenders.clone(),
            measured: Vec::new(),
        };
        for round in 0..self.rounds {
            println!("round {} of {}", round + 1, self.rounds);
            self.round(round, &mut rounds)?;
            results.cells.clone_from(&rounds.measured);
            results.minutes = minutes(began);
            results.write(&self.output, NAME)?;
        }
        for contender in contenders {
            if contender.subject != Subject::Floor {
                let scene = Scene::new(&runtime, contender);
                let found = scene.run(Scenario::value_variants())?;
                results.scenarios.extend(found);
                results.minutes = minutes(began);
                results.write(&self.output, NAME)?;
            }
        }
        finish(&results, &self.output, NAME)
    }

    fn round(&self, round: usize, rounds: &mut Rounds<'_>) -> Result<()> {
        let cells = CELLS.map(|(op, clients)| clients.iter().map(move |clients| (op, *clients)));
        let cells: Vec<_> = cells.into_iter().flatten().collect();
        let length = Duration::from_secs_f64(self.seconds);
        rounds.closed(round, 1, &cells, length)?;
        rounds.closed(round, 3, &cells, length)?;
        rounds.open(round, &[Op::Put, Op::Get], &SHARES, length)
    }
}

/// Minutes since a moment.
pub(super) fn minutes(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() / 60.0
}

/// Prints a report and writes it.
pub(super) fn finish(results: &Results, dir: &Path, name: &str) -> Result<()> {
    results.write(dir, name)?;
    println!("\n{}\nwritten to {}", markdown(results), dir.display());
    Ok(())
}
