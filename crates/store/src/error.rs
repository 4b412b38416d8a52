//! Errors of the state machine.

use std::path::PathBuf;

use bytes::Bytes;

use crate::backend::Bucket;

/// What apply or a read refuses. All of these are deterministic: every member comes to the same one at the same index, and the
/// client gets it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A request without a key.
    #[error("key is not provided")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist; an operation of a txn that is not set.
    #[error("key not found")]
    KeyNotFound,
    /// `ignore_value` with a value.
    #[error("value is provided")]
    ValueProvided,
    /// `ignore_lease` with a lease.
    #[error("lease is provided")]
    LeaseProvided,
    /// More operations in a txn than allowed.
    #[error("too many operations in txn request")]
    TooManyOps,
    /// One branch of a txn writes a key twice.
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    /// Unknown sort order or target.
    #[error("invalid sort option")]
    InvalidSortOption,
    /// The revision is compacted.
    #[error("required revision has been compacted")]
    Compacted,
    /// The revision does not exist yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// No such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// The id is taken.
    #[error("lease already exists")]
    LeaseExists,
    /// TTL above the maximum.
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    /// Alarm NOSPACE is raised.
    #[error("database space exceeded")]
    NoSpace,
    /// Alarm CORRUPT is raised.
    #[error("corrupt cluster")]
    Corrupt,
    /// No such member, or it was removed before.
    #[error("member not found")]
    MemberNotFound,
    /// The member's id is taken.
    #[error("member ID already exist")]
    MemberExists,
    /// A peer URL belongs to another member.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// Only learners are promoted.
    #[error("can only promote a learner member")]
    NotLearner,
    /// A streamed range in another order than the default one.
    #[error("RangeStream does not support custom sort orders")]
    StreamSort,
    /// A streamed range with revision filters.
    #[error("RangeStream does not support revision filters")]
    StreamFilter,
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The request is refused: for the client.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The member cannot read its state: it must stop.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// What stops the member: its state can no longer be trusted or kept.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The engine failed.
    #[error("storage engine: {0}")]
    Engine(String),
    /// A file is damaged.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and how it is put right where that can be done by hand.
        what: String,
    },
    /// Another process has the files open.
    #[error("{path} is in use by another process")]
    Locked {
        /// The file, or the directory.
        path: PathBuf,
    },
    /// The files were written by a version with another layout.
    #[error("{path} has format {found}, this version reads format {known}")]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A record that the key index knows is not in the engine.
    #[error("the record of revision {main}.{sub} is missing")]
    Lost {
        /// The revision.
        main: i64,
        /// The place in it.
        sub: i64,
    },
    /// A record in the engine or the log is not what it should be.
    #[error("record of {bucket}: {error}")]
    Record {
        /// Where it stands.
        bucket: &'static str,
        /// What is wrong.
        error: crate::codec::Malformed,
    },
    /// A key in the engine is not what it should be.
    #[error("key {key:?} of {bucket} is malformed")]
    Key {
        /// Where it stands.
        bucket: &'static str,
        /// The key.
        key: Bytes,
    },
    /// The log gave an entry that is not the next one.
    #[error("entry {index} came after entry {applied} was applied")]
    Order {
        /// Index of the entry.
        index: u64,
        /// Index applied last.
        applied: u64,
    },
    /// File access failed.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
}

impl Fatal {
    /// A malformed key.
    pub(crate) fn key(bucket: Bucket, key: &[u8]) -> Self {
        Fatal::Key {
            bucket: bucket.name(),
            key: Bytes::copy_from_slice(key),
        }
    }

    /// A malformed value.
    pub(crate) fn record(bucket: Bucket, error: impl Into<crate::codec::Malformed>) -> Self {
        Fatal::Record {
            bucket: bucket.name(),
            error: error.into(),
        }
    }
}
