//! The side that writes: documents are published, looked at, taken back, and given to some before all.
//!
//! Every publication is one transaction over document, meta and history, guarded by what the publisher read. So of two that overlap
//! one wins, and one of unknown outcome can be sent again: it finds its own mark if the first one took place.

mod delete;
mod gray;
mod history;
mod publish;
pub mod schema;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use catena_client::{
    Kv,
    pb::{KeyValue, KeyValueView, RangeRequest, RangeResponse},
    request,
};
use futures_util::future::try_join;

pub use history::{HISTORY_AGE_MAX, HISTORY_MAX};
pub(super) use publish::at_most;
pub use publish::{Change, Expect, PUBLISHED_BYTES_MAX};
pub use watch::{Event, Watch};

use super::{
    AppName, DocumentName, Error, Format, ListenerState, Meta, Result, Revision, key::Kind, meta,
};

/// How often a reading is repeated that was overtaken by a compaction.
const READS_MAX: usize = 4;

/// The configuration of all applications, for those who write it. Cloning is cheap.
#[derive(Clone)]
pub struct ConfigCenter {
    kv: Arc<dyn Kv>,
}

/// A document as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The document and what is known of it. One that was written by hand has version 0.
    pub revision: Revision,
    /// The store's revision at which this was read: a watch that goes on from there misses nothing.
    pub read_at: i64,
}

impl ConfigCenter {
    /// The configuration in a store.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv }
    }

    /// A document as it stands.
    pub async fn get(&self, name: &DocumentName) -> Result<Current> {
        let (read, read_at) = self.read(name).await?;
        let content = read.content.as_ref().ok_or_else(|| absent(name))?;
        Ok(Current {
            revision: Revision {
                meta: read.meta_or_by_hand(name, &content.value),
                content: content.value.clone(),
            },
            read_at,
        })
    }

    /// The documents of an application, by name, with what is known of them, and the store's revision at which this was read; those
    /// written by hand are left out.
    pub async fn documents(&self, app: &AppName) -> Result<(BTreeMap<String, Meta>, i64)> {
        let prefix = app.prefix(Kind::Meta);
        let answer = self.kv.range(request::get_prefix(prefix.clone())).await?;
        let metas = by_name(&answer, prefix.len(), |value| {
            serde_json::from_slice(value).ok()
        });
        let read_at = answer.header.map_or(0, |header| header.revision);
        Ok((metas, read_at))
    }

    /// What each instance of an application made of its documents, by instance.
    pub async fn listeners(
        &self,
        app: &AppName,
    ) -> Result<BTreeMap<String, BTreeMap<String, ListenerState>>> {
        let prefix = app.prefix(Kind::Listener);
        let answer = self.kv.range(request::get_prefix(prefix.clone())).await?;
        Ok(by_name(&answer, prefix.len(), |value| {
            serde_json::from_slice(value).ok()
        }))
    }

    /// What stands at a document's keys, and the revision of the reading. Not in one transaction: one that only reads, given up by its
    /// client, ends the process of an etcd before 3.5.5.
    async fn read(&self, name: &DocumentName) -> Result<(Read, i64)> {
        for _ in 0..READS_MAX {
            match self.try_read(name).await {
                // The revision of the first read was compacted before the last.
                Err(Error::Store(error)) if error.is_compacted() => {}
                read => return read,
            }
        }
        self.try_read(name).await
    }

    async fn try_read(&self, name: &DocumentName) -> Result<(Read, i64)> {
        let answer = self
            .kv
            .range(request::get(name.key(Kind::Document)))
            .await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        let other = async |kind| -> Result<Option<KeyValueView>> {
            let range = RangeRequest {
                revision,
                ..request::get(name.key(kind))
            };
            let answer = self.kv.range(range).await?;
            Ok(answer.kvs.first().map(KeyValue::view))
        };
        let (meta, schema) = try_join(other(Kind::Meta), other(Kind::Schema)).await?;
        let read = Read {
            content: answer.kvs.first().map(KeyValue::view),
            meta,
            schema,
        };
        Ok((read, revision))
    }
}

impl std::fmt::Debug for ConfigCenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigCenter").finish_non_exhaustive()
    }
}

/// What stands at a document's keys.
struct Read {
    content: Option<KeyValueView>,
    meta: Option<KeyValueView>,
    schema: Option<KeyValueView>,
}

impl Read {
    /// The meta, whether or not it is that of the content.
    fn meta(&self) -> Option<Meta> {
        let meta = self.meta.as_ref()?;
        serde_json::from_slice(&meta.value).ok()
    }

    /// The meta, if it was written with the content.
    fn own_meta(&self) -> Option<Meta> {
        let (content, meta) = (self.content.as_ref()?, self.meta.as_ref()?);
        let together = content.mod_revision == meta.mod_revision;
        together.then(|| self.meta()).flatten()
    }

    /// The version that a publisher has to know: 0 for what does not exist or was written by hand.
    fn version(&self) -> u64 {
        self.own_meta().map_or(0, |meta| meta.version)
    }

    fn meta_or_by_hand(&self, name: &DocumentName, content: &Bytes) -> Meta {
        self.own_meta().unwrap_or_else(|| Meta {
            version: 0,
            format: Format::of_file(name.doc()).unwrap_or(Format::Text),
            sha256: meta::sha256(content),
            author: String::new(),
            comment: String::new(),
            at_ms: 0,
            schema: self.schema.is_some(),
            publication: String::new(),
        })
    }
}

fn absent(name: &DocumentName) -> Error {
    Error::Absent {
        what: "document",
        name: name.to_string(),
    }
}

/// The values of a range by what stands behind its prefix; what cannot be read is left out.
fn by_name<T>(
    answer: &RangeResponse,
    prefix: usize,
    read: impl Fn(&Bytes) -> Option<T>,
) -> BTreeMap<String, T> {
    let entries = answer.kvs.iter().filter_map(|kv| {
        let kv = kv.view();
        let name = std::str::from_utf8(kv.key.get(prefix..)?).ok()?.to_owned();
        Some((name, read(&kv.value)?))
    });
    entries.collect()
}
