//! Where events meet watchers.
//!
//! The hub knows the synced watchers of all streams: by key those that watch one key, in a tree of intervals the others. A batch of
//! events finds exactly those that want it; what nobody watches costs a look-up. A watcher whose stream has no room is struck off
//! and told where to go on; it reads history until it can join again.
//!
//! It also keeps recent batches, so that those who lag a little need not read the engine.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use catena_api::EventType;

use super::{
    event::{Batch, Occurrence},
    inbox::{Inbox, InboxLoad, Picked, Watcher},
    ranges::Ranges,
};
use crate::{
    Options,
    mvcc::{End, Interval},
};

/// Revisions that a watcher may still lack when it joins; they are handed to it under the hub's lock, so they are few.
const JOIN_REVISIONS_MAX: usize = 32;

/// Types of event that a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters {
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
}

/// A synced watcher, as the hub sees it.
#[derive(Debug)]
pub(super) struct Interest {
    pub(super) watcher: Watcher,
    pub(super) interval: Interval,
    /// Events of earlier revisions are not wanted.
    from: i64,
    filters: Filters,
    inbox: Arc<Inbox>,
    lagging: AtomicBool,
}

/// The synced watchers and the recent events.
pub(crate) struct Hub {
    /// Revision of the newest published state.
    revision: i64,
    next_id: u64,
    keys: HashMap<Bytes, Vec<Arc<Interest>>>,
    ranges: Ranges,
    recent: Recent,
    /// Watches of all streams, synced or not.
    watches: usize,
    watches_max: usize,
}

/// What watching holds in memory, for who checks that it is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchLoad {
    /// Bytes of recent events.
    pub recent_bytes: usize,
    /// What waits for the stream of each synced watch.
    pub inboxes: Vec<InboxLoad>,
}

/// Batches that are still in memory.
struct Recent {
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    bytes_max: usize,
    /// Every event from this revision on is in `batches`.
    first: i64,
}

impl Filters {
    pub(super) fn pass(self, kind: EventType) -> bool {
        match kind {
            EventType::Put => !self.no_put,
            EventType::Delete => !self.no_delete,
        }
    }
}

impl Interest {
    pub(super) fn new(
        watcher: Watcher,
        interval: Interval,
        from: i64,
        filters: Filters,
        inbox: Arc<Inbox>,
    ) -> Self {
        Self {
            watcher,
            interval,
            from,
            filters,
            inbox,
            lagging: AtomicBool::new(false),
        }
    }

    /// Whether the hub has struck it off.
    pub(super) fn is_lagging(&self) -> bool {
        self.lagging.load(Ordering::Relaxed)
    }

    /// Strikes it off: what it got so far ends before `next`.
    fn lag(&self, next: i64) {
        self.lagging.store(true, Ordering::Relaxed);
        self.inbox.push_lagging(self.watcher, next.max(self.from));
    }

    /// Hands events to it; false if its stream has no room for them.
    fn take(&self, batch: &Arc<Batch>, picked: Picked) -> bool {
        self.inbox.push_events(self.watcher, batch, picked)
    }

    fn wants(&self, batch: &Batch, event: Occurrence<'_>) -> bool {
        batch.revision >= self.from && self.filters.pass(event.kind())
    }

    /// Places of the wanted events.
    fn pick(&self, batch: &Batch) -> Vec<u32> {
        let events = (0..).zip(batch.events());
        let wanted = events
            .filter(|(_, event)| self.wants(batch, *event) && self.interval.contains(event.key()));
        wanted.map(|(place, _)| place).collect()
    }
}

impl Hub {
    pub(crate) fn new(revision: i64, options: &Options) -> Self {
        Self {
            revision,
            next_id: 0,
            keys: HashMap::new(),
            ranges: Ranges::default(),
            recent: Recent::new(revision, options.history_bytes),
            watches: 0,
            watches_max: options.watches_max,
        }
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Counts one more watch; false if there are too many.
    #[must_use]
    pub(super) fn enlist(&mut self) -> bool {
        let has_room = self.watches < self.watches_max;
        self.watches += usize::from(has_room);
        has_room
    }

    /// So many watches have ended.
    pub(super) fn dismiss(&mut self, count: usize) {
        self.watches -= count;
    }

    /// A fresh id for a watcher.
    pub(super) fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Hands new events to those who want them.
    pub(crate) fn publish(&mut self, batches: Vec<Arc<Batch>>, revision: i64) {
        for batch in batches {
            if !self.keys.is_empty() || !self.ranges.is_empty() {
                self.deliver(&batch);
            }
            self.recent.push(batch);
        }
        self.revision = revision;
    }

    fn deliver(&mut self, batch: &Arc<Batch>) {
        let too_slow = match batch.only() {
            Some(event) => self.deliver_one(batch, event),
            None => self.deliver_many(batch),
        };
        for interest in too_slow {
            self.remove(&interest);
            interest.lag(batch.revision);
        }
    }

    /// Delivers the only event of a batch; gives the watchers that have no room for it. Nobody finds it twice, so nothing need be
    /// gathered for each of them.
    fn deliver_one(&self, batch: &Arc<Batch>, event: Occurrence<'_>) -> Vec<Arc<Interest>> {
        let mut too_slow = Vec::new();
        self.interested(event, &mut |interest| {
            if interest.wants(batch, event) && !interest.take(batch, Picked::One(0)) {
                too_slow.push(interest.clone());
            }
        });
        too_slow
    }

    /// The same for several events, of which each watcher gets its own as one.
    fn deliver_many(&self, batch: &Arc<Batch>) -> Vec<Arc<Interest>> {
        let mut wanted: BTreeMap<u64, (Arc<Interest>, Vec<u32>)> = BTreeMap::new();
        for (place, event) in (0..).zip(batch.events()) {
            self.interested(event, &mut |interest| {
                if interest.wants(batch, event) {
                    let entry = wanted.entry(interest.watcher.interest);
                    let (_, picked) = entry.or_insert_with(|| (interest.clone(), Vec::new()));
                    picked.push(place);
                }
            });
        }
        let mut too_slow = Vec::new();
        for (interest, picked) in wanted.into_values() {
            if !interest.take(batch, picked.into()) {
                too_slow.push(interest);
            }
        }
        too_slow
    }

    /// Calls `visit` for all who watch the key of an event.
    fn interested(&self, event: Occurrence<'_>, visit: &mut dyn FnMut(&Arc<Interest>)) {
        if let Some(interests) = self.keys.get(event.key()) {
            interests.iter().for_each(&mut *visit);
        }
        self.ranges.containing(event.key(), visit);
    }

    /// Adds a watcher that has everything before `interest.from`, if it lacks nothing or only a little, which it gets here. False if
    /// it lacks more and has to read on.
    pub(super) fn join(&mut self, interest: &Arc<Interest>) -> bool {
        if interest.from <= self.revision {
            let missing = match self.recent(interest.from, JOIN_REVISIONS_MAX) {
                Some((missing, last)) if last == self.revision => missing,
                _ => return false,
            };
            for batch in missing {
                let picked = interest.pick(&batch);
                if !picked.is_empty() && !interest.take(&batch, picked.into()) {
                    interest.lag(batch.revision);
                    return true;
                }
            }
        }
        match interest.interval.end {
            End::Single => {
                let key = interest.interval.start.clone();
                self.keys.entry(key).or_default().push(interest.clone());
            }
            End::Before(_) | End::Open => self.ranges.insert(interest.clone()),
        }
        true
    }

    /// Takes a watcher out.
    pub(super) fn remove(&mut self, interest: &Interest) {
        match interest.interval.end {
            End::Single => {
                if let Some(interests) = self.keys.get_mut(&interest.interval.start) {
                    interests.retain(|other| other.watcher != interest.watcher);
                    if interests.is_empty() {
                        self.keys.remove(&interest.interval.start);
                    }
                }
            }
            End::Before(_) | End::Open => self.ranges.remove(interest),
        }
    }

    /// Recent batches from a revision on, at most `max` of them, and the revision up to which they are complete; `None` if memory
    /// does not reach back so far.
    pub(super) fn recent(&self, from: i64, max: usize) -> Option<(Vec<Arc<Batch>>, i64)> {
        self.recent.from(from, max, self.revision)
    }

    /// What all this takes.
    pub(crate) fn load(&self) -> WatchLoad {
        let mut inboxes = Vec::new();
        let mut visit = |interest: &Arc<Interest>| inboxes.push(interest.inbox.load());
        self.keys.values().flatten().for_each(&mut visit);
        self.ranges.each(&mut visit);
        WatchLoad {
            recent_bytes: self.recent.bytes,
            inboxes,
        }
    }

    /// Goes on from another state: every watcher has to read history, from the revision after the last one that it got.
    pub(crate) fn reset(&mut self, revision: i64) {
        let by_key = std::mem::take(&mut self.keys).into_values().flatten();
        for interest in by_key.chain(self.ranges.drain()) {
            interest.lag(self.revision + 1);
        }
        self.revision = revision;
        self.recent = Recent::new(revision, self.recent.bytes_max);
    }
}

impl Recent {
    fn new(revision: i64, bytes_max: usize) -> Self {
        Self {
            batches: VecDeque::new(),
            bytes: 0,
            bytes_max,
            first: revision + 1,
        }
    }

    fn push(&mut self, batch: Arc<Batch>) {
        self.bytes += batch.bytes;
        self.batches.push_back(batch);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.batches.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes;
            self.first = oldest.revision + 1;
        }
    }

    fn from(&self, from: i64, max: usize, revision: i64) -> Option<(Vec<Arc<Batch>>, i64)> {
        if from < self.first {
            return None;
        }
        let start = self.batches.partition_point(|batch| batch.revision < from);
        let batches: Vec<_> = self.batches.iter().skip(start).take(max).cloned().collect();
        let last = match batches.last() {
            Some(batch) if start + batches.len() < self.batches.len() => batch.revision,
            _ => revision,
        };
        Some((batches, last))
    }
}
