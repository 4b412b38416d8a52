//! Members in one thread on virtual time, with a disk that forgets what was not synced and a network that drops and delays.
//!
//! Each run draws all its chances from one seed, and the same seed gives the same run, event for event. A failure prints the seed and
//! the command that runs it again; that command, with `--trace`, tells what happened. `--seeds N --from S` runs others than those
//! that always run.

#![allow(clippy::unwrap_used, reason = "a test")]

mod world;

mod disk;
mod network;

mod cluster;

mod clients;
mod invariants;

mod cluster_faults;

mod cluster_gate;
mod cluster_test;
mod disk_test;
mod engine_test;
mod network_test;
mod succession_test;
mod wal_test;
mod world_test;

use std::process::ExitCode;

use libtest_mimic::Trial;

/// The name of a test, and the test.
type Case = (&'static str, fn());

fn main() -> ExitCode {
    let arguments = world::read_arguments();
    let trials = cases().into_iter().map(|(name, run)| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// The longest first, so that the others run beside it.
fn cases() -> Vec<Case> {
    let chapters = [
        cluster_test::cases(),
        cluster_gate::cases(),
        succession_test::cases(),
        wal_test::cases(),
        engine_test::cases(),
        disk_test::cases(),
        network_test::cases(),
        world_test::cases(),
    ];
    chapters.into_iter().flatten().collect()
}
