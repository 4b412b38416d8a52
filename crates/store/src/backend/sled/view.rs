//! A view of sled at a version.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;

use super::{Key, Sled, fatal, key_of};
use crate::{
    backend::{Bucket, View, Visit},
    error::Fatal,
};

/// Pairs read from sled, and preimages merged with them, at a time.
const CHUNK_PAIRS: usize = 256;

/// Bytes after which a chunk ends.
const CHUNK_BYTES: usize = 1 << 20;

/// A snapshot made of sled's present state and the preimages of what was changed since.
pub(super) struct Snapshot {
    sled: Arc<Sled>,
    version: u64,
}

/// A part of a scan.
struct Chunk {
    pairs: Vec<(Key, Bytes)>,
    /// Where the next one begins.
    next: Option<Key>,
}

impl Snapshot {
    pub(super) fn new(sled: Arc<Sled>) -> Self {
        let version = sled.preimages.write().open_view();
        Self { sled, version }
    }

    /// Pairs from `from` on, before `to`.
    fn chunk(&self, from: &Key, to: &Key) -> Result<Chunk, Fatal> {
        let mut present = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        for pair in self.sled.data.range(&from[..]..&to[..]) {
            let (key, value) = pair.map_err(fatal)?;
            bytes += key.len() + value.len();
            present.push((Key::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
            if present.len() == CHUNK_PAIRS || bytes >= CHUNK_BYTES {
                last = present.last().map(|(key, _)| key.clone());
                break;
            }
        }
        let upper = last.as_ref().map_or(Bound::Excluded(to), Bound::Included);
        let preimages = self.sled.preimages.read();
        let (held, all) = preimages.range(from, upper, self.version, CHUNK_PAIRS)?;
        drop(preimages);
        if !all {
            last = held.keys().next_back().cloned();
        }
        if let Some(last) = &last {
            present.retain(|(key, _)| key <= last);
        }
        // Where both have a key, the preimage is right, and it may say that there was no such key.
        present.retain(|(key, _)| !held.contains_key(key));
        present.extend(
            held.into_iter()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        present.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let next = last.map(|last| [&last[..], &[0]].concat().into());
        Ok(Chunk {
            pairs: present,
            next,
        })
    }
}

impl View for Snapshot {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        let key = key_of(bucket, key);
        let present = self.sled.data.get(&key).map_err(fatal)?;
        match self.sled.preimages.read().get(&key, self.version)? {
            Some(held) => Ok(held),
            None => Ok(present.map(|value| Bytes::copy_from_slice(&value))),
        }
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        let to = match to {
            Some(to) if to <= from => return Ok(()),
            Some(to) => key_of(bucket, to),
            None => Key::copy_from_slice(&[bucket.tag() + 1]),
        };
        let mut next = Some(key_of(bucket, from));
        while let Some(from) = next.take().filter(|from| *from < to) {
            let chunk = self.chunk(&from, &to)?;
            for (key, value) in chunk.pairs {
                if visit(&key[1..], &value) == Visit::Stop {
                    return Ok(());
                }
            }
            next = chunk.next;
        }
        Ok(())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.sled.preimages.write().close_view(self.version);
    }
}
