//! `catena up`: a cluster on this machine from one command.
//!
//! ```text
//! catena up ─┬─ catena run user gateway --registry=embedded --name infra1 …   stdin: a pipe held by `up`; stderr: <data-dir>/infra1.log
//!            ├─ catena run user gateway --registry=embedded --name infra2 …
//!            └─ catena run user gateway --registry=embedded --name infra3 …
//!
//! catena up --etcd PATH|ENDPOINTS ─┬─ etcd --name infra1 …   three of them, with PATH
//!                                  └─ catena run user gateway --endpoints …   three of them
//! ```
//!
//! Each member carries the services, which register in the cluster and find one another there; with `--members-only` it is a
//! `catena server` and nothing else. With `--etcd` the same services run on a real etcd.
//!
//! The members are processes of this same executable, in process groups of their own, so that Ctrl-C reaches only `up`, which then
//! stops them in order: first all services leave, which takes a store with a quorum, then the members stop. A member stops when its
//! pipe closes: that is how `up` asks it to, and what happens by itself when `up` is killed. A real etcd knows no such pipe: it gets
//! SIGTERM from `up`, and stays if `up` is killed. A member that dies is started again, after a pause that grows while it keeps dying;
//! one that the cluster has removed or refuses is left down, since only its user can bring it back.

mod last_words;
mod plan;
mod report;
mod watch;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use tokio::{
    sync::{mpsc, watch as channel},
    time::{Instant, sleep_until},
};

use self::{
    plan::Plan,
    watch::{Event, STOP_MAX, Stop},
};
use crate::shutdown::Requests;

/// Events that may wait for the terminal: a few for each of at most fourteen processes, so that none of them waits for it in turn.
const EVENTS_MAX: usize = 32;

/// What `catena up` can be told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the members keep their data and logs.
    #[arg(long, value_name = "DIR", default_value = "./catena-data")]
    data_dir: PathBuf,

    /// How many members; 3 if there is no data yet.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=7))]
    members: Option<u8>,

    /// Engine that keeps the applied state of new members.
    #[arg(long, value_name = "ENGINE", default_value = "redb", value_parser = ["redb", "sled"])]
    storage_engine: String,

    /// Port of the first member's clients; the others' lie 20000 above it and on in steps of 10000, peer ports one above each.
    #[arg(long, value_name = "PORT", default_value_t = plan::FIRST_PORT)]
    first_port: u16,

    /// Port of the first gateway, for HTTP; the others' follow it.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,

    /// Port of the first user service, for gRPC; the others' follow it.
    #[arg(long, value_name = "PORT", default_value_t = 50051)]
    grpc_port: u16,

    /// Only the members, without the services.
    #[arg(long, conflicts_with = "etcd")]
    members_only: bool,

    /// Run the services on a real etcd: a program, of which members are started, or the endpoints of one that runs.
    #[arg(long, value_name = "PATH|ENDPOINTS")]
    etcd: Option<String>,
}

/// Runs the cluster until a signal, then stops it.
pub(crate) fn main(options: Options) -> Result<ExitCode> {
    let plan = Plan::new(&options)?;
    plan.check_ports()?;
    plan.prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(plan))
}

async fn run(plan: Plan) -> Result<ExitCode> {
    let mut requests = Requests::listen().context("cannot listen for signals")?;
    let sockets = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (events, mut received) = mpsc::channel(EVENTS_MAX);
    let (stop, stop_seen) = channel::channel(Stop::Run);
    crate::print(&report::starting(&plan));
    let mut members = tokio::task::JoinSet::new();
    let processes = plan.processes();
    for process in &processes {
        let socket = sockets.path().join(&process.name);
        let watch = watch::Watch::new(
            process.clone(),
            &socket,
            events.clone(),
            stop_seen.clone(),
            plan.founded,
        )?;
        members.spawn(watch.run());
    }
    drop(events);
    let mut waiting_for: Vec<&str> = processes.iter().map(|one| one.name.as_str()).collect();
    let mut out: Vec<String> = Vec::new();
    // Whose services have still to leave, and until when that is waited for.
    let mut leaving: Vec<&str> = Vec::new();
    let mut leave_by = None;
    loop {
        let told = *stop.borrow();
        if told == Stop::Draining && leaving.is_empty() {
            stop.send_replace(Stop::Cleanly);
        }
        tokio::select! {
            event = received.recv() => match event {
                Some(event) => {
                    crate::print(&report::event(&plan, &event));
                    if let Event::Drained { name } | Event::Stopped { name, .. } | Event::Out { name, .. } = &event {
                        leaving.retain(|leaving| leaving != name);
                    }
                    let was_waiting = !waiting_for.is_empty();
                    if let Event::Ready { name, .. } | Event::Out { name, .. } = &event {
                        waiting_for.retain(|waiting| waiting != name);
                    }
                    if let Event::Out { name, .. } = event {
                        out.push(name);
                    }
                    if was_waiting && waiting_for.is_empty() && out.len() < processes.len() {
                        crate::print(&report::ready(&plan, &out));
                    }
                }
                None => break,
            },
            request = requests.next() => {
                let next = match told {
                    Stop::Run => Stop::Draining,
                    Stop::Draining | Stop::Cleanly | Stop::Now => Stop::Now,
                };
                if next == Stop::Draining {
                    let services = processes.iter().filter(|one| one.has_services);
                    leaving = services.map(|one| one.name.as_str()).collect();
                    leaving.retain(|name| !out.iter().any(|out| out == name));
                    leave_by = Some(Instant::now() + STOP_MAX);
                }
                crate::print(&report::stopping(next, request));
                stop.send_replace(next);
            }
            () = sleep_until(leave_by.unwrap_or_else(Instant::now)), if told == Stop::Draining => {
                leaving.clear();
            }
        }
    }
    while let Some(member) = members.join_next().await {
        member.context("the watch over a process failed")?;
    }
    crate::print(&report::stopped(&plan));
    Ok(ExitCode::SUCCESS)
}
