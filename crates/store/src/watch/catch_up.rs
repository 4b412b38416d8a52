//! Reading history for the watches that are not synced.
//!
//! One round serves all of a stream's catching watches from one stretch of history, beginning at the smallest cursor: recent batches
//! from memory, older ones from the engine. A round is bounded in revisions and bytes; a watch that has come to the end joins the hub.

use std::{collections::BTreeMap, sync::Arc};

use catena_api::EventType;

use super::{
    delivery::{Delivery, DeliveryKind},
    event::Batch,
    stream::{Phase, Watch, WatchStream},
};
use crate::{
    Fatal,
    backend::Visit,
    mvcc::{Change, Key, Revision},
    state::State,
};

/// Distinct revisions of one round, and so of one response; etcd's number.
const REVISIONS_MAX: usize = 1000;

/// Bytes of history that one round reads; a single revision may exceed it, since its events stay together.
const BYTES_MAX: usize = 4 << 20;

/// A stretch of history, complete from where it was asked for up to `last`.
struct Stretch {
    batches: Vec<Arc<Batch>>,
    last: i64,
}

impl WatchStream {
    pub(super) fn catch_up(
        &mut self,
        bytes_max: usize,
        deliveries: &mut Vec<Delivery>,
    ) -> Result<(), Fatal> {
        let from = self.watches.values().filter_map(|watch| watch.cursor());
        let Some(from) = from.min() else {
            return Ok(());
        };
        let recent = self.shared.hub().recent(from, REVISIONS_MAX);
        let state = self.shared.load();
        let from = from.max(state.ledger.compacted);
        let stretch = match recent {
            Some((batches, last)) => Stretch { batches, last },
            None => read(&state, from)?,
        };
        let mut bytes = 0;
        let ids: Vec<i64> = self.watches.keys().copied().collect();
        for watch_id in ids {
            if bytes > bytes_max {
                break;
            }
            if let Some(delivery) = self.advance(watch_id, &stretch, &state, &mut bytes)? {
                deliveries.push(delivery);
            }
            self.try_join(watch_id, &state);
        }
        Ok(())
    }

    /// Moves one watch through a stretch of history.
    fn advance(
        &mut self,
        watch_id: i64,
        stretch: &Stretch,
        state: &State,
        bytes: &mut usize,
    ) -> Result<Option<Delivery>, Fatal> {
        let Some(watch) = self.watches.get_mut(&watch_id) else {
            return Ok(None);
        };
        let Some(next) = watch.cursor() else {
            return Ok(None);
        };
        if next < state.ledger.compacted {
            watch.phase = Phase::Compacted;
            self.catching -= 1;
            return Ok(Some(Delivery {
                watch_id,
                revision: 0,
                kind: DeliveryKind::Compacted {
                    compact_revision: state.ledger.compacted,
                },
            }));
        }
        if next > stretch.last {
            return Ok(None);
        }
        let mut events = Vec::new();
        let first = stretch
            .batches
            .partition_point(|batch| batch.revision < next);
        for batch in &stretch.batches[first..] {
            for event in batch.events() {
                if watch.filters.pass(event.kind()) && watch.interval.contains(event.key()) {
                    events.push(match watch.prev_kv {
                        true => event.with_previous(state)?,
                        false => event.plain(),
                    });
                    *bytes += event.bytes();
                }
            }
        }
        watch.phase = Phase::Catching {
            next: stretch.last + 1,
        };
        if events.is_empty() {
            return Ok(None);
        }
        watch.had_events = true;
        Ok(Some(Delivery {
            watch_id,
            revision: state.ledger.revision,
            kind: DeliveryKind::Events {
                events,
                fragment: watch.fragment,
            },
        }))
    }

    /// Hands a watch that has come to the end of history over to the hub.
    fn try_join(&mut self, watch_id: i64, state: &State) {
        let Some(watch) = self.watches.get(&watch_id) else {
            return;
        };
        let Some(next) = watch.cursor().filter(|next| *next > state.ledger.revision) else {
            return;
        };
        let interest = self.interest(watch, next);
        if !self.shared.hub().join(&interest) {
            return;
        }
        if let Some(watch) = self.watches.get_mut(&watch_id) {
            watch.phase = Phase::Synced(interest);
            self.catching -= 1;
        }
    }
}

impl Watch {
    /// The next revision to read, if it is catching up.
    fn cursor(&self) -> Option<i64> {
        match self.phase {
            Phase::Catching { next } => Some(next),
            Phase::Synced(_) | Phase::Compacted => None,
        }
    }
}

/// Reads records from the overlay and the engine.
fn read(state: &State, from: i64) -> Result<Stretch, Fatal> {
    let mut revisions: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
    let (mut bytes, mut last) = (0, state.ledger.revision);
    let first = Revision::first(from);
    state.records.scan(
        first,
        state.ledger.revision,
        &mut |revision, tombstone, stored| {
            let is_new = !revisions.contains_key(&revision.main);
            if is_new && (revisions.len() >= REVISIONS_MAX || bytes >= BYTES_MAX) {
                last = revision.main - 1;
                return Visit::Stop;
            }
            bytes += stored.bytes().len();
            revisions.entry(revision.main).or_default().push(Change {
                key: Key::from(stored.key()),
                kind: match tombstone {
                    true => EventType::Delete,
                    false => EventType::Put,
                },
                kv: stored.to_key_value(),
                lease: 0,
            });
            Visit::Continue
        },
    )?;
    let batch = |(revision, changes)| Arc::new(Batch::new(revision, changes));
    Ok(Stretch {
        batches: revisions.into_iter().map(batch).collect(),
        last,
    })
}
