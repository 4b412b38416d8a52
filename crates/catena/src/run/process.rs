//! What the services of one process share: health, series, and the registry on a store.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use catena_client::Kv;
use catena_middleware::{Health, admit::host::Hosts, observe::RequestMetrics};
use catena_registry::{Registry, RegistryOptions};
use catena_telemetry::metrics;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    live::{self, Levels, Own, Told},
    settings::Settings,
};

/// How often a process looks whether what it shows still holds, where nothing tells it.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What one process waits for its store while it leaves: leases end by themselves.
pub(super) const FAREWELL_WITHIN: Duration = Duration::from_secs(3);

/// What is shared.
pub(crate) struct Process {
    pub(crate) health: Health,
    pub(crate) series: Arc<metrics::Registry>,
    pub(crate) requests: Arc<RequestMetrics>,
    pub(crate) registry: Registry,
    /// The store itself, for what is no matter of the registry.
    pub(crate) kv: Arc<dyn Kv>,
    /// Ends requests that wait for something to happen.
    pub(crate) closing: CancellationToken,
    pub(crate) namespace: String,
    /// What documents are followed with.
    pub(super) own: Own,
    /// What holds until the store says otherwise.
    pub(super) told: Told,
    pub(super) levels: Arc<Levels>,
    insecure: bool,
    _watching: AbortOnDropHandle<()>,
}

impl Process {
    /// On a store, which need not be there yet and is called `place` in what people are told.
    pub(crate) async fn new(
        kv: Arc<dyn Kv>,
        settings: &Settings,
        levels: Levels,
        place: String,
    ) -> Result<Self> {
        let told = live::local(&settings.own.layers).await?;
        let options = RegistryOptions {
            namespace: settings.namespace.clone(),
            cold_file: settings.cold_file.clone(),
            ..RegistryOptions::default()
        };
        let registry = Registry::new(kv.clone(), options)?;
        let series = Arc::new(metrics::Registry::new()?);
        let written = registry.clone();
        series.add_writer(move |text| written.write_metrics(text));
        let watching = tokio::spawn(watch_store(registry.clone(), place));
        Ok(Self {
            health: Health::new(),
            requests: Arc::new(RequestMetrics::register(&series)?),
            series,
            registry,
            kv,
            closing: CancellationToken::new(),
            namespace: settings.namespace.clone(),
            own: settings.own.clone(),
            told,
            levels: Arc::new(levels),
            insecure: settings.insecure,
            _watching: AbortOnDropHandle::new(watching),
        })
    }

    /// Listens on the address that `setting` gives. Without tokens, one that others can reach must be asked for.
    pub(crate) async fn bind(&self, setting: &str, address: &str) -> Result<TcpListener> {
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!(
                "cannot listen on {address}: `ss -ltnp 'sport = :{port}'` shows who does; take another address with --{setting}"
            )
        })?;
        let reachable = !listener.local_addr()?.ip().is_loopback();
        ensure!(
            self.insecure || !reachable,
            "other machines can reach {address}, and there are no tokens yet: give --{setting} an address of this machine alone, such \
             as 127.0.0.1:{port}, or say --insecure"
        );
        Ok(listener)
    }

    /// Which hosts are served.
    pub(crate) fn hosts(&self) -> Hosts {
        match self.insecure {
            true => Hosts::Any,
            false => Hosts::Loopback(Vec::new()),
        }
    }

    /// Lets go of the store.
    pub(crate) async fn close(self) {
        if timeout(FAREWELL_WITHIN, self.registry.close())
            .await
            .is_err()
        {
            tracing::warn!(
                "the store does not answer; what this process holds there ends with its leases"
            );
        }
    }
}

/// Tells people, in one line each time, that the store is waited for and that it is there.
async fn watch_store(registry: Registry, place: String) {
    loop {
        until(|| !registry.is_store_up()).await;
        crate::print(&format!(
            "waiting for the store at {place}: it does not answer. If it does not run, start it there, or say where it is with \
             --endpoints. Everything else goes on meanwhile"
        ));
        until(|| registry.is_store_up()).await;
        crate::print(&format!("the store at {place} answers"));
    }
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
