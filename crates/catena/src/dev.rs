//! `catena dev`: one member for the next few minutes of somebody's work, its data gone when it ends.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result, anyhow};
use catena_telemetry::log;

use crate::{config, member, notify, shutdown::Requests};

/// What `catena dev` can be told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Port for clients.
    #[arg(long, value_name = "PORT", default_value_t = 2379)]
    client_port: u16,

    /// Port for peers, of which there are none.
    #[arg(long, value_name = "PORT", default_value_t = 2380)]
    peer_port: u16,

    /// Lowest level of log lines that are shown.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

/// Runs the member until a signal. The data directory goes with the process, unless that is killed.
pub(crate) fn main(options: Options) -> Result<ExitCode> {
    let dir = tempfile::Builder::new().prefix("catena-dev-").tempdir();
    let dir = dir.context("cannot make a temporary directory")?;
    let client_url = format!("http://127.0.0.1:{}", options.client_port);
    let peer_url = format!("http://127.0.0.1:{}", options.peer_port);
    // A cluster of one waits for nobody: short timeouts only make its first election short.
    let settings = config::of_flags(&[
        "--name=dev".to_owned(),
        format!("--data-dir={}", dir.path().join("dev.etcd").display()),
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        "--heartbeat-interval=10".to_owned(),
        "--election-timeout=100".to_owned(),
        format!("--log-level={}", options.log_level),
        "--log-format=console".to_owned(),
    ]);
    let settings = settings.map_err(|error| anyhow!("{error}"))?;
    log::init(&settings.log)?;
    run(settings, &client_url)
}

#[tokio::main]
async fn run(settings: config::Settings, client_url: &str) -> Result<ExitCode> {
    let started = Instant::now();
    let mut requests = Requests::listen().context("cannot listen for signals")?;
    let member = member::start(settings)
        .await
        .map_err(|error| anyhow!("{error}"))?;
    tokio::select! {
        () = member.ready() => {}
        reason = member.stopped() => return Err(anyhow!("{reason}")),
        _ = requests.next() => return Ok(ExitCode::SUCCESS),
    }
    notify::tell(notify::READY)?;
    crate::print(&format!(
        "dev is ready on {client_url} (after {:.1} s); its data is gone when it stops\n\n  etcdctl --endpoints={client_url} put greeting hello\n",
        started.elapsed().as_secs_f64()
    ));
    tokio::select! {
        reason = member.stopped() => Err(anyhow!("{reason}")),
        _ = requests.next() => {
            member.stop().await;
            Ok(ExitCode::SUCCESS)
        }
    }
}
