//! Events: encoded at most once, for all their watchers.

use std::sync::OnceLock;

use bytes::Bytes;
use catena_api::{Event, EventType, KeyValueView};

use crate::{Fatal, mvcc::Change, state::State};

/// Bytes that an event takes in memory beside its record, roughly, before anybody wanted it.
const EVENT_BYTES: usize = 160;

/// The events of one revision, in order.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) revision: i64,
    changes: Box<[Change]>,
    /// One for each change, from when somebody wanted the first.
    encoded: OnceLock<Box<[Encoded]>>,
    /// What it takes in memory.
    pub(crate) bytes: usize,
}

/// One event of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Occurrence<'a> {
    batch: &'a Batch,
    change: &'a Change,
    place: usize,
}

/// What watchers got of an event.
#[derive(Debug, Default)]
struct Encoded {
    plain: OnceLock<Event>,
    with_previous: OnceLock<Event>,
}

impl Batch {
    pub(crate) fn new(revision: i64, changes: Vec<Change>) -> Self {
        let mut batch = Self {
            revision,
            changes: changes.into(),
            encoded: OnceLock::new(),
            bytes: 0,
        };
        batch.bytes = batch.events().map(|event| event.bytes()).sum();
        batch
    }

    /// The events, in order.
    pub(crate) fn events(&self) -> impl Iterator<Item = Occurrence<'_>> {
        (0..self.changes.len()).filter_map(|place| self.event(place))
    }

    /// The event, if there is only one.
    pub(crate) fn only(&self) -> Option<Occurrence<'_>> {
        self.event(0).filter(|_| self.changes.len() == 1)
    }

    /// The event in this place.
    pub(crate) fn event(&self, place: usize) -> Option<Occurrence<'_>> {
        Some(Occurrence {
            batch: self,
            change: self.changes.get(place)?,
            place,
        })
    }

    fn encoded(&self) -> &[Encoded] {
        let none_yet = || self.changes.iter().map(|_| Encoded::default()).collect();
        self.encoded.get_or_init(none_yet)
    }
}

impl<'a> Occurrence<'a> {
    pub(crate) fn key(&self) -> &'a [u8] {
        &self.change.key
    }

    pub(crate) fn kind(&self) -> EventType {
        self.change.kind
    }

    /// What it takes in memory and, about, on the wire.
    pub(crate) fn bytes(&self) -> usize {
        self.change.kv.as_encoded().len() + EVENT_BYTES
    }

    /// The event as most watchers get it.
    pub(crate) fn plain(&self) -> Event {
        let encoded = &self.batch.encoded()[self.place];
        encoded.plain.get_or_init(|| self.encode()).clone()
    }

    /// The event with the previous pair, unless that revision is compacted by now.
    pub(crate) fn with_previous(&self, state: &State) -> Result<Event, Fatal> {
        if self.batch.revision - 1 < state.ledger.compacted {
            return Ok(self.plain());
        }
        let encoded = &self.batch.encoded()[self.place];
        if let Some(event) = encoded.with_previous.get() {
            return Ok(event.clone());
        }
        let event = self.encode_with_previous(state)?;
        Ok(encoded.with_previous.get_or_init(|| event).clone())
    }

    fn encode(&self) -> Event {
        match self.change.kind {
            EventType::Put => Event::new(EventType::Put, &self.change.kv, None),
            EventType::Delete => Event::new(EventType::Delete, &self.deleted().encode(), None),
        }
    }

    /// The previous pair is that of the revision before; there is none if the event created the key.
    fn encode_with_previous(&self, state: &State) -> Result<Event, Fatal> {
        let revision = self.batch.revision;
        let kv = match self.change.kind {
            EventType::Put => self.change.kv.clone(),
            EventType::Delete => self.deleted().encode(),
        };
        let is_creation = kv.view().create_revision == revision;
        let previous = match is_creation {
            true => None,
            false => state.view().get(self.key(), revision - 1)?,
        };
        Ok(Event::new(self.change.kind, &kv, previous.as_ref()))
    }

    fn deleted(&self) -> KeyValueView {
        KeyValueView {
            key: Bytes::copy_from_slice(self.key()),
            mod_revision: self.batch.revision,
            ..KeyValueView::default()
        }
    }
}
