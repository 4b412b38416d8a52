//! Real processes and the tools of real users.
//!
//! - `cli`, `cli_watch`, `cli_lease`, `cli_operations`: etcdctl 3.7.1, 3.5.1 and 3.4, unchanged;
//! - `membership`: bootstrap in any order, members that join, leave and come back;
//! - `snapshot`: backups of either store, restored into either;
//! - `failure`: what users see while members are missing, stop or start;
//! - `damage`: damaged, missing and foreign files, a full disk, and whether what the member says about it helps;
//! - `live`: services that are told something else while they run;
//! - `services`: the user service and the gateway on either store, in any number of processes;
//! - `doctor`: what `catena doctor` says of a fit machine and of planted faults;
//! - `readme`: the sessions that README.md shows;
//! - `kill`: SIGKILL under load, and every acknowledged write afterwards.
//!
//! A test's name is `<target>_<members>::<chapter>::<fact>`, with `/<version>` of etcdctl where that is what varies. The same tests
//! run on the real etcd, which proves them, and on Catena.

mod case;
mod cli;
mod cli_lease;
mod cli_operations;
mod cli_watch;
mod damage;
mod doctor;
mod failure;
mod kill;
mod live;
mod membership;
mod mount;
mod readme;
mod repair;
mod services;
mod snapshot;

use std::{process::ExitCode, sync::Arc};

use case::Case;
use framework::{Pool, Target, peers::Release};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let targets = [Target::Catena, Target::Etcd(Release::V37)];
    let pools: Vec<_> = targets
        .into_iter()
        .flat_map(|target| [1, 3].map(|members| Arc::new(Pool::new(target, members))))
        .collect();
    let mut trials = Vec::new();
    for case in cases() {
        for pool in pools.iter().filter(|pool| case.runs_on(pool)) {
            for release in case.releases() {
                let (pool, release) = (pool.clone(), *release);
                let name = case.title(&pool, release);
                trials.push(Trial::test(name, move || {
                    case.run(&pool, release)
                        .map_err(|error| format!("{error:#}").into())
                }));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The slowest first, so that the others run beside them.
fn cases() -> Vec<Case> {
    let chapters = [
        kill::cases(),
        services::cases(),
        doctor::cases(),
        readme::cases(),
        live::cases(),
        damage::cases(),
        cli_operations::cases(),
        membership::cases(),
        snapshot::cases(),
        failure::cases(),
        cli::cases(),
        cli_watch::cases(),
        cli_lease::cases(),
    ];
    chapters.into_iter().flatten().collect()
}
