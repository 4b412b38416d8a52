//! `catena server`: one member, told what to do as etcd is.

use std::process::ExitCode;

use catena_raft::identity;
use catena_runtime::Runtime;
use catena_server::{Member, Remedy, ServerConfig, StopReason};
use catena_telemetry::log::{self, LogConfig};
use tracing::{error, info, warn};

use crate::{
    advice, bootstrap,
    config::{self, Asked, Settings},
    help, notify,
    shutdown::{Request, Requests},
    version,
};

/// Exit code of a command line that cannot be read.
const EXIT_USAGE: u8 = 2;

/// Runs a member as `arguments`, the environment and the configuration file say. Returns when it failed or was removed from its
/// cluster; a signal ends the process.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    match config::read(arguments) {
        Ok(Asked::Help) => {
            crate::print(&help::text());
            ExitCode::SUCCESS
        }
        Ok(Asked::Version) => {
            crate::print(&version::as_etcd());
            ExitCode::SUCCESS
        }
        Ok(Asked::Run(settings)) => run(*settings),
        Err(config::Error::Usage(error)) => {
            eprintln!("{error}\nSee `etcd --help` or `catena server --help` for all flags.");
            ExitCode::from(EXIT_USAGE)
        }
        Err(config::Error::Settings(error)) => {
            if let Err(error) = log::init(&LogConfig::default()) {
                eprintln!("{error}");
            }
            running();
            error!(error, "failed to verify flags");
            ExitCode::FAILURE
        }
    }
}

fn running() {
    let args: Vec<String> = std::env::args().collect();
    info!(?args, "Running: ");
}

fn run(settings: Settings) -> ExitCode {
    if let Err(error) = log::init(&settings.log) {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    running();
    settings.notices.iter().for_each(config::Notice::log);
    until_stopped(settings)
}

/// Why a member did not start.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    remedy: Remedy,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

/// What people are told of a member that did not start: why, and what to run next.
pub(crate) async fn told(failure: Failure, config: &ServerConfig) -> String {
    let Failure { what, remedy } = failure;
    match advice::next(remedy, config).await {
        Some(next) => format!("{what}: {next}"),
        None => what,
    }
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        let remedy = Remedy::AsSaid;
        Self { what, remedy }
    }
}

#[tokio::main]
async fn until_stopped(settings: Settings) -> ExitCode {
    let config = settings.server.clone();
    match serve(settings).await {
        Ok(reason) => stopped(&reason, &config).await,
        Err(Failure { what, remedy }) => {
            let next = advice::next(remedy, &config).await;
            error!(error = what, next, "failed to start");
            ExitCode::FAILURE
        }
    }
}

/// As with etcd, a member that was removed from its cluster ends well.
async fn stopped(reason: &StopReason, config: &ServerConfig) -> ExitCode {
    match reason {
        StopReason::Asked => ExitCode::SUCCESS,
        StopReason::Removed => {
            warn!("{reason}");
            warn!("the data-dir used by this member must be removed");
            ExitCode::SUCCESS
        }
        StopReason::Failed { why, remedy } => {
            let next = advice::next(*remedy, config).await;
            error!(error = why, next, "the member cannot go on");
            ExitCode::FAILURE
        }
    }
}

async fn serve(settings: Settings) -> Result<StopReason, Failure> {
    let mut requests = Requests::listen().map_err(|error| format!("signals: {error}"))?;
    let member = tokio::select! {
        member = start(settings) => member?,
        // Nothing is acknowledged before the member serves, and what its start wrote is as safe as after a kill.
        request = requests.next() => stop_at_once(request),
    };
    let request = tokio::select! {
        () = member.ready() => {
            tell(notify::READY);
            None
        }
        request = requests.next() => Some(request),
        reason = member.stopped() => return Ok(ended(member, reason).await),
    };
    if let Some(request) = request {
        stop(member, request, requests).await;
    }
    tokio::select! {
        request = requests.next() => stop(member, request, requests).await,
        reason = member.stopped() => Ok(ended(member, reason).await),
    }
}

/// A member that ended by itself is stopped all the same, so that its files are closed in order.
async fn ended(member: Member, reason: StopReason) -> StopReason {
    member.stop().await;
    reason
}

/// Starts the member, after etcd's checks if its data directory is new.
pub(crate) async fn start(settings: Settings) -> Result<Member, Failure> {
    let config = settings.server;
    let runtime = Runtime::system();
    let data_dir = config.data_dir.display();
    bootstrap::warn_of_strangers(&config.data_dir);
    match identity::read(runtime.disk.as_ref(), &config.data_dir).map_err(unusable)? {
        Some(_) => info!(%data_dir, dir_type = "member", "server has already been initialized"),
        None => {
            bootstrap::check(&config)?;
            info!(%data_dir, dir_type = "empty", "Initialize and start etcd server");
        }
    }
    Member::start(config, runtime)
        .await
        .map_err(|error| Failure {
            what: error.to_string(),
            remedy: error.remedy(),
        })
}

fn unusable(error: catena_raft::StartError) -> Failure {
    Failure {
        what: error.to_string(),
        remedy: error.remedy(),
    }
}

fn tell(state: &str) {
    if let Err(error) = notify::tell(state) {
        warn!(%error, "failed to notify the service manager");
    }
}

fn stop_at_once(request: Request) -> ! {
    info!(signal = request.name(), "received signal; shutting down");
    request.end_process()
}

/// Stops the member and ends the process; a second request ends it without waiting for the member.
async fn stop(member: Member, request: Request, mut requests: Requests) -> ! {
    info!(signal = request.name(), "received signal; shutting down");
    tell(notify::STOPPING);
    let last = tokio::select! {
        () = member.stop() => request,
        second = requests.next() => second,
    };
    last.end_process()
}
