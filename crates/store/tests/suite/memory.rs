//! The simplest engine that keeps the contract.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use catena_store::{
    Fatal,
    backend::{Backend, Bucket, Change, Sizes, View, Visit},
};

type Map = BTreeMap<(Bucket, Bytes), Bytes>;

/// All buckets in one map; a view shares it until the next write.
#[derive(Default)]
pub(crate) struct Memory {
    map: Mutex<Arc<Map>>,
}

struct Picture(Arc<Map>);

impl Memory {
    /// A map with the pairs of a view: what a follower makes of a snapshot.
    pub(crate) fn copy_of(view: &dyn View) -> Self {
        let mut map = Map::new();
        for bucket in Bucket::ALL {
            let mut put = |key: &[u8], value: &[u8]| {
                let pair = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
                map.insert((bucket, pair.0), pair.1);
                Visit::Continue
            };
            view.scan(bucket, b"", None, &mut put).unwrap();
        }
        Self {
            map: Mutex::new(Arc::new(map)),
        }
    }

    /// Number of pairs in a bucket.
    pub(crate) fn len(&self, bucket: Bucket) -> usize {
        let map = self.current();
        map.keys().filter(|(at, _)| *at == bucket).count()
    }

    fn current(&self) -> Arc<Map> {
        self.map
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Backend for Memory {
    fn write(&self, changes: &[Change]) -> Result<(), Fatal> {
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let map = Arc::make_mut(&mut map);
        for change in changes {
            match change {
                Change::Put(bucket, key, value) => {
                    map.insert((*bucket, key.clone()), value.clone());
                }
                Change::Delete(bucket, key) => {
                    map.remove(&(*bucket, key.clone()));
                }
            }
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View>, Fatal> {
        Ok(Box::new(Picture(self.current())))
    }

    fn sizes(&self) -> Sizes {
        let map = self.current();
        let bytes = map
            .iter()
            .map(|((_, key), value)| key.len() + value.len())
            .sum::<usize>() as u64;
        Sizes {
            physical: bytes,
            in_use: bytes,
        }
    }

    fn defragment(&self) -> Result<(), Fatal> {
        Ok(())
    }
}

impl View for Picture {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        Ok(self.0.get(&(bucket, Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        for ((at, key), value) in self.0.range((bucket, Bytes::copy_from_slice(from))..) {
            let is_past = *at != bucket || to.is_some_and(|to| &key[..] >= to);
            if is_past || visit(key, value) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }
}
