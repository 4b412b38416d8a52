//! What every etcd must answer, asked of each member we can start.
//!
//! One suite, written once. Each case is a function over a [`session::Session`]: a cluster that holds no key and no lease. The same
//! cases run on the real etcd 3.7.1, which proves the suite, and on Catena; a case's name in the output is
//! `<target>_<members>::<chapter>::<fact>`. Where Catena differs on purpose, the difference and its reason stand in
//! [`differences`].

mod auth;
mod cluster;
mod concurrency;
mod differences;
mod http;
mod kv_compact;
mod kv_delete;
mod kv_put;
mod kv_range;
mod kv_txn;
mod lease;
mod maintenance;
mod range_stream;
mod session;
mod watch;

use std::{process::ExitCode, sync::Arc};

use framework::{Pool, Target, peers::Release};
use libtest_mimic::{Arguments, Trial};
use session::Case;

fn main() -> ExitCode {
    let pools: Vec<_> = [
        (Target::Etcd(Release::V37), 1),
        (Target::Etcd(Release::V37), 3),
        (Target::InProcess, 1),
        (Target::Catena, 1),
        (Target::Catena, 3),
    ]
    .map(|(target, members)| Arc::new(Pool::new(target, members)))
    .into();
    let mut trials = Vec::new();
    for case in cases() {
        for pool in pools.iter().filter(|pool| case.runs_on(pool)) {
            let pool = pool.clone();
            let name = format!("{pool}::{}", case.name);
            trials.push(Trial::test(name, move || {
                case.run(&pool).map_err(|error| format!("{error:#}").into())
            }));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn cases() -> Vec<Case> {
    let chapters = [
        kv_range::cases(),
        kv_put::cases(),
        kv_delete::cases(),
        kv_compact::cases(),
        kv_txn::cases(),
        range_stream::cases(),
        watch::cases(),
        lease::cases(),
        cluster::cases(),
        maintenance::cases(),
        concurrency::cases(),
        auth::cases(),
        http::cases(),
    ];
    chapters.into_iter().flatten().collect()
}
