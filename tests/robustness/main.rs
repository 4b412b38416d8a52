//! Faults on real processes.
//!
//! A run is a cluster of one or three members under a mixed load, to which one or several faults are done, each of which must be
//! proven to have taken place. What every client and watcher saw is recorded and judged by two judges; the members must be equal
//! at the end, and hold the same after a restart of all.
//!
//! ```text
//! cargo test -p catena-tests --test robustness                     the 24 runs of CI
//! cargo test -p catena-tests --test robustness -- --runs 300       drawn runs, by hand
//! … -- --runs 10 --target etcd-3.5.1 --fault powercut-slow-fsync --members 1
//! … -- --runs 1 --fault kill-leader --seed 7 --keep /tmp/kept      histories and logs of runs that did not pass
//! ```
//!
//! - [`fault`]: the faults, each with its proof;
//! - [`machine`]: disks that lose power, networks of their own, system calls that fail;
//! - [`load`]: clients and watchers;
//! - [`ground`]: a cluster under load, and what was done to it;
//! - [`run`]: one run from start to verdict; [`plan`]: which runs there are; [`summary`]: the table.
//!
//! It needs root and some programs; without them all is left out, in one line. Everything that a run makes on the machine goes with
//! the value that stands for it, also in a panic, and the program fails if something stayed.

#![allow(clippy::print_stdout, reason = "the table is what the program is for")]

mod arguments;
mod fault;
mod ground;
mod load;
mod machine;
mod plan;
mod run;
mod summary;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Result, bail};
use framework::{Left, leave_out, peers::target_dir};
use libtest_mimic::Trial;
use parking_lot::Mutex;

use arguments::Arguments;
use run::{Ending, Plan, Report};
use summary::Summary;

/// Runs of CI beside each other: what one waits for leaves the processors to the other.
const AT_ONCE: usize = 2;

/// Characters of a proof that are shown.
const PROOF_SHOWN: usize = 400;

fn main() -> ExitCode {
    machine::sweep();
    let words: Vec<_> = std::env::args().skip(1).collect();
    let ended = match Arguments::parse(&words) {
        Ok(Some(arguments)) => by_hand(&arguments),
        Ok(None) => return ci(),
        Err(error) => Err(error),
    };
    match ended.and_then(|all_well| clean().map(|()| all_well)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The runs of CI, as tests.
fn ci() -> ExitCode {
    let summary = Arc::new(Mutex::new(Summary::default()));
    let trials = plan::ci().into_iter().map(|plan| {
        let summary = summary.clone();
        Trial::test(plan.name(), move || {
            let ended = test(&plan, &summary);
            ended.map_err(|error| format!("{error:#}").into())
        })
    });
    let mut arguments = libtest_mimic::Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(AT_ONCE));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    summary.lock().print();
    match clean() {
        Ok(()) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test(plan: &Plan, summary: &Mutex<Summary>) -> Result<()> {
    if let Some(missing) = machine::missing() {
        return leave_out("faults on real processes", &missing).map(|Left::Out| ());
    }
    let keep = (!plan.loses()).then(|| target_dir().join("robustness"));
    let report = valid(plan, keep)?;
    summary.lock().add(plan, &report);
    match (&report.ending, plan.loses()) {
        (Ending::Passed, false) | (Ending::Convicted(_), true) => Ok(()),
        (Ending::Passed, true) => bail!("the judges find nothing, and they must: the disk lied"),
        (Ending::Convicted(why), false) => bail!("seed {}: {why}", plan.seed),
        (Ending::Invalid(why), _) => bail!("seed {}, twice: {why}", plan.seed),
    }
}

/// Runs a plan; a run that says nothing is made once more.
fn valid(plan: &Plan, keep: Option<PathBuf>) -> Result<Report> {
    let report = run::run(plan, keep.as_deref())?;
    let Ending::Invalid(why) = &report.ending else {
        return Ok(report);
    };
    eprintln!("{} says nothing and is made again: {why}", plan.name());
    run::run(plan, keep.as_deref())
}

/// Runs by hand; gives whether all passed, or, of a disk that lies, were convicted.
fn by_hand(arguments: &Arguments) -> Result<bool> {
    if let Some(missing) = machine::missing() {
        bail!("{missing}");
    }
    let mut summary = Summary::default();
    let mut all_well = true;
    for number in 0..arguments.runs {
        let plan = plan::by_hand(arguments, number)?;
        let report = valid(&plan, arguments.keep.clone())?;
        let (said, well) = match &report.ending {
            Ending::Passed => ("passed".to_owned(), !plan.loses()),
            Ending::Convicted(why) => (format!("CONVICTED: {why}"), plan.loses()),
            Ending::Invalid(why) => (format!("INVALID: {why}"), false),
        };
        println!(
            "{} seed {}: {} operations in {:.0?}, {said}",
            plan.name(),
            plan.seed,
            report.operations,
            report.took
        );
        for proven in &report.proven {
            let proof: String = proven.proof.chars().take(PROOF_SHOWN).collect();
            println!("  {}: {proof}", proven.name);
        }
        all_well &= well;
        summary.add(&plan, &report);
    }
    summary.print();
    Ok(all_well)
}

/// Fails if a run left something on the machine.
fn clean() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let left = runtime.block_on(machine::leftovers());
    if left.is_empty() {
        return Ok(());
    }
    bail!("left on the machine:\n{}", left.join("\n"))
}
