//! The engine on a disk that refuses syncs: what it was told to be written is there whatever happens next.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use catena_store::{
    Fatal,
    backend::{self, Backend, Bucket, Change, Engine, Visit},
};

use crate::{
    Case,
    disk::Crash,
    world::{Machine, with_seeds},
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![(
        "engine::nothing_is_built_on_what_a_refused_sync_left_behind",
        nothing_is_built_on_what_a_refused_sync_left_behind,
    )]
}

/// Batches that are written between two crashes, at most.
const BATCHES_MAX: u64 = 12;

fn open(machine: &Machine) -> Result<Arc<dyn Backend>, Fatal> {
    let dir = Path::new("/member/snap");
    backend::open(Engine::Redb, &machine.boot().disk, dir)
}

fn contents(engine: &dyn Backend) -> BTreeMap<Bytes, Bytes> {
    let mut pairs = BTreeMap::new();
    let view = engine.view().unwrap();
    view.scan(Bucket::Key, b"", None, &mut |key, value| {
        pairs.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        Visit::Continue
    })
    .unwrap();
    pairs
}

/// What is there is what was acknowledged, and perhaps the batch behind it, which nobody was told of.
fn settle(
    engine: &dyn Backend,
    kept: &mut BTreeMap<Bytes, Bytes>,
    doubtful: Option<(Bytes, Bytes)>,
) {
    let found = contents(engine);
    if found != *kept {
        kept.extend(doubtful);
    }
    assert_eq!(found, *kept);
}

fn nothing_is_built_on_what_a_refused_sync_left_behind() {
    let refused = AtomicUsize::new(0);
    with_seeds(
        "engine::nothing_is_built_on_what_a_refused_sync_left_behind",
        60,
        async |chance| {
            let machine = Machine::new("m1", &chance);
            let mut kept = BTreeMap::new();
            for round in 0..6_u64 {
                let engine = open(&machine).unwrap();
                settle(&*engine, &mut kept, None);
                machine.drive().fail_sync_after(chance.below(BATCHES_MAX));
                let mut doubtful = None;
                for number in 0..BATCHES_MAX {
                    let key = Bytes::from(format!("key {}", chance.below(40)));
                    let value = Bytes::from(vec![number as u8; 1 + chance.below(9000) as usize]);
                    let change = Change::Put(Bucket::Key, key.clone(), value.clone());
                    if engine.write(&[change]).is_err() {
                        refused.fetch_add(1, Ordering::SeqCst);
                        doubtful = Some((key, value));
                        break;
                    }
                    kept.insert(key, value);
                }
                // The process exits and starts again on the same page cache, goes on, and then the power fails.
                machine.crash(Crash::Kill);
                let engine = open(&machine).unwrap();
                settle(&*engine, &mut kept, doubtful);
                if chance.below(2) == 0 {
                    let pair = (Bytes::from("round"), Bytes::from(round.to_string()));
                    let change = Change::Put(Bucket::Key, pair.0.clone(), pair.1.clone());
                    engine.write(&[change]).unwrap();
                    kept.extend([pair]);
                }
                machine.crash(*chance.pick(&[Crash::Power, Crash::Reordered]));
            }
        },
    );
    assert!(
        refused.load(Ordering::SeqCst) > 0,
        "some runs meet the fault"
    );
}
