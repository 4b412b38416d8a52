//! etcd's snapshot file: a bbolt database and its SHA-256, written and read without bbolt.
//!
//! [`Writer`] makes the file from sorted pairs of the ten buckets, so that etcdutl checks and restores it and an etcd starts from
//! it. [`Reader`] opens a file of any etcd since 3.0, checks all of it and hands out the pairs.
//!
//! ```text
//! file     page 0 | page 1 | page 2 | ... | page hwm-1 | SHA-256 of all before it
//!          meta     meta     leaf and branch pages; one with a large element continues over the pages that follow it
//! root     a tree whose leaf elements are the buckets: name -> id of the bucket's root page, or a small bucket itself, inline
//! bucket   a tree: leaf pages hold pairs, branch pages the first key and the id of each child
//! ```
//!
//! Integers are little endian. What is in the buckets is not known here.

mod build;
mod page;
mod read;
mod status;
mod write;

#[cfg(test)]
mod tests;

pub use read::{Digest, Reader};
pub use status::Status;
pub use write::Writer;

use crate::{
    backend::{Bucket, View, Visit},
    error::Fatal,
};

/// Size of pages written: etcd's on all usual machines.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Longest key that bbolt takes.
const KEY_BYTES_MAX: usize = 32_768;

/// Bytes of the SHA-256 behind the file.
const DIGEST_BYTES: usize = 32;

/// Where the pairs of a [`Writer`] come from. It is walked twice and must show the same pairs both times.
pub trait Source: Send {
    /// Calls `visit` for the pairs of `bucket` with keys from `from` on, ascending, until it answers [`Visit::Stop`].
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal>;
}

impl<V: View + ?Sized> Source for std::sync::Arc<V> {
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        View::scan(self.as_ref(), bucket, from, None, visit)
    }
}

/// Why a file cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file has no digest behind it.
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoDigest,
    /// The digest does not fit the file.
    #[error("expected sha256 {expected:?}, got {found:?}")]
    Digest {
        /// What stands behind the file.
        expected: [u8; DIGEST_BYTES],
        /// What the file has.
        found: [u8; DIGEST_BYTES],
    },
    /// The file is damaged.
    #[error("snapshot file is damaged: {0}")]
    Malformed(String),
    /// The file cannot be read.
    #[error("snapshot file: {0}")]
    Read(#[from] std::io::Error),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] Fatal),
    /// The source holds what such a file cannot.
    #[error("bucket {bucket} cannot be written to a snapshot file: {what}")]
    Unwritable {
        /// The bucket.
        bucket: &'static str,
        /// Why.
        what: String,
    },
}
