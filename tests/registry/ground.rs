//! What a case stands on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use catena_client::{Kv, pb, request};
use catena_registry::{
    Change, Discovery, Endpoint, Instance, Layout, RegState, RegisterOptions, Registrar,
    Registration, Registry, RegistryOptions, ServiceName, Watcher,
};
use framework::wait_until;
use futures_util::future::LocalBoxFuture;
use tokio::{sync::RwLock, time::timeout};

/// What is sure to come comes by then, on a busy machine and after an election too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Two hundred registrations are back so soon after their store is.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How much longer than promised something may take where eight cases and their stores share the machine. The promise itself is
/// judged by who says with `CATENA_ALONE=1` that a case runs alone.
const NOT_ALONE: u32 = 5;

/// The limit that a percentile is judged by.
pub(crate) fn judged(promised: Duration) -> Duration {
    let alone = std::env::var("CATENA_ALONE").is_ok_and(|alone| alone == "1");
    match alone {
        true => promised,
        false => NOT_ALONE * promised,
    }
}

/// The least that every store grants.
pub(crate) const SHORT_TTL: Duration = Duration::from_secs(2);

/// Held for reading by those who ask for old revisions, and for writing by those who compact the store that all share.
pub(crate) static HISTORY: RwLock<()> = RwLock::const_new(());

/// A case, and its name.
pub(crate) type Case = (
    &'static str,
    for<'a> fn(&'a Ground) -> LocalBoxFuture<'a, Result<()>>,
);

/// A store, and names in it that no other case uses.
pub(crate) struct Ground {
    /// The store.
    pub(crate) kv: Arc<dyn Kv>,
    /// Where other programs reach it.
    pub(crate) endpoint: String,
    /// A service without instances, whose name is also that of the namespace.
    pub(crate) service: ServiceName,
}

impl Ground {
    /// New names on a store.
    pub(crate) fn new(kv: Arc<dyn Kv>, endpoint: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("case-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self {
            kv,
            endpoint,
            service: ServiceName::new(&name).expect("it keeps the grammar"),
        }
    }

    /// The namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.service.as_str()
    }

    /// The options of a process in this case's namespace.
    pub(crate) fn options(&self) -> RegistryOptions {
        RegistryOptions {
            namespace: self.namespace().to_owned(),
            ..RegistryOptions::default()
        }
    }

    /// The registry of another process.
    pub(crate) fn registry(&self) -> Result<Registry> {
        Ok(Registry::new(self.kv.clone(), self.options())?)
    }

    /// An instance of the service; each number has an address of its own.
    pub(crate) fn instance(&self, number: u16) -> Instance {
        instance(&self.service, number)
    }

    /// Registers an instance as a process of its own would.
    pub(crate) async fn register(&self, number: u16, layouts: &[Layout]) -> Result<Registration> {
        let options = RegisterOptions {
            layouts: layouts.to_vec(),
            ..RegisterOptions::default()
        };
        let registration = self
            .registry()?
            .register(self.instance(number), options)
            .await?;
        standing(&registration).await?;
        Ok(registration)
    }

    /// Follows the service as a process of its own would.
    pub(crate) async fn watch(&self) -> Result<Watcher> {
        Ok(self.registry()?.watch(&self.service).await?)
    }

    /// The key of an instance in a layout; go-zero's has the lease in it.
    pub(crate) fn key(&self, layout: Layout, number: u16, lease: i64) -> String {
        layout.key(self.namespace(), &self.instance(number), lease)
    }

    /// The native key of an instance.
    pub(crate) fn native(&self, number: u16) -> String {
        self.key(Layout::Native, number, 0)
    }

    /// What stands under a key.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<pb::KeyValueView>> {
        let answer = self.kv.range(request::get(key.to_owned())).await?;
        Ok(answer.kvs.first().map(|kv| kv.view()))
    }

    /// What stands under a key, as text.
    pub(crate) async fn text(&self, key: &str) -> Result<String> {
        let kv = self
            .get(key)
            .await?
            .with_context(|| format!("{key} stands"))?;
        Ok(String::from_utf8(kv.value.to_vec())?)
    }

    /// Writes a key by hand.
    pub(crate) async fn put(&self, key: &str, value: &str) -> Result<i64> {
        let put = request::put(key.to_owned(), value.to_owned());
        Ok(self.kv.put(put).await?.header.unwrap_or_default().revision)
    }

    /// Deletes a key by hand.
    pub(crate) async fn delete(&self, key: &str) -> Result<()> {
        self.kv
            .delete_range(request::delete(key.to_owned()))
            .await?;
        Ok(())
    }

    /// Waits until a key is there, or is gone.
    pub(crate) async fn until_key(&self, key: &str, there: bool) -> Result<()> {
        let what = format!("{key} {}", if there { "stands" } else { "is gone" });
        wait_until(&what, PATIENCE, async || {
            let kv = self.get(key).await.ok()?;
            (kv.is_some() == there).then_some(())
        })
        .await
    }

    /// Forgets all history until now; gives the revision from which on something is known.
    pub(crate) async fn compact(&self) -> Result<i64> {
        let _nobody_looks_back = HISTORY.write().await;
        let revision = self
            .put(&format!("{}-compaction", self.service), "")
            .await?;
        let compaction = pb::CompactionRequest {
            revision,
            physical: false,
        };
        self.kv.compact(compaction).await?;
        Ok(revision)
    }

    /// The remaining TTL of a lease; -1 if it is gone.
    pub(crate) async fn ttl(&self, lease: i64) -> Result<i64> {
        let question = pb::LeaseTimeToLiveRequest {
            id: lease,
            keys: false,
        };
        Ok(self.kv.lease_time_to_live(question).await?.ttl)
    }
}

/// An instance with an address of its own.
pub(crate) fn instance(service: &ServiceName, number: u16) -> Instance {
    let endpoint: Endpoint = format!("grpc://10.0.{}.{}:50051", number >> 8, number & 255)
        .parse()
        .expect("an address");
    Instance::new(service.clone(), &number.to_string(), vec![endpoint])
}

/// Waits until a registration is in a state.
pub(crate) async fn until(
    registration: &Registration,
    what: &str,
    wanted: impl Fn(&RegState) -> bool,
) -> Result<RegState> {
    let mut state = registration.state();
    let found = timeout(PATIENCE, state.wait_for(|state| wanted(state))).await;
    match found {
        Ok(found) => Ok(found.context("the machine runs")?.clone()),
        Err(_elapsed) => anyhow::bail!("not {what} but {:?}", *registration.state().borrow()),
    }
}

/// Waits until a registration stands; gives lease and revision.
pub(crate) async fn standing(registration: &Registration) -> Result<(i64, i64)> {
    let stands = |state: &RegState| matches!(state, RegState::Registered { .. });
    match until(registration, "registered", stands).await? {
        RegState::Registered {
            lease, revision, ..
        } => Ok((lease, revision)),
        other => anyhow::bail!("{other:?}"),
    }
}

/// The next change.
pub(crate) async fn next(watcher: &mut Watcher) -> Result<Change> {
    let change = timeout(PATIENCE, watcher.next()).await;
    Ok(change.context("no change came")??)
}

/// Takes changes until one is as wanted.
pub(crate) async fn until_change(
    watcher: &mut Watcher,
    what: &str,
    wanted: impl Fn(&Change) -> bool,
) -> Result<Change> {
    let mut last = None;
    let found = timeout(PATIENCE, async {
        loop {
            let change = watcher.next().await?;
            if wanted(&change) {
                return anyhow::Ok(change);
            }
            last = Some(change);
        }
    })
    .await;
    found.with_context(|| format!("{what} did not come, last {last:?}"))?
}

/// Takes changes until exactly these instances are there.
pub(crate) async fn until_ids(watcher: &mut Watcher, expected: &[&str]) -> Result<Change> {
    until_change(watcher, &format!("{expected:?}"), |change| {
        ids(change) == expected
    })
    .await
}

/// The ids of a change's instances.
pub(crate) fn ids(change: &Change) -> Vec<&str> {
    change
        .all
        .iter()
        .map(|instance| instance.id.as_str())
        .collect()
}

/// Demands that exactly these instances are there.
pub(crate) fn ensure_ids(change: &Change, expected: &[&str]) -> Result<()> {
    ensure!(
        ids(change) == expected,
        "{:?} instead of {expected:?}",
        ids(change)
    );
    Ok(())
}
