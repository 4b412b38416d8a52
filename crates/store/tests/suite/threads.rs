//! One writer, one committer and many readers at once: every reader sees whole moments, and watchers miss nothing.

use std::{
    sync::{
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc,
    },
    thread,
};

use catena_api::etcd::etcdserverpb as pb;
use catena_store::{DeliveryKind, Error, Options, ReadError, Reader, Request, Sealed, WatchStream};

use crate::{requests, world::World};

/// Transactions of the writer.
const TXNS: usize = 3000;

/// Keys that each transaction gives one and the same value.
const KEYS: [&str; 3] = ["a", "m", "z"];

fn options() -> Options {
    Options {
        compaction_batch_limit: 10,
        history_bytes: 4000,
        inbox_bytes: 4000,
        ..Options::default()
    }
}

/// All keys get the next value; every fifth time they are deleted first.
fn write(world: &mut World, place: usize) {
    if place.is_multiple_of(5) {
        world
            .apply(Request::DeleteRange(requests::delete("a", "\0")))
            .unwrap();
    }
    let put = |key: &str| pb::RequestOp {
        request: Some(pb::request_op::Request::RequestPut(requests::put(
            key,
            &place.to_string(),
        ))),
    };
    world
        .apply(Request::Txn(pb::TxnRequest {
            success: KEYS.iter().map(|key| put(key)).collect(),
            ..Default::default()
        }))
        .unwrap();
}

/// Reads now and in the past: all keys have one value or none is there, and a hash that can be had twice is the same twice.
fn read(reader: &Reader, done: &AtomicBool) {
    let mut last = 0;
    while !done.load(Ordering::Relaxed) {
        for back in [0, 1, 3] {
            let mut request = requests::range("a", "\0");
            request.revision = if back == 0 {
                0
            } else {
                (reader.revision() - back).max(1)
            };
            match reader.range(&request) {
                Ok((response, revision)) => {
                    assert!(revision >= last);
                    last = revision;
                    let values: Vec<_> = response.kvs.iter().map(|kv| kv.value()).collect();
                    assert!(values.is_empty() || values.len() == KEYS.len());
                    assert!(values.iter().all(|value| *value == values[0]));
                }
                Err(error) => {
                    assert!(matches!(error, ReadError::Refused(Error::Compacted)) && back > 0)
                }
            }
        }
        let revision = reader.revision();
        let (first, second) = (reader.hash_kv(revision), reader.hash_kv(revision));
        if let (Ok(first), Ok(second)) = (first, second)
            && first.compact_revision == second.compact_revision
        {
            assert_eq!(first.hash, second.hash, "revision {revision}");
        }
    }
}

/// Follows one key to the end: every put of it, in order. Notes how far it has come, so that no compaction overtakes it.
fn follow(stream: &mut WatchStream, done: &AtomicBool, bytes_max: usize, at: &AtomicI64) -> usize {
    let mut values = 0;
    loop {
        // Asked before polling: then a poll without result after the end says that all has come.
        let ended = done.load(Ordering::Acquire);
        let deliveries = stream.poll(bytes_max).unwrap();
        if ended && deliveries.is_empty() && stream_is_quiet(stream) {
            return values;
        }
        for delivery in deliveries {
            let DeliveryKind::Events { events, .. } = delivery.kind else {
                panic!("{delivery:?}");
            };
            for event in events {
                let kv = event.kv().unwrap().view();
                assert_eq!(kv.value, values.to_string());
                at.store(kv.mod_revision, Ordering::Relaxed);
                values += 1;
            }
        }
    }
}

/// Whether nothing is due: `ready` would wait.
fn stream_is_quiet(stream: &WatchStream) -> bool {
    let mut ready = std::pin::pin!(stream.ready());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    ready.as_mut().poll(&mut context).is_pending()
}

#[test]
fn readers_and_watchers_beside_the_writer() {
    let mut world = World::new(options());
    let reader = world.reader();
    let done = AtomicBool::new(false);
    let (to_commit, batches) = mpsc::sync_channel::<Sealed>(4);
    let committer = world.store.committer();
    let mut streams: Vec<WatchStream> = (0..2).map(|_| reader.watch()).collect();
    for stream in &mut streams {
        let created = stream.create(&pb::WatchCreateRequest {
            key: requests::bytes("m"),
            filters: vec![1],
            ..Default::default()
        });
        assert!(created.created);
    }
    let progress = [AtomicI64::new(1), AtomicI64::new(1)];
    thread::scope(|scope| {
        scope.spawn(move || {
            batches
                .into_iter()
                .for_each(|sealed| committer.commit(sealed).unwrap())
        });
        for _ in 0..2 {
            scope.spawn(|| read(&reader, &done));
        }
        let mut followers = Vec::new();
        for ((stream, bytes_max), at) in streams.iter_mut().zip([1, 100_000]).zip(&progress) {
            let done = &done;
            followers.push(scope.spawn(move || follow(stream, done, bytes_max, at)));
        }
        for place in 0..TXNS {
            write(&mut world, place);
            if place.is_multiple_of(7) {
                to_commit.send(world.store.seal().unwrap()).unwrap();
            }
            if place.is_multiple_of(100) {
                let slowest = progress.iter().map(|at| at.load(Ordering::Relaxed)).min();
                // Refused if nobody came further.
                world.apply(requests::compact(slowest.unwrap())).ok();
            }
            world.store.maintain().unwrap();
        }
        done.store(true, Ordering::Release);
        drop(to_commit);
        for follower in followers {
            assert_eq!(follower.join().unwrap(), TXNS);
        }
    });
}
