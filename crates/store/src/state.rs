//! What is published: immutable states, and what readers, the writer and the committer share.
//!
//! Lock order: hub, then records. Neither is held while the engine works.

use catena_runtime::watch;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::broadcast;

use crate::{
    Fatal, KvHash, LeaseChange, Members, Options, Position,
    alarm::Alarms,
    lease::{self, Leases},
    mvcc::{Base, Index, Layer, ReadView, Records},
    watch::{Batch, Hub},
};

/// Hashes of compactions that are remembered, as in etcd.
const COMPACTION_HASHES_MAX: usize = 10;

/// Everything but the records. A clone is cheap and independent.
#[derive(Clone)]
pub(crate) struct Ledger {
    pub(crate) index: Index,
    pub(crate) revision: i64,
    /// -1 if never.
    pub(crate) compacted: i64,
    pub(crate) applied: Option<Position>,
    pub(crate) membership: Option<(Option<Position>, Bytes)>,
    pub(crate) leases: Leases,
    pub(crate) members: Arc<Members>,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) cluster_version: Option<Arc<str>>,
}

/// One moment of the store.
pub(crate) struct State {
    pub(crate) ledger: Ledger,
    pub(crate) records: Records,
}

impl State {
    pub(crate) fn view(&self) -> ReadView<'_> {
        ReadView {
            index: &self.ledger.index,
            records: &self.records,
            revision: self.ledger.revision,
            compacted: self.ledger.compacted,
        }
    }
}

/// What readers, the writer and the committer share.
pub(crate) struct Shared {
    state: ArcSwap<State>,
    /// Where the next state's records are. Its lock orders the publications of writer and committer.
    records: Mutex<Generation>,
    hub: Mutex<Hub>,
    /// Index of the last applied entry.
    pub(crate) applied: watch::Sender<Option<u64>>,
    /// Revision of the last compaction whose deletions are durable.
    pub(crate) compacted: watch::Sender<i64>,
    pub(crate) lease_changes: broadcast::Sender<LeaseChange>,
    hashes: Mutex<VecDeque<KvHash>>,
    /// Bytes that are applied and not sealed.
    pub(crate) unsealed_bytes: AtomicUsize,
    /// Bytes that are sealed and not committed.
    pub(crate) sealed_bytes: AtomicUsize,
    /// Held by whoever writes to the engine or takes a new view of it.
    pub(crate) commit: Mutex<()>,
}

/// Records, and how often the whole state was replaced before them.
struct Generation {
    records: Records,
    number: u64,
}

impl Shared {
    pub(crate) fn new(ledger: Ledger, base: Base, compacted: i64, options: &Options) -> Self {
        let records = Records::new(base);
        Self {
            records: Mutex::new(Generation {
                records: records.clone(),
                number: 0,
            }),
            hub: Mutex::new(Hub::new(ledger.revision, options)),
            applied: watch::Sender::new(ledger.applied.map(|position| position.index)),
            compacted: watch::Sender::new(compacted),
            lease_changes: lease::feed(),
            hashes: Mutex::default(),
            unsealed_bytes: AtomicUsize::new(0),
            sealed_bytes: AtomicUsize::new(0),
            commit: Mutex::new(()),
            state: ArcSwap::from_pointee(State { ledger, records }),
        }
    }

    /// The newest state.
    pub(crate) fn load(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// How far the newest state is, without taking hold of it.
    pub(crate) fn position(&self) -> Option<Position> {
        self.state.load().ledger.applied
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock()
    }

    /// The records as the writer continues them, and the number of their generation.
    pub(crate) fn records(&self) -> (Records, u64) {
        let generation = self.records.lock();
        (generation.records.clone(), generation.number)
    }

    /// Makes a new state visible together with its events: who sees the state finds the events delivered, and the reverse.
    pub(crate) fn publish(&self, ledger: &Ledger, batches: Vec<Arc<Batch>>) {
        let mut hub = self.hub.lock();
        self.store(ledger, &self.records.lock());
        hub.publish(batches, ledger.revision);
        drop(hub);
        self.announce(ledger);
    }

    /// Opens a new layer; what was open is closed.
    pub(crate) fn open_layer(&self, ledger: &Ledger) {
        let mut generation = self.records.lock();
        let layers = generation.records.layers.iter().cloned();
        generation.records.layers = layers.chain([Arc::new(Layer::new())]).collect();
        self.store(ledger, &generation);
    }

    /// Replaces what lies in the engine: by a view that has the oldest layer in it, or by a newer view of the same. Does nothing if
    /// the whole state was replaced since `generation`.
    pub(crate) fn rebase(&self, base: Base, generation: u64, without: Option<&Arc<Layer>>) {
        let mut current = self.records.lock();
        if current.number != generation {
            return;
        }
        current.records.base = Arc::new(base);
        if let Some(done) = without {
            let layers = current.records.layers.iter();
            let left = layers.filter(|layer| !Arc::ptr_eq(layer, done)).cloned();
            current.records.layers = left.collect();
        }
        let ledger = self.state.load().ledger.clone();
        self.store(&ledger, &current);
    }

    /// Replaces the whole state and gives the old one. Watchers go on from where they were, out of the new one.
    pub(crate) fn replace(&self, ledger: &Ledger, base: Base, compacted: i64) -> Arc<State> {
        let old = self.load();
        let mut hub = self.hub.lock();
        let mut current = self.records.lock();
        current.number += 1;
        current.records = Records::new(base);
        self.store(ledger, &current);
        drop(current);
        hub.reset(ledger.revision);
        drop(hub);
        self.unsealed_bytes.store(0, Ordering::Relaxed);
        self.sealed_bytes.store(0, Ordering::Relaxed);
        self.hashes.lock().clear();
        self.compacted.send_replace(compacted);
        self.announce(ledger);
        self.tell(LeaseChange::Rescan);
        old
    }

    fn store(&self, ledger: &Ledger, generation: &Generation) {
        self.state.store(Arc::new(State {
            ledger: ledger.clone(),
            records: generation.records.clone(),
        }));
    }

    fn announce(&self, ledger: &Ledger) {
        let applied = ledger.applied.map(|position| position.index);
        self.applied
            .send_if_modified(|last| std::mem::replace(last, applied) != applied);
    }

    /// Tells the clocks of leases.
    pub(crate) fn tell(&self, change: LeaseChange) {
        // An error says that nobody listens.
        self.lease_changes.send(change).ok();
    }

    /// Whether records of this generation are still the current ones.
    pub(crate) fn is_current(&self, generation: u64) -> bool {
        self.records.lock().number == generation
    }

    pub(crate) fn remember_hash(&self, hash: KvHash) {
        let mut hashes = self.hashes.lock();
        hashes.push_front(hash);
        hashes.truncate(COMPACTION_HASHES_MAX);
    }

    /// The remembered hashes of compactions, newest first.
    pub(crate) fn hashes(&self) -> Vec<KvHash> {
        self.hashes.lock().iter().copied().collect()
    }

    /// Takes a new view of the engine after it has moved its data.
    pub(crate) fn refresh(&self) -> Result<(), Fatal> {
        let _commit = self.commit.lock();
        let (records, generation) = self.records();
        let base = records.base.renewed()?;
        self.rebase(base, generation, None);
        Ok(())
    }
}
