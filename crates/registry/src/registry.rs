//! The registry over one store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use catena_client::Kv;

use crate::{
    Discovery, Instance, RegisterOptions, Registrar, Registration, Result, ServiceInfo,
    ServiceName, Snapshot, Watcher, name,
};

/// How a registry is used by a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Keeps environments on one store apart, in our own layouts: `default`.
    pub namespace: String,
    /// How long instances are kept that a restored or wiped store lacks: 5 minutes.
    pub keep_last: Duration,
    /// How long the first look at a service waits for the store: 30 seconds.
    pub start_wait: Duration,
    /// Where what is known is kept for a start without the store. It belongs to one process. `None` keeps nothing.
    pub cold_file: Option<PathBuf>,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            namespace: "default".to_owned(),
            keep_last: Duration::from_secs(300),
            start_wait: Duration::from_secs(30),
            cold_file: None,
        }
    }
}

/// Registration and discovery over one store. Cloning shares it.
#[derive(Clone)]
pub struct Registry {
    kv: Arc<dyn Kv>,
}

impl Registry {
    /// A registry on a store. Nothing is asked of the store yet. Must be called within a tokio runtime.
    pub fn new(kv: Arc<dyn Kv>, options: RegistryOptions) -> Result<Self> {
        name::check("namespace", &options.namespace)?;
        Ok(Self { kv })
    }
}

#[async_trait]
impl Registrar for Registry {
    async fn register(
        &self,
        _instance: Instance,
        _options: RegisterOptions,
    ) -> Result<Registration> {
        let _ = &self.kv;
        std::future::pending().await
    }
}

#[async_trait]
impl Discovery for Registry {
    async fn instances(&self, _service: &ServiceName) -> Result<Snapshot> {
        std::future::pending().await
    }

    async fn watch(&self, _service: &ServiceName) -> Result<Watcher> {
        std::future::pending().await
    }

    async fn services(&self) -> Result<Vec<ServiceInfo>> {
        std::future::pending().await
    }
}
