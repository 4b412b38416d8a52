//! A change beside what was before it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use framework::{Target, peers::target_dir};
use tokio::runtime::Runtime;

use super::full;
use crate::{
    load::Op,
    machine::{Machine, git},
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
        let (before, now) = (build(&revision)?, Target::Catena.program()?);
        let began = Instant::now();
        let (runtime, machine) = (Runtime::new()?, Machine::look()?);
        let contender = |subject, program| Contender {
            subject,
            program: Some(program),
        };
        let mut rounds = Rounds {
            runtime: &runtime,
            contenders: vec![
                contender(Subject::Before, before),
                contender(Subject::Catena, now),
            ],
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

/// Builds our binary of a revision, in a working tree and a target directory that stay, so that the next build has little to do.
fn build(revision: &str) -> Result<PathBuf> {
    let target = target_dir().join("before");
    fs::create_dir_all(&target)?;
    let target = target.canonicalize()?;
    let tree = target.join("tree");
    check_out(revision, &tree)?;
    let status = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--release",
            "--package",
            "catena",
            "--target-dir",
        ])
        .arg(&target)
        .current_dir(&tree)
        .status()
        .context("cargo cannot be run")?;
    ensure!(status.success(), "{revision} does not build");
    Ok(target.join("release/catena"))
}

fn check_out(revision: &str, tree: &Path) -> Result<()> {
    let commit = git(&["rev-parse", "--verify", &format!("{revision}^{{commit}}")])?;
    let path = tree.display().to_string();
    if tree.exists() {
        git(&[
            "-C", &path, "checkout", "--quiet", "--detach", "--force", &commit,
        ])?;
    } else {
        git(&[
            "worktree", "add", "--quiet", "--detach", "--force", &path, &commit,
        ])?;
    }
    Ok(())
}
