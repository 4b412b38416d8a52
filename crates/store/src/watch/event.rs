//! Events: encoded at most once, for all their watchers.

use std::sync::OnceLock;

use bytes::Bytes;
use catena_api::{Event, EventType, KeyValueView};

use crate::{Fatal, mvcc::Change, state::State};

/// Bytes that an event takes in memory beside its record, roughly.
const EVENT_BYTES: usize = 160;

/// The events of one revision, in order.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) revision: i64,
    pub(crate) events: Box<[Occurrence]>,
    /// What it takes in memory.
    pub(crate) bytes: usize,
}

/// One event, encoded when somebody wants it.
#[derive(Debug)]
pub(crate) struct Occurrence {
    change: Change,
    plain: OnceLock<Event>,
    with_previous: OnceLock<Event>,
}

impl Batch {
    pub(crate) fn new(revision: i64, changes: Vec<Change>) -> Self {
        let events: Box<[Occurrence]> = changes.into_iter().map(Occurrence::new).collect();
        let bytes = events.iter().map(Occurrence::bytes).sum();
        Self {
            revision,
            events,
            bytes,
        }
    }
}

impl Occurrence {
    fn new(change: Change) -> Self {
        Self {
            change,
            plain: OnceLock::new(),
            with_previous: OnceLock::new(),
        }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.change.key
    }

    pub(crate) fn kind(&self) -> EventType {
        self.change.kind
    }

    /// What it takes in memory and, about, on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.change.kv.as_encoded().len() + EVENT_BYTES
    }

    /// The event as a watcher gets it: with the previous pair if it wants it, unless that revision is compacted by now.
    pub(crate) fn event(
        &self,
        revision: i64,
        prev_kv: bool,
        state: &State,
    ) -> Result<Event, Fatal> {
        let is_lost = revision - 1 < state.ledger.compacted;
        if !prev_kv || is_lost {
            return Ok(self.plain.get_or_init(|| self.encode(revision)).clone());
        }
        if let Some(event) = self.with_previous.get() {
            return Ok(event.clone());
        }
        let event = self.encode_with_previous(revision, state)?;
        Ok(self.with_previous.get_or_init(|| event).clone())
    }

    fn encode(&self, revision: i64) -> Event {
        match self.change.kind {
            EventType::Put => Event::new(EventType::Put, &self.change.kv, None),
            EventType::Delete => {
                Event::new(EventType::Delete, &self.deleted(revision).encode(), None)
            }
        }
    }

    /// The previous pair is that of the revision before; there is none if the event created the key.
    fn encode_with_previous(&self, revision: i64, state: &State) -> Result<Event, Fatal> {
        let kv = match self.change.kind {
            EventType::Put => self.change.kv.clone(),
            EventType::Delete => self.deleted(revision).encode(),
        };
        let is_creation = kv.view().create_revision == revision;
        let previous = match is_creation {
            true => None,
            false => state.view().get(self.key(), revision - 1)?,
        };
        Ok(Event::new(self.change.kind, &kv, previous.as_ref()))
    }

    fn deleted(&self, revision: i64) -> KeyValueView {
        KeyValueView {
            key: Bytes::copy_from_slice(self.key()),
            mod_revision: revision,
            ..KeyValueView::default()
        }
    }
}
