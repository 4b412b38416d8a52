//! Discovery: the instances of a service as they change.
//!
//! One task for each service and process reads a snapshot at a revision and watches from the next one; all that is asked about
//! the service in this process is answered from what it knows ([`feed`]). What it knows, and how a reading of the store
//! changes it, is a pure table ([`table`]); entries of all layouts become instances in [`merge`]. What was known last time is in a
//! file ([`cold`]), which is used only if the store cannot be reached at start.

mod cold;
mod feed;
mod merge;
mod table;
mod watcher;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::watcher::Watcher;
pub(crate) use self::{
    cold::Cold,
    feed::{Feed, View},
};
use crate::{Instance, Result, ServiceName, layout::ServiceSettings};

/// Who knows the instances of services.
#[async_trait]
pub trait Discovery: Send + Sync {
    /// What is known of a service now. Waits for the first reading of the store, within
    /// [`RegistryOptions::start_wait`](crate::RegistryOptions); after that it answers at once.
    async fn instances(&self, service: &ServiceName) -> Result<Snapshot>;

    /// Follows a service. Never waits for the store.
    async fn watch(&self, service: &ServiceName) -> Result<Watcher>;

    /// All services that have an instance or settings in a layout whose services can be listed: native, article and kratos.
    async fn services(&self) -> Result<Vec<ServiceInfo>>;
}

/// What is known of a service at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The store's revision that this reflects.
    pub revision: i64,
    /// The instances, by id.
    pub instances: Arc<[Arc<Instance>]>,
    /// What operators set for the service.
    pub settings: Arc<ServiceSettings>,
    /// Whether the store has been read. If not, an empty list means "not known", not "none".
    pub synced: bool,
    /// Whether some of this is kept from before: the store cannot be reached, or has lost what it knew.
    pub stale: bool,
    /// Values under the service's keys that no layout can read, and were left out.
    pub skipped: usize,
}

impl Snapshot {
    /// What is known before anything is.
    pub(crate) fn unknown() -> Self {
        Self {
            revision: 0,
            instances: Arc::new([]),
            settings: Arc::default(),
            synced: false,
            stale: true,
            skipped: 0,
        }
    }
}

/// An instance before and after a change.
pub type Updated = (Arc<Instance>, Arc<Instance>);

/// How a service changed since the last [`Watcher::next`].
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The store's revision that this reflects.
    pub revision: i64,
    /// All instances, by id. One that did not change is the same `Arc` as before.
    pub all: Arc<[Arc<Instance>]>,
    /// Those that came.
    pub added: Vec<Arc<Instance>>,
    /// Those that are another than before.
    pub updated: Vec<Updated>,
    /// Those that went.
    pub removed: Vec<Arc<Instance>>,
    /// What operators set for the service.
    pub settings: Arc<ServiceSettings>,
    /// Whether the store has been read. If not, an empty list means "not known", not "none".
    pub synced: bool,
    /// Whether some of this is kept from before.
    pub stale: bool,
}

/// A service that has instances or settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInfo {
    /// The name.
    pub name: ServiceName,
    /// How many keys of instances stand in the store, over all layouts that were found.
    pub keys: usize,
}
