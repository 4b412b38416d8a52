//! Clients in other languages, unchanged, against members that we can start.
//!
//! One program in each language holds one and the same conversation with a member: put, get, a transaction both ways, a lease that is
//! kept alive, a watch. The test makes the events, kills the member in between and starts it again, and reads what the program
//! says. Every program is proved on the real etcd 3.7.1. Our own client ([`own`]) is asked for more.
//!
//! What a program needs is fetched or built once into `target/peers`; where a tool is missing the test says so in one line and is
//! left out, except where `CI=true`.

mod conversation;
mod languages;
mod own;

use std::process::ExitCode;

use anyhow::Result;
use framework::{
    Target, leave_out,
    peers::{Missing, Release},
};
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

use self::languages::Language;

/// Ours, and the one that proves the programs.
const TARGETS: [Target; 2] = [Target::Catena, Target::Etcd(Release::V37)];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for target in TARGETS {
        for language in Language::ALL {
            let name = format!("{target}::{}", language.name());
            trials.push(trial(name, target, move |runtime| {
                let program = language.program()?;
                runtime.block_on(conversation::hold(target, &program))
            }));
        }
        for (fact, case) in own::CASES {
            let name = format!("{target}::own::{fact}");
            trials.push(trial(name, target, move |runtime| {
                runtime.block_on(case(target))
            }));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test that is left out if what it stands on is missing.
fn trial(
    name: String,
    target: Target,
    test: impl FnOnce(&Runtime) -> Result<()> + Send + 'static,
) -> Trial {
    Trial::test(name.clone(), move || {
        let runtime = Runtime::new()?;
        let result = target.program().and_then(|_| test(&runtime));
        if let Err(error) = result {
            let missing = error.downcast::<Missing>()?;
            leave_out(&name, &missing)?;
        }
        Ok(())
    })
}
