//! The writer: applies entries of the log.
//!
//! Only this module knows mvcc, lease, watch, members and alarms together; they do not know one another. A command is checked whole
//! before it changes anything. What it changed is visible to readers once its entry is applied, all commands of it at once.

mod apply;
mod pending;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;

use self::{apply::Effects, pending::Pending};
use crate::{
    Command, Committer, Fatal, KvHash, Outcome, Position, ReadError, Reader, Sealed,
    backend::{Backend, Bucket},
    lease::Attachments,
    meta,
    mvcc::{Base, Compaction, Slice},
    restore::{Restored, restore},
    state::{Ledger, Shared, State},
};

/// Bounds and tunables of a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most revisions that one slice of a compaction looks at.
    pub compaction_batch_limit: usize,
    /// Bytes of recent events that watchers read from memory.
    pub history_bytes: usize,
    /// Bytes of events that wait for one watch stream before its watchers fall back to reading history.
    pub inbox_bytes: usize,
    /// Watches of all streams together.
    pub watches_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compaction_batch_limit: 1000,
            history_bytes: 8 << 20,
            inbox_bytes: 1 << 20,
            // A kilobyte or two each: as many as etcd's own benchmark makes.
            watches_max: 1 << 20,
        }
    }
}

/// An entry of the log as the state machine sees it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// Raft's own encoding of the membership that takes effect with this entry.
    pub membership: Option<Bytes>,
    /// What to do, in order.
    pub commands: Vec<Command>,
}

/// The one writer of the state.
pub struct Store {
    options: Options,
    shared: Arc<Shared>,
    /// The next state.
    ledger: Ledger,
    attachments: Attachments,
    compactions: VecDeque<Compaction>,
    pending: Pending,
}

/// A state rebuilt from an engine, ready to be installed.
pub struct Prepared {
    base: Base,
    restored: Restored,
}

/// The state that an installed one replaced. Dropping it frees a whole index: a thing for a thread that may block.
pub struct Replaced {
    _ledger: Ledger,
    _attachments: Attachments,
    _state: Arc<State>,
}

impl Store {
    /// Opens the store over an engine and rebuilds what lives in memory: key index, leases, members, alarms.
    pub fn open(backend: Arc<dyn Backend>, options: Options) -> Result<Self, Fatal> {
        let Prepared { base, restored } = Self::prepare(backend)?;
        let ledger = restored.ledger.clone();
        let shared = Shared::new(ledger, base, restored.finished, &options);
        Ok(Self {
            options,
            shared: Arc::new(shared),
            ledger: restored.ledger,
            attachments: restored.attachments,
            compactions: restored.pending.into_iter().collect(),
            pending: Pending::default(),
        })
    }

    /// A handle for readers.
    pub fn reader(&self) -> Reader {
        Reader {
            shared: self.shared.clone(),
            inbox_bytes: self.options.inbox_bytes,
        }
    }

    /// Position of the last applied entry.
    pub fn applied(&self) -> Option<Position> {
        self.ledger.applied
    }

    /// The last membership and the position of the entry that brought it.
    pub fn membership(&self) -> Option<(Option<Position>, Bytes)> {
        self.ledger.membership.clone()
    }

    /// Applies one entry: one outcome for each command. The position, and the membership if the entry has one, are recorded even
    /// if there are no commands. An error is fatal: the member must stop.
    pub fn apply(&mut self, entry: Entry) -> Result<Vec<Outcome>, Fatal> {
        let position = entry.position;
        if let Some(applied) = self
            .ledger
            .applied
            .filter(|applied| applied.index >= position.index)
        {
            return Err(Fatal::Order {
                index: position.index,
                applied: applied.index,
            });
        }
        let (records, _) = self.shared.records();
        let mut effects = Effects::default();
        let mut outcomes = Vec::with_capacity(entry.commands.len());
        for command in &entry.commands {
            let result = match self.execute(&command.request, &records, &mut effects) {
                Ok(response) => Ok(response),
                Err(ReadError::Refused(error)) => Err(error),
                Err(ReadError::Fatal(fatal)) => return Err(fatal),
            };
            outcomes.push(Outcome {
                result,
                revision: self.ledger.revision,
                position,
            });
        }
        self.ledger.applied = Some(position);
        if let Some(membership) = entry.membership {
            self.ledger.membership = Some((Some(position), membership));
        }
        self.pending.is_dirty = true;
        let unsealed_bytes = &self.shared.unsealed_bytes;
        unsealed_bytes.store(self.pending.bytes, Ordering::Relaxed);
        self.shared.publish(&self.ledger, effects.batches);
        for change in effects.leases {
            self.shared.tell(change);
        }
        Ok(outcomes)
    }

    /// Bytes applied since the last seal.
    pub fn unsealed_bytes(&self) -> usize {
        self.pending.bytes
    }

    /// Bytes sealed and not yet in the engine.
    pub fn sealed_bytes(&self) -> usize {
        self.shared.sealed_bytes.load(Ordering::Relaxed)
    }

    /// Closes what was applied since the last seal as one batch for the [`Committer`]; `None` if nothing was. It stays readable.
    pub fn seal(&mut self) -> Option<Sealed> {
        if !self.pending.is_dirty {
            return None;
        }
        let mut pending = std::mem::take(&mut self.pending);
        for pair in self
            .ledger
            .applied
            .map(meta::position)
            .into_iter()
            .flatten()
        {
            pending.put(Bucket::Meta, pair);
        }
        if let Some(membership) = &self.ledger.membership {
            pending.put(Bucket::Meta, meta::membership(membership));
        }
        let (records, generation) = self.shared.records();
        self.shared.open_layer(&self.ledger);
        self.shared
            .sealed_bytes
            .fetch_add(pending.bytes, Ordering::Relaxed);
        self.shared.unsealed_bytes.store(0, Ordering::Relaxed);
        Some(Sealed {
            layer: records.layers[records.layers.len() - 1].clone(),
            bytes: pending.bytes,
            finished: pending.finished,
            changes: pending.into_changes(),
            backend: records.base.backend.clone(),
            generation,
        })
    }

    /// The way to the engine.
    pub fn committer(&self) -> Committer {
        Committer {
            shared: self.shared.clone(),
        }
    }

    /// Does one bounded slice of pending compaction work; true if there is more. Called between applies.
    pub fn maintain(&mut self) -> Result<bool, Fatal> {
        let Some(compaction) = self.compactions.front_mut() else {
            return Ok(false);
        };
        let (records, _) = self.shared.records();
        let pending = &mut self.pending;
        pending.is_dirty = true;
        let limit = self.options.compaction_batch_limit.max(1);
        let index = &mut self.ledger.index;
        let slice =
            compaction.slice(index, &records, limit, &mut |key| pending.drop_record(key))?;
        if let Slice::Complete(hash) = slice {
            let (target, previous) = (compaction.target, compaction.previous);
            self.compactions.pop_front();
            self.pending.finished = Some(target);
            self.pending.put(Bucket::Meta, meta::finished(target));
            if let Some(hash) = hash {
                self.shared.remember_hash(KvHash {
                    hash,
                    compact_revision: previous,
                    hash_revision: target,
                    revision: self.ledger.revision,
                });
            }
        }
        Ok(!self.compactions.is_empty())
    }

    /// Rebuilds the state that lies in an engine: one pass over all records, so not for an async thread.
    pub fn prepare(backend: Arc<dyn Backend>) -> Result<Prepared, Fatal> {
        let base = Base::new(backend)?;
        let restored = restore(base.view())?;
        Ok(Prepared { base, restored })
    }

    /// Replaces the state by another one: that of a snapshot received from the leader. Readers see it at once; watchers go on from
    /// where they were. A swap, however large the states are.
    pub fn install(&mut self, prepared: Prepared) -> Replaced {
        let Prepared { base, restored } = prepared;
        let state = self
            .shared
            .replace(&restored.ledger, base, restored.finished);
        self.compactions = restored.pending.into_iter().collect();
        self.pending = Pending::default();
        Replaced {
            _ledger: std::mem::replace(&mut self.ledger, restored.ledger),
            _attachments: std::mem::replace(&mut self.attachments, restored.attachments),
            _state: state,
        }
    }
}
