//! What `etcdutl snapshot status` tells about a file.

use std::collections::HashSet;

use bytes::Bytes;
use catena_api::KeyValue;

use super::{Error, Reader};
use crate::backend::{Bucket, Visit};

/// Lengths of the keys of revisions: main, `_`, sub; and those of tombstones, with a mark.
const REVISION_BYTES: usize = 17;
const TOMBSTONE_BYTES: usize = 18;

/// What is in a snapshot file, as etcd counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C of all names, keys and values, in order.
    pub hash: u32,
    /// The last one.
    pub revision: i64,
    /// Keys that are there at the last revision.
    pub total_keys: u64,
    /// Bytes of the database.
    pub total_bytes: u64,
    /// The storage version; empty before 3.6.
    pub version: String,
}

impl Reader {
    /// Walks over everything. Memory holds every live key once.
    pub fn status(&self) -> Result<Status, Error> {
        let mut status = Status {
            total_bytes: self.file_bytes(),
            ..Status::default()
        };
        let mut live = HashSet::new();
        for bucket in self.buckets() {
            status.hash = crc32c::crc32c_append(status.hash, bucket);
            let mut wrong = None;
            self.scan(bucket, &mut |key, value| {
                status.hash = crc32c::crc32c_append(status.hash, key);
                status.hash = crc32c::crc32c_append(status.hash, value);
                if bucket == Bucket::Meta.name().as_bytes() && key == b"storageVersion" {
                    status.version = String::from_utf8_lossy(value).into_owned();
                }
                if bucket == Bucket::Key.name().as_bytes() {
                    match revision(key) {
                        Some(revision) => status.revision = revision,
                        None => wrong = Some(Bytes::copy_from_slice(key)),
                    }
                    note(&mut live, key, value);
                }
                if wrong.is_some() {
                    Visit::Stop
                } else {
                    Visit::Continue
                }
            })?;
            if let Some(key) = wrong {
                return Err(Error::Malformed(format!(
                    "cannot parse revision key: {key:?}"
                )));
            }
        }
        status.total_keys = live.len() as u64;
        Ok(status)
    }
}

fn note(live: &mut HashSet<Bytes>, key: &[u8], value: &[u8]) {
    let user_key = KeyValue::from_encoded(Bytes::copy_from_slice(value)).key();
    if key.len() == TOMBSTONE_BYTES {
        live.remove(&user_key);
    } else {
        // A copy, so that the set does not keep the values.
        live.insert(Bytes::copy_from_slice(&user_key));
    }
}

/// The main revision of a record's key.
fn revision(key: &[u8]) -> Option<i64> {
    let (main, rest) = key.split_first_chunk::<8>()?;
    let fits = matches!(key.len(), REVISION_BYTES | TOMBSTONE_BYTES) && rest.first() == Some(&b'_');
    let main = i64::try_from(u64::from_be_bytes(*main)).ok()?;
    fits.then_some(main)
}
