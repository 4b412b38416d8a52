//! Stores and engines in memory.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use bytes::Bytes;
use catena_runtime::Disk;
use catena_store::{
    Options, Store,
    backend::{self, Backend, Bucket, Engine, View, Visit},
};

use crate::{disk::Memory, refused};

/// Everything in an engine.
pub(crate) type Pairs = BTreeMap<(Bucket, Bytes), Bytes>;

/// An empty engine.
pub(crate) fn engine() -> Arc<dyn Backend> {
    let disk: Arc<dyn Disk> = Arc::new(Memory::default());
    let opened = backend::open(Engine::Memory, &disk, Path::new("engine"));
    opened.expect("memory has room")
}

/// What an engine holds.
pub(crate) fn pairs(view: &dyn View) -> Pairs {
    let mut pairs = Pairs::new();
    for bucket in Bucket::ALL {
        let scanned = view.scan(bucket, &[], None, &mut |key, value| {
            let pair = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            pairs.insert((bucket, pair.0), pair.1);
            Visit::Continue
        });
        scanned.expect("memory can be read");
    }
    pairs
}

/// A store on what came from outside: it opens, and can be asked for all it has, or says why not.
pub(crate) fn opens(engine: Arc<dyn Backend>) {
    match Store::open(engine, Options::default()) {
        Ok(store) => {
            let reader = store.reader();
            if let Err(error) = reader.hash_kv(0) {
                refused(error);
            }
            if let Err(error) = reader.hash() {
                refused(error);
            }
        }
        Err(error) => refused(error),
    }
}
