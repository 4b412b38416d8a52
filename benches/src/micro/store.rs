//! The state machine, over an engine in memory: what is measured is what lies before the engine.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_runtime::{Disk, SystemDisk};
use catena_store::{
    Command, DeliveryKind, Entry, Options, Position, Request, Store, WatchStream,
    backend::{self, Engine},
};

use super::measured;
use crate::load::{Keys, value};

/// Puts in an entry: a batch of 64 clients.
const BATCH: usize = 64;
/// Keys in a range, and watchers of a key.
const MANY: usize = 1000;

const fn keys(count: usize) -> Keys {
    Keys {
        prefix: "bench/",
        count,
    }
}

/// A store and what a member does with it.
struct Stand {
    store: Store,
    next: u64,
}

impl Stand {
    /// A store that holds each key once.
    fn new(keys: Keys) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let engine = backend::open(Engine::Memory, &disk, Path::new(""))?;
        let mut stand = Self {
            store: Store::open(engine, Options::default())?,
            next: 0,
        };
        let puts = puts(keys);
        for batch in puts.chunks(BATCH) {
            stand.apply(batch.to_vec())?;
        }
        stand.settle()?;
        Ok(stand)
    }

    fn apply(&mut self, commands: Vec<Command>) -> Result<()> {
        let position = Position {
            term: 1,
            index: self.next,
        };
        self.next += 1;
        black_box(self.store.apply(Entry {
            position,
            membership: None,
            commands,
        })?);
        Ok(())
    }

    /// Carries to the engine what was applied, which a member does on another thread.
    fn settle(&mut self) -> Result<()> {
        if let Some(sealed) = self.store.seal() {
            self.store.committer().commit(sealed)?;
        }
        Ok(())
    }
}

fn puts(keys: Keys) -> Vec<Command> {
    let value = value(256);
    let put = |place| {
        Command::internal(Request::Put(pb::PutRequest {
            key: keys.key(place),
            value: value.clone(),
            ..Default::default()
        }))
    };
    keys.shuffled().into_iter().map(put).collect()
}

fn watched(stream: &mut WatchStream, key: Bytes) {
    stream.create(&pb::WatchCreateRequest {
        key,
        ..Default::default()
    });
}

pub(super) fn apply(times: u64, watchers: usize) -> Result<(u64, Duration)> {
    let keys = keys(10_000);
    let mut stand = Stand::new(keys)?;
    let mut stream = stand.store.reader().watch();
    for watcher in 0..watchers {
        watched(&mut stream, format!("other/{watcher}").into());
    }
    let puts = puts(keys);
    let mut batches = puts.chunks_exact(BATCH).cycle();
    let (mut done, mut taken) = (0, Duration::ZERO);
    while done < times {
        let batch = batches.next().context("there are puts")?.to_vec();
        done += batch.len() as u64;
        let mut batch = Some(batch);
        taken += measured(&mut || stand.apply(batch.take().unwrap_or_default()))?;
        stand.settle()?;
    }
    Ok((done, taken))
}

pub(super) fn get(times: u64) -> Result<(u64, Duration)> {
    let keys = keys(100_000);
    let reader = Stand::new(keys)?.store.reader();
    let get = |place| pb::RangeRequest {
        key: keys.key(place),
        ..Default::default()
    };
    let gets: Vec<_> = keys.shuffled().into_iter().map(get).collect();
    let mut gets = gets.iter().cycle().take(usize::try_from(times)?);
    let taken = measured(&mut || {
        for get in gets.by_ref() {
            black_box(reader.range(get)?);
        }
        Ok(())
    })?;
    Ok((times, taken))
}

pub(super) fn range(times: u64) -> Result<(u64, Duration)> {
    let keys = keys(100_000);
    let reader = Stand::new(keys)?.store.reader();
    let ranges = usize::try_from(times)?.div_ceil(MANY);
    let starts = keys
        .shuffled()
        .into_iter()
        .filter(|place| place + MANY < keys.count);
    let starts: Vec<_> = starts.collect();
    let mut requests = starts
        .iter()
        .cycle()
        .take(ranges)
        .map(|place| pb::RangeRequest {
            key: keys.key(*place),
            range_end: keys.key(place + MANY),
            ..Default::default()
        });
    let taken = measured(&mut || {
        for request in requests.by_ref() {
            black_box(reader.range(&request)?);
        }
        Ok(())
    })?;
    Ok(((ranges * MANY) as u64, taken))
}

pub(super) fn event(times: u64) -> Result<(u64, Duration)> {
    let key = keys(1);
    let mut stand = Stand::new(key)?;
    let mut stream = stand.store.reader().watch();
    for _ in 0..MANY {
        watched(&mut stream, key.key(0));
    }
    let (mut events, mut taken) = (0, Duration::ZERO);
    while events < times {
        stand.apply(puts(key))?;
        stand.settle()?;
        let before = events;
        taken += measured(&mut || {
            while events < before + MANY as u64 {
                events += deliver(&mut stream)?;
            }
            Ok(())
        })?;
    }
    Ok((events, taken))
}

/// Takes what is due as responses; gives how many events it had.
fn deliver(stream: &mut WatchStream) -> Result<u64> {
    let mut events = 0;
    for delivery in stream.poll(1 << 20)? {
        if let DeliveryKind::Events { events: some, .. } = &delivery.kind {
            events += some.len() as u64;
        }
        black_box(delivery.into_responses(1 << 20));
    }
    Ok(events)
}
