//! The engine for tests: maps in memory, views by copy-on-write.

use std::ops::Bound;

use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::RwLock;

use super::{Backend, Bucket, Change, Sizes, View, Visit};
use crate::error::Fatal;

/// Keeps nothing beyond the process.
#[derive(Default)]
pub(super) struct Memory {
    state: RwLock<State>,
}

#[derive(Clone, Default)]
struct State {
    buckets: [OrdMap<Bytes, Bytes>; Bucket::ALL.len()],
    bytes: u64,
}

impl Backend for Memory {
    fn write(&self, changes: &[Change]) -> Result<(), Fatal> {
        // Readers take a clone, so the batch is made on one too: nobody sees half of it.
        let mut next = self.state.read().clone();
        for change in changes {
            next.make(change);
        }
        *self.state.write() = next;
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, Fatal> {
        Ok(Box::new(self.state.read().clone()))
    }

    fn sizes(&self) -> Sizes {
        let bytes = self.state.read().bytes;
        Sizes {
            physical: bytes,
            in_use: bytes,
        }
    }

    fn defragment(&self) -> Result<(), Fatal> {
        Ok(())
    }
}

impl State {
    fn make(&mut self, change: &Change) {
        let (bucket, key) = change.key();
        let map = &mut self.buckets[usize::from(bucket.tag())];
        let old = match change {
            Change::Put(_, _, value) => map.insert(key.clone(), value.clone()),
            Change::Delete(..) => map.remove(key),
        };
        let freed = old.map_or(0, |value| key.len() + value.len());
        let taken = match change {
            Change::Put(..) => change.bytes(),
            Change::Delete(..) => 0,
        };
        self.bytes = self.bytes + taken as u64 - freed as u64;
    }
}

impl View for State {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        Ok(self.buckets[usize::from(bucket.tag())].get(key).cloned())
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        let map = &self.buckets[usize::from(bucket.tag())];
        let range = (Bound::Included(from), Bound::Unbounded);
        for (key, value) in map.range::<_, [u8]>(range) {
            if to.is_some_and(|to| &key[..] >= to) || visit(key, value) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }
}
