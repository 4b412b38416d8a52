//! The registry over one store.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use catena_client::{Kv, pb::RangeRequest, request};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    ClientSlot, Discovery, Error, Instance, OnConflict, Override, RegState, RegisterOptions,
    Registrar, Registration, Result, ServiceInfo, ServiceName, ServiceSettings, Snapshot,
    Subscriber, Ulid, Watcher, clock,
    discover::{Cold, Feed, View},
    layout::{self, Area},
    name, pulse,
    register::{COMMANDS_MAX, Counters, Machine, Store, claim_slot, subscribers},
};

/// Services that one process follows: each costs a task, six watches and its instances.
const SERVICES_MAX: usize = 4096;

/// How a registry is used by a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryOptions {
    /// Keeps environments on one store apart, in our own layouts: `default`.
    pub namespace: String,
    /// How long instances are kept that a restored or wiped store lacks: 5 minutes. What a store that cannot be reached knew last is
    /// kept until it can be reached.
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

/// Registration and discovery over one store. Cloning shares it. Its tasks end when the last clone, registration and watcher is
/// dropped; [`close`](Self::close) waits for them.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    options: RegistryOptions,
    cold: Option<Arc<Cold>>,
    feeds: Mutex<BTreeMap<ServiceName, watch::Receiver<View>>>,
    registered: Mutex<Vec<Registered>>,
    tasks: TaskTracker,
    _closing: DropGuard,
}

/// A registration as the registry knows it.
struct Registered {
    service: ServiceName,
    id: String,
    ttl: Duration,
    state: watch::Receiver<RegState>,
}

impl Registered {
    /// Whether the machine, which owns the state's sender, still runs.
    fn is_alive(&self) -> bool {
        self.state.has_changed().is_ok()
    }
}

impl Registry {
    /// A registry on a store. It waits for nothing. Must be called within a tokio runtime.
    pub fn new(kv: Arc<dyn Kv>, options: RegistryOptions) -> Result<Self> {
        name::check("namespace", &options.namespace)?;
        let cold = options.cold_file.as_deref().map(Cold::open).transpose()?;
        let cold = cold.map(Arc::new);
        let (beats, pulse) = pulse::channel();
        let closing = CancellationToken::new();
        let store = Store {
            kv,
            namespace: options.namespace.as_str().into(),
            pulse,
            counters: Arc::new(Counters::default()),
            closing: closing.clone(),
        };
        let registry = Self {
            inner: Arc::new(Inner {
                store,
                options,
                cold,
                feeds: Mutex::default(),
                registered: Mutex::default(),
                tasks: TaskTracker::new(),
                _closing: closing.drop_guard(),
            }),
        };
        let area = Area::Settings.root(&registry.inner.options.namespace);
        let key = area.unwrap_or_default();
        registry.until_closed(pulse::run(registry.kv(), key.into(), beats));
        if let Some(cold) = &registry.inner.cold {
            let writing = cold.clone().run(registry.inner.store.closing.clone());
            registry.inner.tasks.spawn(writing);
        }
        Ok(registry)
    }

    /// Ends everything in order: registrations leave the store, last known instances are written, watchers end.
    pub async fn close(&self) {
        self.inner.store.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Whether the store answers.
    pub fn is_store_up(&self) -> bool {
        self.inner.store.pulse.borrow().up
    }

    /// Sets what holds for an instance instead of its own word, until it is cleared.
    pub async fn set_override(
        &self,
        service: &ServiceName,
        id: &str,
        over: Override,
    ) -> Result<()> {
        let key = layout::override_key(self.namespace(), service, id);
        self.put_json(key, &over).await
    }

    /// Lets an instance's own word hold again.
    pub async fn clear_override(&self, service: &ServiceName, id: &str) -> Result<()> {
        let key = layout::override_key(self.namespace(), service, id);
        self.kv().delete_range(request::delete(key)).await?;
        Ok(())
    }

    /// Sets what operators want for a service.
    pub async fn set_settings(
        &self,
        service: &ServiceName,
        settings: &ServiceSettings,
    ) -> Result<()> {
        let key = layout::settings_key(self.namespace(), service);
        self.put_json(key, settings).await
    }

    /// Takes a slot among the consumers of a service and holds it until it is dropped.
    pub fn claim_slot(&self, service: &ServiceName, consumer: &str) -> ClientSlot {
        let prefix = layout::slot_prefix(self.namespace(), service);
        let closing = &self.inner.store.closing;
        let (slot, holding) = claim_slot(self.kv(), prefix, consumer.to_owned(), closing);
        self.inner.tasks.spawn(holding);
        slot
    }

    /// Who calls a service.
    pub async fn subscribers(&self, service: &ServiceName) -> Result<Vec<Subscriber>> {
        let prefix = layout::slot_prefix(self.namespace(), service);
        subscribers(self.kv().as_ref(), &prefix).await
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.store.counters
    }

    /// Calls `see` with service, id, TTL and state of each registration that is not over.
    pub(crate) fn each_registration(&self, mut see: impl FnMut(&str, &str, Duration, &RegState)) {
        let mut all = self.inner.registered.lock();
        all.retain(Registered::is_alive);
        for registered in all.iter() {
            let state = registered.state.borrow().clone();
            see(
                registered.service.as_str(),
                &registered.id,
                registered.ttl,
                &state,
            );
        }
    }

    /// What is known of each service that is followed.
    pub(crate) fn followed(&self) -> Vec<(ServiceName, Arc<Snapshot>)> {
        let feeds = self.inner.feeds.lock();
        let known = |(name, views): (&ServiceName, &watch::Receiver<View>)| {
            (name.clone(), views.borrow().snapshot.clone())
        };
        feeds.iter().map(known).collect()
    }

    fn list(&self, registered: Registered) {
        let mut all = self.inner.registered.lock();
        all.retain(Registered::is_alive);
        all.push(registered);
    }

    fn kv(&self) -> Arc<dyn Kv> {
        self.inner.store.kv.clone()
    }

    fn namespace(&self) -> &str {
        &self.inner.options.namespace
    }

    /// Runs a task that knows no end of its own.
    fn until_closed(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.inner.store.closing.clone();
        self.inner.tasks.spawn(async move {
            closing.run_until_cancelled(task).await;
        });
    }

    async fn put_json(&self, key: String, value: &impl serde::Serialize) -> Result<()> {
        let value = serde_json::to_string(value).expect("numbers, words and labels are JSON");
        self.kv().put(request::put(key, value)).await?;
        Ok(())
    }

    /// The feed of a service, begun if this is the first who asks.
    fn feed(&self, service: &ServiceName) -> Result<watch::Receiver<View>> {
        if self.inner.store.closing.is_cancelled() {
            return Err(Error::Closed);
        }
        let mut feeds = self.inner.feeds.lock();
        if let Some(views) = feeds.get(service) {
            return Ok(views.clone());
        }
        if feeds.len() == SERVICES_MAX {
            return Err(Error::TooMany {
                what: "services followed",
                actual: SERVICES_MAX + 1,
                limit: SERVICES_MAX,
            });
        }
        let (feed, views) = Feed::new(
            self.kv(),
            self.namespace(),
            service.clone(),
            self.inner.options.keep_last,
            self.inner.store.pulse.clone(),
            self.inner.cold.clone(),
        );
        feeds.insert(service.clone(), views.clone());
        drop(feeds);
        self.until_closed(feed.run());
        Ok(views)
    }

    /// The service as its feed shows it once the first attempt to read it is decided.
    async fn decided(&self, service: &ServiceName) -> Result<watch::Receiver<View>> {
        let mut views = self.feed(service)?;
        let decided = views.wait_for(|view| view.decided).await;
        decided.map_err(|_closed| Error::Closed)?;
        Ok(views)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Registrar for Registry {
    async fn register(
        &self,
        mut instance: Instance,
        options: RegisterOptions,
    ) -> Result<Registration> {
        instance.check()?;
        if options.layouts.is_empty() {
            return Err(Error::BadInstance {
                service: instance.service.to_string(),
                id: instance.id,
                reason: "is to be written in no layout".to_owned(),
            });
        }
        if instance.epoch == Ulid::NIL {
            instance.epoch = Ulid::generate();
        }
        if instance.registered_at_ms == 0 {
            instance.registered_at_ms = clock::unix_ms();
        }
        instance.revision = 0;
        let (ttl, on_conflict) = (options.ttl, options.on_conflict);
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let store = self.inner.store.clone();
        let (machine, mut state) = Machine::new(store, instance.clone(), options, received);
        self.list(Registered {
            service: instance.service.clone(),
            id: instance.id.clone(),
            ttl,
            state: state.clone(),
        });
        self.inner.tasks.spawn(machine.run());
        let untried = |state: &RegState| matches!(state, RegState::Registering { attempt: 0, .. });
        let decided = state.wait_for(|state| !untried(state)).await;
        let decided = decided.map(|state| state.clone());
        let held = match decided.map_err(|_closed| Error::Closed)? {
            RegState::Conflict {
                key, holder_epoch, ..
            } => Some((key, holder_epoch)),
            RegState::Registering { .. }
            | RegState::Registered { .. }
            | RegState::Lost { .. }
            | RegState::Draining
            | RegState::Deregistered => None,
        };
        if let Some((key, holder_epoch)) = held
            && on_conflict == OnConflict::Fail
        {
            return Err(Error::Conflict {
                service: instance.service.to_string(),
                id: instance.id,
                key,
                holder_epoch,
            });
        }
        Ok(Registration::new(instance, commands, state, self.clone()))
    }
}

#[async_trait]
impl Discovery for Registry {
    async fn instances(&self, service: &ServiceName) -> Result<Snapshot> {
        let mut views = self.decided(service).await?;
        // What was known last time is better than waiting.
        let known = |view: &View| view.snapshot.synced || !view.snapshot.instances.is_empty();
        let synced = views.wait_for(known);
        if let Ok(closed) = timeout(self.inner.options.start_wait, synced).await {
            closed.map_err(|_closed| Error::Closed)?;
        }
        let snapshot = (*views.borrow().snapshot).clone();
        Ok(snapshot)
    }

    async fn watch(&self, service: &ServiceName) -> Result<Watcher> {
        Ok(Watcher::new(self.decided(service).await?, self.clone()))
    }

    async fn services(&self) -> Result<Vec<ServiceInfo>> {
        let mut found: BTreeMap<ServiceName, usize> = BTreeMap::new();
        for area in Area::ALL {
            let Some(root) = area.root(self.namespace()) else {
                continue;
            };
            let keys = RangeRequest {
                keys_only: true,
                ..request::get_prefix(root.clone())
            };
            for kv in self.kv().range(keys).await?.kvs {
                let key = kv.key();
                let rest = key.strip_prefix(root.as_bytes()).unwrap_or_default();
                let name = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
                let name = std::str::from_utf8(name).ok();
                if let Some(Ok(name)) = name.map(ServiceName::new) {
                    *found.entry(name).or_default() += usize::from(area != Area::Settings);
                }
            }
        }
        let info = |(name, keys)| ServiceInfo { name, keys };
        Ok(found.into_iter().map(info).collect())
    }
}
