//! What each watch still has to deliver.
//!
//! Whether a watch has delivered everything cannot be seen from the watch itself. So a witness, one watch over all keys on the
//! reference, tells what happened, and each watch's part of it follows from its interval, its start and its filters.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bytes::Bytes;
use catena_api::{EventType, etcd::etcdserverpb::WatchCreateRequest};
use framework::{Client, WatchStream};

struct Happened {
    revision: i64,
    kind: EventType,
    key: Bytes,
}

/// A watch that is alive on both sides.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    request: WatchCreateRequest,
    /// Events below are delivered already, or not wanted.
    from: i64,
}

/// The witness and all watches that are alive.
pub(crate) struct Watches {
    witness: WatchStream,
    happened: Vec<Happened>,
    seen: i64,
    pub(crate) alive: BTreeMap<(usize, i64), Expected>,
}

impl Watches {
    /// Opens the witness on the reference, a new store.
    pub(crate) async fn open(reference: &Client) -> Result<Self> {
        let mut witness = WatchStream::open(reference);
        let all = WatchCreateRequest {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: 2,
            ..Default::default()
        };
        ensure!(!witness.create(all).await?.canceled);
        Ok(Self {
            witness,
            happened: Vec::new(),
            seen: 1,
            alive: BTreeMap::new(),
        })
    }

    /// Adds a watch that was created while the store stood at `current`.
    pub(crate) fn add(
        &mut self,
        stream: usize,
        watch_id: i64,
        request: WatchCreateRequest,
        current: i64,
    ) {
        let from = match request.start_revision {
            0 => current + 1,
            start => start,
        };
        self.alive
            .insert((stream, watch_id), Expected { request, from });
    }

    /// Waits until the witness has seen all up to `current`: every revision has an event.
    pub(crate) async fn catch_up(&mut self, current: i64) -> Result<()> {
        while self.seen < current {
            for event in self.witness.next().await?.events {
                let kv = event.kv().unwrap_or_default().view();
                self.seen = kv.mod_revision;
                self.happened.push(Happened {
                    revision: kv.mod_revision,
                    kind: event.kind(),
                    key: kv.key,
                });
            }
        }
        Ok(())
    }

    /// How many events a watch has to deliver until now.
    pub(crate) fn due(&self, watch: &(usize, i64)) -> usize {
        let Some(expected) = self.alive.get(watch) else {
            return 0;
        };
        let due =
            |happened: &&Happened| happened.revision >= expected.from && expected.wants(happened);
        self.happened.iter().filter(due).count()
    }

    /// Notes that a watch has delivered all until now.
    pub(crate) fn delivered(&mut self, watch: &(usize, i64)) {
        let seen = self.seen;
        if let Some(expected) = self.alive.get_mut(watch) {
            expected.from = expected.from.max(seen + 1);
        }
    }

    /// Forgets history that no live watch and no later one needs from here: later ones that start in the past ask the store.
    pub(crate) fn forget_below(&mut self, revision: i64) {
        self.happened
            .retain(|happened| happened.revision >= revision);
    }

    /// Whether progress is answered on a stream: it has watches, and none of them starts later than now.
    pub(crate) fn answers_progress(&self, stream: usize, current: i64) -> bool {
        let mut watches = self
            .alive
            .iter()
            .filter(|((of, _), _)| *of == stream)
            .peekable();
        watches.peek().is_some()
            && watches.all(|(_, expected)| expected.request.start_revision <= current)
    }
}

impl Expected {
    fn wants(&self, happened: &Happened) -> bool {
        let filter = i32::from(happened.kind == EventType::Delete);
        let key = if self.request.key.is_empty() {
            &b"\0"[..]
        } else {
            &self.request.key
        };
        let inside = match &self.request.range_end[..] {
            b"" => happened.key == key,
            b"\0" => happened.key >= key,
            end => happened.key >= key && happened.key[..] < *end,
        };
        inside && !self.request.filters.contains(&filter)
    }
}
