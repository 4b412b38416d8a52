//! What happened on watches.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Pair, json};

/// Something that happened on a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// The stream on which the watch is: one number, one stream.
    pub client: u64,
    /// The watch, unique in the run. A watch that is resumed is a new one.
    pub watch: u64,
    /// The member that was addressed.
    pub endpoint: String,
    /// When: for `create` before it was sent, else after the message was read.
    pub ns: u64,
    /// What.
    #[serde(flatten)]
    pub event: WatchEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ev", rename_all = "lowercase")]
pub enum WatchEvent {
    /// It was asked for.
    Create {
        /// How.
        args: WatchArgs,
    },
    /// The member confirmed it.
    Created {
        /// `header.revision`.
        revision: i64,
        /// Who confirmed.
        #[serde(with = "json::id")]
        member: u64,
    },
    /// One response with events.
    Batch {
        /// `header.revision`.
        revision: i64,
        /// Whether more of the same response follows.
        #[serde(default)]
        fragment: bool,
        /// The events.
        events: Vec<Change>,
    },
    /// A bookmark: all events up to this revision were sent.
    Progress {
        /// `header.revision`.
        revision: i64,
        /// Of this watch, or of every watch on its stream.
        scope: Scope,
    },
    /// The member ended it.
    Canceled {
        /// The compacted revision, if that was why; else 0.
        #[serde(default)]
        compact_revision: i64,
        /// The member's words.
        #[serde(default)]
        reason: String,
    },
    /// The stream ended, or the client ended it.
    Closed {
        /// Why.
        #[serde(default)]
        error: String,
    },
}

/// What a watch asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WatchArgs {
    /// First key.
    #[serde(with = "json::bytes")]
    pub key: Bytes,
    /// End of the interval; empty: one key; `\0`: every key from the first.
    #[serde(with = "json::bytes", skip_serializing_if = "Bytes::is_empty")]
    pub range_end: Bytes,
    /// First revision wanted, 0 for the next one.
    #[serde(skip_serializing_if = "json::zero")]
    pub start_revision: i64,
    /// Kinds of events not wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Filter>,
    /// Whether events carry what was there before.
    #[serde(skip_serializing_if = "json::default")]
    pub prev_kv: bool,
    /// Whether bookmarks are wanted.
    #[serde(skip_serializing_if = "json::default")]
    pub progress_notify: bool,
    /// Whether a response may be cut in pieces.
    #[serde(skip_serializing_if = "json::default")]
    pub fragment: bool,
}

/// Kinds of events not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Filter {
    /// No puts.
    NoPut,
    /// No deletes.
    NoDelete,
}

/// What a bookmark covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The watch.
    Watch,
    /// Every watch on the stream.
    Stream,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Put or delete.
    #[serde(rename = "type")]
    pub kind: ChangeKind,
    /// What is there now; of a delete only key and `mod_revision`.
    pub kv: Pair,
    /// What was there before, if asked for and there.
    #[serde(default)]
    pub prev: Option<Pair>,
}

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChangeKind {
    /// The key was written.
    Put,
    /// The key was deleted.
    Delete,
}
