//! `catena dev`: a store and the services on it for the next few minutes of somebody's work, the data gone when they end.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use catena_telemetry::log;

use crate::{
    config,
    run::{
        self, Running,
        live::{Levels, Own},
        report,
        settings::{self, Service, Settings, StoreSettings, UserSettings, Values},
    },
    shutdown::Requests,
};

/// What `catena dev` can be told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Port for clients.
    #[arg(long, value_name = "PORT", default_value_t = 2379)]
    client_port: u16,

    /// Port for peers, of which there are none.
    #[arg(long, value_name = "PORT", default_value_t = 2380)]
    peer_port: u16,

    /// Port of the gateway, for HTTP.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,

    /// Port of the user service, for gRPC.
    #[arg(long, value_name = "PORT", default_value_t = 50051)]
    grpc_port: u16,

    /// Lowest level of log lines that are shown.
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,

    /// The keys that open sealed values of documents.
    #[arg(long, value_name = "FILE", env = "CATENA_CONFIG_KEYS")]
    config_keys: Option<String>,
}

/// Runs all until a signal. The data directory goes with the process, unless that is killed.
pub(crate) fn main(options: Options) -> Result<ExitCode> {
    let dir = tempfile::Builder::new().prefix("catena-dev-").tempdir();
    let dir = dir.context("cannot make a temporary directory")?;
    let member = member(&options, dir.path())?;
    let levels = Levels::new(log::init(&member.log)?);
    let variable = std::env::var(settings::CONFIG_KEY).ok();
    let keys = settings::keyring(options.config_keys.as_deref(), variable.as_deref())?;
    let mut layers = Values::default().layers();
    layers.defaults["log-level"] = options.log_level.as_str().into();
    let settings = Settings {
        services: vec![Service::User, Service::Gateway],
        log: member.log.clone(),
        store: StoreSettings::Embedded(Box::new(member)),
        namespace: "default".to_owned(),
        cold_file: None,
        insecure: false,
        user: UserSettings {
            listen: format!("127.0.0.1:{}", options.grpc_port),
            advertise: None,
            id: None,
            database: format!("sqlite:{}", dir.path().join("users.db").display()),
            age_min: 0,
        },
        gateway_listen: format!("127.0.0.1:{}", options.http_port),
        gateway_nacos: false,
        // Who calls the service from elsewhere loses it with the store anyway.
        propagation: Duration::ZERO,
        own: Own {
            layers,
            keys,
            beside: None,
        },
    };
    run(
        settings,
        levels,
        &format!("http://127.0.0.1:{}", options.client_port),
    )
}

/// The store.
fn member(options: &Options, dir: &Path) -> Result<config::Settings> {
    let client_url = format!("http://127.0.0.1:{}", options.client_port);
    let peer_url = format!("http://127.0.0.1:{}", options.peer_port);
    // A cluster of one waits for nobody: short timeouts only make its first election short.
    let settings = config::of_flags(&[
        "--name=dev".to_owned(),
        format!("--data-dir={}", dir.join("dev.etcd").display()),
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        "--heartbeat-interval=10".to_owned(),
        "--election-timeout=100".to_owned(),
        format!("--log-level={}", options.log_level),
        "--log-format=console".to_owned(),
    ]);
    settings.map_err(|error| anyhow!("{error}"))
}

#[tokio::main]
async fn run(settings: Settings, levels: Levels, client_url: &str) -> Result<ExitCode> {
    let started = Instant::now();
    let mut requests = Requests::listen().context("cannot listen for signals")?;
    let running = tokio::select! {
        running = Running::start(settings, levels) => running?,
        _ = requests.next() => return Ok(ExitCode::SUCCESS),
    };
    let table = report::services(&running);
    let lines = match (running.gateway(), running.user()) {
        (Some(gateway), Some(user)) => {
            report::lines(&format!("http://{gateway}"), &user.to_string(), client_url).join("\n  ")
        }
        _ => String::new(),
    };
    run::serve(running, &mut requests, || {
        crate::print(&format!(
            "dev is ready on {client_url} (after {:.2} s); its data is gone when it stops\n\n{table}\nTry:\n\n  {lines}\n",
            started.elapsed().as_secs_f64()
        ));
    })
    .await
}
