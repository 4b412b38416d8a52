//! A member of ours in the test's own process, with a runtime of its own.

use std::{path::Path, sync::Arc, thread, time::Duration};

use anyhow::{Context, Result, bail};
use catena_client::Kv;
use catena_runtime::Runtime;
use catena_server::{InitialState, ServerConfig, Url};
use tokio::runtime;

/// Tasks that do not end when they are told are given up.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(10);

/// A running member.
pub(crate) struct InProcess {
    runtime: runtime::Runtime,
    member: catena_server::Member,
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InProcess").field(&self.member.id()).finish()
    }
}

impl InProcess {
    /// Starts a member on the ports of its URLs.
    pub(crate) fn start(
        name: &str,
        ports: (u16, u16),
        dir: &Path,
        flags: &[String],
    ) -> Result<Self> {
        let mut config = ServerConfig::new(name, dir);
        let url = |port: u16| Url::http("127.0.0.1", port);
        config.listen_client = vec![url(ports.0)];
        config.advertise_client = vec![url(ports.0).to_string()];
        config.listen_peer = vec![url(ports.1)];
        config.advertise_peer = vec![url(ports.1).to_string()];
        for flag in pairs(flags) {
            let (flag, value) = flag?;
            set(&mut config, flag, value)?;
        }
        // The caller may stand in a runtime, in which another must neither block nor end.
        let started = thread::spawn(move || {
            let runtime = runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            let member =
                runtime.block_on(catena_server::Member::start(config, Runtime::system()))?;
            anyhow::Ok(Self { runtime, member })
        });
        started
            .join()
            .ok()
            .context("starting a member does not panic")?
    }

    /// The member as a store.
    pub(crate) fn kv(&self) -> Arc<dyn Kv> {
        self.member.kv()
    }

    /// Stops the member in order.
    pub(crate) fn stop(self) -> Result<()> {
        self.end(true)
    }

    /// Cuts the member off where it stands.
    pub(crate) fn kill(self) -> Result<()> {
        self.end(false)
    }

    fn end(self, in_order: bool) -> Result<()> {
        let ending = thread::spawn(move || {
            match in_order {
                true => self.runtime.block_on(self.member.stop()),
                false => drop(self.member),
            }
            self.runtime.shutdown_timeout(SHUTDOWN_WITHIN);
        });
        ending
            .join()
            .ok()
            .context("stopping a member does not panic")
    }
}

/// Flags as pairs, whether written `--name value` or `--name=value`.
fn pairs(flags: &[String]) -> impl Iterator<Item = Result<(&str, &str)>> {
    let mut flags = flags.iter();
    std::iter::from_fn(move || {
        let flag = flags.next()?;
        let value = match flag.split_once('=') {
            Some(pair) => Some(pair),
            None => flags.next().map(|value| (flag.as_str(), value.as_str())),
        };
        Some(value.with_context(|| format!("{flag} wants a value")))
    })
}

/// The flags that suites use.
fn set(config: &mut ServerConfig, flag: &str, value: &str) -> Result<()> {
    match flag {
        "--initial-cluster" => {
            let members = value.split(',').filter_map(|member| member.split_once('='));
            config.initial_cluster = members
                .map(|(name, url)| (name.to_owned(), url.to_owned()))
                .collect();
        }
        "--initial-cluster-state" => {
            config.initial_state = match value {
                "existing" => InitialState::Existing,
                _ => InitialState::New,
            };
        }
        "--max-txn-ops" => config.max_txn_ops = value.parse()?,
        "--quota-backend-bytes" => config.quota_bytes = value.parse()?,
        "--watch-progress-notify-interval" => {
            let millis = value.strip_suffix("ms").context("milliseconds")?;
            config.watch_progress_interval = Duration::from_millis(millis.parse()?);
        }
        _ => bail!("{flag} cannot be given to a member in process"),
    }
    Ok(())
}
