//! `catena ctl`: what an operator asks of the registry and the configuration centre and tells them, from a terminal.
//!
//! One file for each noun. Keys, leases and members are etcdctl's, which works unchanged.

mod config;
mod svc;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use catena_client::{Kv, Remote, request};
use catena_registry::{Registry, RegistryOptions, config::ConfigCenter};
use tokio::time::timeout;

/// A store that has not answered by then is not there, for somebody who sits and waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What `catena ctl` can be told.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Client URLs of the store, separated by commas
    #[arg(
        long,
        global = true,
        env = "CATENA_ENDPOINTS",
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    endpoints: Vec<String>,

    /// The environment on that store
    #[arg(
        long,
        global = true,
        env = "CATENA_NAMESPACE",
        value_name = "NAME",
        default_value = "default"
    )]
    namespace: String,

    #[command(subcommand)]
    noun: Noun,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Noun {
    /// Services and their instances
    #[command(subcommand)]
    Svc(svc::Verb),
    /// Documents of configuration, their versions and who follows them
    #[command(subcommand)]
    Config(config::Verb),
}

/// Does what the arguments say.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(options: Options) -> Result<ExitCode> {
    // Who makes secrets may have no store at hand.
    if let Noun::Config(config::Verb::Secret(verb)) = options.noun {
        config::seal::run(&options.namespace, verb)?;
        return Ok(ExitCode::SUCCESS);
    }
    let kv = options.store().await?;
    let namespace = options.namespace;
    match options.noun {
        Noun::Svc(verb) => {
            let options = RegistryOptions {
                namespace,
                ..RegistryOptions::default()
            };
            let registry = Registry::new(kv, options)?;
            svc::run(&registry, verb).await?;
            registry.close().await;
        }
        Noun::Config(verb) => config::run(&ConfigCenter::new(kv), &namespace, verb).await?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Options {
    /// The store, once it has answered.
    async fn store(&self) -> Result<Arc<dyn Kv>> {
        let endpoints = self.endpoints.join(",");
        let kv = Remote::connect(&self.endpoints, catena_client::Options::default());
        let kv: Arc<dyn Kv> = Arc::new(kv.with_context(|| format!("--endpoints {endpoints}"))?);
        let remedy = "start it there, or say where it is with --endpoints or CATENA_ENDPOINTS";
        match timeout(ANSWER_WITHIN, kv.range(request::get("\0"))).await {
            Ok(Ok(_answer)) => Ok(kv),
            Ok(Err(error)) => bail!("the store at {endpoints} does not answer ({error}): {remedy}"),
            Err(_) => {
                bail!("the store at {endpoints} does not answer within {ANSWER_WITHIN:?}: {remedy}")
            }
        }
    }
}
