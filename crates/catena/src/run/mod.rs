//! `catena run`: services as a process of their own, on a store behind a network or with a member of it in the same process.
//!
//! ```text
//!   catena run user ──registers──► store ◄──follows── catena run gateway
//!         ▲                                                │
//!         └──────────────── calls, balanced ───────────────┘
//! ```
//!
//! - [`keys`]: the table of settings; [`flags`] and [`settings`] read them from command line, environment and file;
//! - [`Running`]: what a process runs: the store, the user service, the gateway;
//! - [`report`]: what people are told about it.
//!
//! Nothing waits for the store: the user service serves while its registration is tried again and again, and `/readyz` says how
//! that stands; the gateway answers 503 until it knows an instance. Where both are in one process, the gateway calls the user service
//! without a socket. A signal makes the process leave in order, a second one ends it.

pub(crate) mod explain;
mod flags;
mod gateway;
mod keys;
pub(crate) mod live;
mod process;
pub(crate) mod report;
mod running;
pub(crate) mod settings;
mod store;
mod user;

use std::{io::IsTerminal, pin::pin, process::ExitCode};

use anyhow::{Context, Result};
use catena_telemetry::log;

pub(crate) use self::{flags::Options, running::Running};
use self::{
    live::Levels,
    settings::{Settings, Values},
    store::Store,
};
use crate::{
    notify,
    shutdown::{Request, Requests},
};

/// Below the help text.
pub(crate) const EXAMPLES: &str = "\
Examples:
  catena run user                                           on the store at http://127.0.0.1:2379
  catena run gateway --endpoints http://10.0.0.1:2379,http://10.0.0.2:2379
  catena run user gateway --registry embedded               all in one process, data in ./default.etcd and ./users.db
  catena run user gateway --registry embedded --name a --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380 …
  CATENA_USER_DATABASE=postgres://user:password@db/users catena run user
  catena run services.toml                                  with  services = [\"user\", \"gateway\"]  in it";

/// Runs until a signal, or until a member in this process must not go on.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let settings = gather(options)?.settings()?;
    let levels = Levels::new(log::init(&settings.log)?);
    let ended = until_stopped(settings, levels);
    match ended {
        // Who reads the log finds there how it ended; who sits at a terminal is told in plain words.
        Err(error) if !std::io::stderr().is_terminal() => {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            tracing::error!(error = causes.join(": "), "{error}");
            Ok(ExitCode::FAILURE)
        }
        ended => ended,
    }
}

/// The settings of this process' command line, environment and file.
pub(crate) fn gather(options: &Options) -> Result<Values> {
    // A name or value that is no UTF-8 cannot be one of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
    Values::gather(options, variables)
}

#[tokio::main]
async fn until_stopped(settings: Settings, levels: Levels) -> Result<ExitCode> {
    let mut requests = Requests::listen().context("cannot listen for signals")?;
    let running = tokio::select! {
        running = Running::start(settings, levels) => running.context("failed to start")?,
        // Nothing is served before all is started.
        request = requests.next() => request.end_process(),
    };
    crate::print(&report::services(&running));
    serve(running, &mut requests, || ()).await
}

/// Waits for a member in this process to be ready, calls `ready`, and waits for the end.
pub(crate) async fn serve(
    running: Running,
    requests: &mut Requests,
    ready: impl FnOnce(),
) -> Result<ExitCode> {
    let (store, services) = running.into_parts();
    let mut end = wait(&store, requests, ready).await?;
    tracing::info!("leaving");
    if let Err(error) = notify::tell(notify::STOPPING) {
        tracing::warn!(%error, "failed to notify the service manager");
    }
    let mut leaving = pin!(services.leave());
    loop {
        tokio::select! {
            () = &mut leaving => break,
            second = requests.next() => match (&end, second) {
                // The supervisor waits no longer, or is dead: the rest follows without a pause.
                (End::Asked(Request::Drain), Request::Supervisor) => end = End::Asked(second),
                _ => second.end_process(),
            },
        }
    }
    if let End::Asked(Request::Drain) = end {
        end = stay(&store, requests).await;
    }
    tokio::select! {
        () = store.stop() => {}
        second = requests.next() => second.end_process(),
    }
    match end {
        // An exit code of 0 would tell a supervisor that the member was removed from its cluster.
        End::Asked(request) if Requests::is_supervised() => request.end_process(),
        End::Asked(_) | End::Member(Ok(())) => Ok(ExitCode::SUCCESS),
        End::Member(Err(error)) => Err(error),
    }
}

/// Keeps the member for those whose services have not left yet, until the supervisor has heard of all.
async fn stay(store: &Store, requests: &mut Requests) -> End {
    tracing::info!("the services have left");
    if let Err(error) = notify::tell(notify::DRAINED) {
        tracing::warn!(%error, "failed to notify the supervisor");
    }
    tokio::select! {
        ended = store.ended() => End::Member(ended),
        request = requests.next() => End::Asked(request),
    }
}

/// Why a process ends.
enum End {
    /// Somebody wants it.
    Asked(Request),
    /// The member in it has ended: removed, which is a good end as with etcd, or failed.
    Member(Result<()>),
}

async fn wait(store: &Store, requests: &mut Requests, ready: impl FnOnce()) -> Result<End> {
    tokio::select! {
        () = store.ready() => {}
        ended = store.ended() => return Ok(End::Member(ended)),
        request = requests.next() => return Ok(End::Asked(request)),
    }
    notify::tell(notify::READY).context("cannot tell the service manager")?;
    ready();
    Ok(tokio::select! {
        ended = store.ended() => End::Member(ended),
        request = requests.next() => End::Asked(request),
    })
}
