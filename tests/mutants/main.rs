//! Defects put into a copy of the tree, to see that the tests convict them.
//!
//! A test kit that accuses nobody proves nothing. Each file `NN-name.patch` here is one small, plausible defect of production code;
//! its head says what it breaks, which guarantee that is, and which test convicts it with which words. Production code knows nothing
//! of them: they are applied to a copy of the tree, in `target/mutants`, one at a time.
//!
//! ```text
//! cargo test -p catena-tests --test mutants               all patches apply; four of them, by the commit's id, are convicted
//! cargo test -p catena-tests --test mutants -- --all      each of them is, and a table says by whom
//! cargo test -p catena-tests --test mutants -- --try 07   one or several of them are
//! ```
//!
//! A mutant is convicted when the test that it names fails, and says the words that it names, within a bound, and the same test
//! passes on the tree as it is. One that does not compile is an error: it would convict any defect.
//!
//! ```text
//!   working tree ──copied──▶ target/mutants/tree ──▶ every named test passes ──▶ patch, build, test, take back ──▶ the next one
//! ```

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, in its helpers too"
)]

mod cargo;
mod mutant;
mod pick;
mod report;
mod session;
mod tree;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use libtest_mimic::{Arguments, Trial};

use crate::{mutant::Mutant, report::Report, session::Session};

/// The fewest mutants that there may be.
const MUTANTS_MIN: usize = 24;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let asked = match args.first().map(String::as_str) {
        Some("--all") => by_hand(|_| true),
        Some("--try") => by_hand(|mutant| args[1..].contains(&mutant.number)),
        _ => return libtest_mimic::run(&Arguments::from_args(), checks()).exit_code(),
    };
    match asked {
        Ok(report) => {
            println!("{report}");
            ExitCode::from(u8::from(!report.all_convicted()))
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is run with all the other tests.
fn checks() -> Vec<Trial> {
    let trial = |name: &str, check: fn() -> Result<()>| {
        Trial::test(name, move || {
            check().map_err(|error| format!("{error:#}").into())
        })
    };
    vec![
        trial("heads_are_complete", heads_are_complete),
        trial("some_are_convicted", some_are_convicted),
    ]
}

fn heads_are_complete() -> Result<()> {
    let mutants = Mutant::all()?;
    let patches: BTreeSet<_> = mutants.iter().map(|mutant| &mutant.number).collect();
    let count = patches.len();
    if count < MUTANTS_MIN {
        bail!("{count} mutants, and there should be {MUTANTS_MIN} or more");
    }
    Ok(())
}

/// Those that the commit's id picks. All of them must apply before the first is tried.
fn some_are_convicted() -> Result<()> {
    let mutants = Mutant::all()?;
    let picked = pick::some(&root(), &mutants)?;
    let report = Session::begin(&root(), &target(), &mutants)?.convict(&picked)?;
    println!("{report}");
    match report.all_convicted() {
        true => Ok(()),
        false => bail!("not every mutant was convicted:\n{report}"),
    }
}

fn by_hand(wanted: impl Fn(&Mutant) -> bool) -> Result<Report> {
    let mutants = Mutant::all()?;
    let picked: Vec<&Mutant> = mutants.iter().filter(|mutant| wanted(mutant)).collect();
    if picked.is_empty() {
        bail!("there is no such mutant");
    }
    Session::begin(&root(), &target(), &mutants)?.convict(&picked)
}

/// The root of the workspace.
fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap()
}

/// Where cargo builds this workspace.
fn target() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent()
        .context("the folder for temporary files has a parent")
        .unwrap()
        .to_owned()
}
