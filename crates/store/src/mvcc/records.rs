//! From revisions to records.

use std::sync::Arc;

use bytes::Bytes;
use catena_api::KeyValue;

use super::{cache::RecordCache, log::Log, revision::Revision};
use crate::{
    Fatal,
    backend::{Backend, Bucket, View, Visit},
};

/// A record in the overlay.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) revision: Revision,
    pub(crate) tombstone: bool,
    pub(crate) kv: KeyValue,
}

/// Records that were applied between two seals, ascending. The writer appends to the newest layer; the others are closed.
pub(crate) struct Layer {
    records: Log<Record>,
}

/// An engine and a view of it. The view is taken anew after each commit, so it pins no more than one commit's garbage.
pub(crate) struct Base {
    pub(crate) backend: Arc<dyn Backend>,
    view: Box<dyn View>,
    /// Of this engine, whichever view of it.
    cache: Arc<RecordCache>,
}

/// All records: those in the view of the engine and, newer than all of these, those in the layers.
#[derive(Clone)]
pub(crate) struct Records {
    pub(crate) base: Arc<Base>,
    /// Oldest first. The last one is open.
    pub(crate) layers: Arc<[Arc<Layer>]>,
}

/// A record as a scan meets it.
#[derive(Clone, Copy)]
pub(crate) enum Stored<'a> {
    /// In the engine's memory.
    Engine(&'a [u8]),
    /// In a layer.
    Layer(&'a KeyValue),
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self {
            records: Log::new(),
        }
    }

    /// Appends a record that is newer than all others. Only for the writer.
    pub(crate) fn push(&self, record: Record) {
        self.records.push(record);
    }

    /// The records, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        (0..self.records.len()).filter_map(|index| self.records.get(index))
    }

    fn get(&self, revision: Revision) -> Option<&Record> {
        let oldest = self.records.get(0)?;
        if revision < oldest.revision {
            return None;
        }
        let index = self
            .records
            .partition_point(|record| record.revision < revision);
        self.records
            .get(index)
            .filter(|record| record.revision == revision)
    }
}

impl Base {
    pub(crate) fn new(backend: Arc<dyn Backend>) -> Result<Self, Fatal> {
        let view = backend.view()?;
        let cache = Arc::new(RecordCache::new());
        Ok(Self {
            backend,
            view,
            cache,
        })
    }

    /// The engine as it is now.
    pub(crate) fn renewed(&self) -> Result<Self, Fatal> {
        let backend = self.backend.clone();
        Ok(Self {
            view: backend.view()?,
            backend,
            cache: self.cache.clone(),
        })
    }

    pub(crate) fn view(&self) -> &dyn View {
        &*self.view
    }
}

impl<'a> Stored<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Stored::Engine(bytes) => bytes,
            Stored::Layer(kv) => kv.as_encoded(),
        }
    }

    /// The record to keep beyond the scan.
    pub(crate) fn to_key_value(self) -> KeyValue {
        match self {
            Stored::Engine(bytes) => KeyValue::from_encoded(Bytes::copy_from_slice(bytes)),
            Stored::Layer(kv) => kv.clone(),
        }
    }

    /// The key, which is the first field of a record.
    pub(crate) fn key(self) -> &'a [u8] {
        first_field(self.bytes()).unwrap_or_default()
    }
}

impl Records {
    pub(crate) fn new(base: Base) -> Self {
        Self {
            base: Arc::new(base),
            layers: [Arc::new(Layer::new())].into(),
        }
    }

    /// The layer that the writer appends to.
    pub(crate) fn open(&self) -> &Layer {
        &self.layers[self.layers.len() - 1]
    }

    /// The record of a live item of the index. That it is missing means that the engine lost it.
    pub(crate) fn get(&self, revision: Revision) -> Result<KeyValue, Fatal> {
        for layer in self.layers.iter().rev() {
            if let Some(record) = layer.get(revision) {
                return Ok(record.kv.clone());
            }
        }
        let Base { view, cache, .. } = &*self.base;
        if let Some(kv) = cache.get(revision) {
            return Ok(kv);
        }
        let found = view.get(Bucket::Key, &revision.key(false))?;
        let kv = found.map(KeyValue::from_encoded).ok_or_else(|| {
            let Revision { main, sub } = revision;
            Fatal::Lost { main, sub }
        })?;
        cache.insert(revision, &kv);
        Ok(kv)
    }

    /// Visits the records from `from` on, up to main revision `last`, ascending.
    pub(crate) fn scan(
        &self,
        from: Revision,
        last: i64,
        visit: &mut dyn FnMut(Revision, bool, Stored<'_>) -> Visit,
    ) -> Result<(), Fatal> {
        let mut malformed = None;
        let end = Revision::first(last.saturating_add(1)).key(false);
        self.scan_keys(
            &from.key(false),
            Some(&end),
            &mut |key, stored| match Revision::parse(key) {
                Some((revision, tombstone)) => visit(revision, tombstone, stored),
                None => {
                    malformed = Some(Fatal::key(Bucket::Key, key));
                    Visit::Stop
                }
            },
        )?;
        malformed.map_or(Ok(()), Err)
    }

    /// The same by the keys of records.
    pub(crate) fn scan_keys(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Stored<'_>) -> Visit,
    ) -> Result<(), Fatal> {
        let mut stopped = false;
        // Everything in the engine is older than the layers, so the scan need not look there twice.
        let overlay = self.layers.iter().find_map(|layer| layer.records.get(0));
        let overlay = overlay.map(|record| record.revision.key(record.tombstone));
        let engine_to = match (to, overlay.as_deref()) {
            (Some(to), Some(overlay)) => Some(to.min(overlay)),
            (to, overlay) => to.or(overlay),
        };
        if engine_to.is_none_or(|to| from < to) {
            let view = &self.base.view;
            view.scan(Bucket::Key, from, engine_to, &mut |key, value| {
                let next = visit(key, Stored::Engine(value));
                stopped = next == Visit::Stop;
                next
            })?;
        }
        for layer in self.layers.iter() {
            if stopped {
                break;
            }
            stopped = layer.scan_keys(from, to, visit) == Visit::Stop;
        }
        Ok(())
    }
}

impl Layer {
    fn scan_keys(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Stored<'_>) -> Visit,
    ) -> Visit {
        let key = |record: &Record| record.revision.key(record.tombstone);
        let first = self
            .records
            .partition_point(|record| &key(record)[..] < from);
        for index in first..self.records.len() {
            let Some(record) = self.records.get(index) else {
                break;
            };
            let key = key(record);
            if to.is_some_and(|to| &key[..] >= to)
                || visit(&key, Stored::Layer(&record.kv)) == Visit::Stop
            {
                return Visit::Stop;
            }
        }
        Visit::Continue
    }
}

/// The first length-delimited field of a protobuf message if its number is 1.
fn first_field(message: &[u8]) -> Option<&[u8]> {
    const FIELD_1: u8 = 1 << 3 | 2;
    let (&FIELD_1, mut rest) = message.split_first()? else {
        return None;
    };
    let len = prost::decode_length_delimiter(&mut rest).ok()?;
    rest.get(..len)
}
