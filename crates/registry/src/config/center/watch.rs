//! Following what is published, for those who want to be told and not configured.

use std::collections::VecDeque;

use catena_client::{
    Watcher,
    pb::{EventType, WatchCreateRequest},
    request,
};

use super::ConfigCenter;
use crate::config::{AppName, DocumentName, Meta, Result, key::Kind};

/// A document was published or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The store's revision.
    pub revision: i64,
    /// The document's own name.
    pub doc: String,
    /// What is known of the version; `None` if the document was deleted.
    pub meta: Option<Meta>,
}

/// Follows publications. Dropping it ends that.
#[derive(Debug)]
pub struct Watch {
    watcher: Watcher,
    prefix: usize,
    ready: VecDeque<Event>,
}

impl ConfigCenter {
    /// Follows all of an application's documents from a revision on; from now on if it is 0.
    pub async fn watch_app(&self, app: &AppName, from: i64) -> Result<Watch> {
        let prefix = app.prefix(Kind::Meta);
        self.follow(request::watch_prefix(prefix.clone()), from, prefix.len())
            .await
    }

    /// Follows a document from a revision on; from now on if it is 0.
    pub async fn watch_document(&self, name: &DocumentName, from: i64) -> Result<Watch> {
        let prefix = name.app().prefix(Kind::Meta);
        self.follow(request::watch(name.key(Kind::Meta)), from, prefix.len())
            .await
    }

    async fn follow(&self, request: WatchCreateRequest, from: i64, prefix: usize) -> Result<Watch> {
        let watcher = self
            .kv
            .watch(WatchCreateRequest {
                start_revision: from,
                ..request
            })
            .await?;
        Ok(Watch {
            watcher,
            prefix,
            ready: VecDeque::new(),
        })
    }
}

impl Watch {
    /// The store's revision after which this follows, if it was asked to begin now.
    pub fn began_after(&self) -> i64 {
        self.watcher.created().revision
    }

    /// The next event. An error is the end: if it is that of a compaction, read again and follow from there. Dropping the future
    /// loses nothing.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let response = self.watcher.next().await?;
            let prefix = self.prefix;
            self.ready = response
                .events
                .iter()
                .filter_map(|event| {
                    let kv = event.kv()?.view();
                    let meta = match event.kind() {
                        EventType::Put => Some(serde_json::from_slice(&kv.value).ok()?),
                        EventType::Delete => None,
                    };
                    Some(Event {
                        revision: kv.mod_revision,
                        doc: std::str::from_utf8(kv.key.get(prefix..)?).ok()?.to_owned(),
                        meta,
                    })
                })
                .collect();
        }
    }
}
