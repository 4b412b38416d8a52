//! The watches of one stream.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use catena_api::etcd::etcdserverpb::{self as pb, watch_create_request::FilterType};

use super::{
    delivery::{Delivery, DeliveryKind, header},
    event::Batch,
    hub::{Filters, Interest},
    inbox::{Inbox, Item, Picked, Ready, Scope, Watcher},
};
use crate::{Fatal, mvcc::Interval, state::Shared};

/// Watches of one stream: each costs a few hundred bytes, and nobody should make millions of them.
const WATCHES_MAX: usize = 1 << 16;

/// Why a watch is refused: the texts of etcd, and two of our own, since etcd refuses none for its number.
const NEGATIVE_START: &str = "etcdserver: mvcc: required revision has been compacted";
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const TOO_MANY: &str = "etcdserver: too many watches on one stream";
const TOO_MANY_IN_ALL: &str = "etcdserver: too many watches on this member";

/// The watches of one stream. The owner drives it: `create`, `cancel`, `progress`, `tick`, and `poll` whenever it is ready, which
/// `poll_ready` and `ready` tell. Dropping it ends all its watches.
pub struct WatchStream {
    pub(super) shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    pub(super) watches: BTreeMap<i64, Watch>,
    next_auto_id: i64,
    /// Number of watches that are catching up.
    pub(super) catching: usize,
    /// Counts the watches that began in the past. A progress of the stream that was due before such a watch came does not hold for it
    /// and is dropped.
    epoch: u64,
}

/// One watch.
pub(super) struct Watch {
    /// Whom the inbox names.
    watcher: Watcher,
    pub(super) interval: Interval,
    pub(super) filters: Filters,
    /// As it was asked for; 0 = from now on.
    start: i64,
    pub(super) prev_kv: bool,
    progress_notify: bool,
    pub(super) fragment: bool,
    pub(super) phase: Phase,
    /// Whether it had events since the last tick.
    pub(super) had_events: bool,
}

/// Where a watch gets its events from.
#[derive(Debug)]
pub(super) enum Phase {
    /// From the hub.
    Synced(Arc<Interest>),
    /// From history, from this revision on.
    Catching { next: i64 },
    /// From nowhere: compaction overtook it.
    Compacted,
}

impl WatchStream {
    pub(crate) fn new(shared: Arc<Shared>, inbox_bytes: usize) -> Self {
        Self {
            shared,
            inbox: Arc::new(Inbox::new(inbox_bytes)),
            watches: BTreeMap::new(),
            next_auto_id: 0,
            catching: 0,
            epoch: 0,
        }
    }

    /// Creates a watch. The answer is a complete response but for cluster id, member id and term; it must be sent before anything
    /// that `poll` gives. A refusal is `created` and `canceled` with id -1.
    pub fn create(&mut self, request: &pb::WatchCreateRequest) -> pb::WatchResponse {
        let key = match request.key.is_empty() {
            true => Bytes::from_static(b"\0"),
            false => request.key.clone(),
        };
        let interval = Interval::new(&key, &request.range_end);
        let refusal = if request.start_revision < 0 {
            Some(NEGATIVE_START)
        } else if interval.is_empty() {
            Some(EMPTY_RANGE)
        } else if request.watch_id != 0 && self.watches.contains_key(&request.watch_id) {
            Some(DUPLICATE_ID)
        } else if self.watches.len() >= WATCHES_MAX {
            Some(TOO_MANY)
        } else if !self.shared.hub().enlist() {
            Some(TOO_MANY_IN_ALL)
        } else {
            None
        };
        if let Some(reason) = refusal {
            return pb::WatchResponse {
                header: header(self.shared.hub().revision()),
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: reason.into(),
                ..Default::default()
            };
        }
        let watch_id = self.choose_id(request.watch_id);
        let revision = self.add(watch_id, interval, request);
        pb::WatchResponse {
            header: header(revision),
            watch_id,
            created: true,
            ..Default::default()
        }
    }

    fn choose_id(&mut self, wanted: i64) -> i64 {
        if wanted != 0 {
            return wanted;
        }
        while self.watches.contains_key(&self.next_auto_id) {
            self.next_auto_id += 1;
        }
        self.next_auto_id += 1;
        self.next_auto_id - 1
    }

    /// Adds a watch; gives the revision at which that was done.
    fn add(&mut self, watch_id: i64, interval: Interval, request: &pb::WatchCreateRequest) -> i64 {
        let filtered = |filter: FilterType| request.filters.contains(&(filter as i32));
        let filters = Filters {
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
        };
        let mut hub = self.shared.hub();
        let revision = hub.revision();
        let watcher = Watcher {
            interest: hub.new_id(),
            watch_id,
        };
        let start = match request.start_revision {
            0 => revision + 1,
            start => start,
        };
        let phase = if start > revision {
            let inbox = self.inbox.clone();
            let interest = Interest::new(watcher, interval.clone(), start, filters, inbox);
            let interest = Arc::new(interest);
            hub.join(&interest);
            Phase::Synced(interest)
        } else {
            self.catching += 1;
            self.epoch += 1;
            Phase::Catching { next: start }
        };
        drop(hub);
        let watch = Watch {
            watcher,
            interval,
            filters,
            start: request.start_revision,
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            phase,
            had_events: false,
        };
        self.watches.insert(watch_id, watch);
        revision
    }

    /// Cancels a watch; `None` if there is none with this id.
    pub fn cancel(&mut self, watch_id: i64) -> Option<pb::WatchResponse> {
        let watch = self.watches.remove(&watch_id)?;
        let mut hub = self.shared.hub();
        hub.dismiss(1);
        match &watch.phase {
            Phase::Synced(interest) => hub.remove(interest),
            Phase::Catching { .. } => self.catching -= 1,
            Phase::Compacted => {}
        }
        Some(pb::WatchResponse {
            header: header(hub.revision()),
            watch_id,
            canceled: true,
            ..Default::default()
        })
    }

    /// A progress request: if all watches are synced, `poll` will give a progress of the whole stream behind what is already due.
    /// Otherwise nothing happens.
    pub fn progress(&mut self) {
        let hub = self.shared.hub();
        let revision = hub.revision();
        let all = self.watches.values().all(|watch| watch.is_served(revision));
        if all && !self.watches.is_empty() {
            let epoch = self.epoch;
            self.inbox.push_progress(Scope::Stream { epoch }, revision);
        }
    }

    /// A tick of the progress interval: each watch that asked for progress, is synced and had no events since the last tick gets one.
    pub fn tick(&mut self) {
        let hub = self.shared.hub();
        let revision = hub.revision();
        let notified = self
            .watches
            .values_mut()
            .filter(|watch| watch.progress_notify);
        for watch in notified {
            let had_events = std::mem::take(&mut watch.had_events);
            if !had_events && watch.is_served(revision) {
                self.inbox
                    .push_progress(Scope::Watcher(watch.watcher), revision);
            }
        }
    }

    /// Number of watches, those that compaction ended included.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether there is no watch.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// What is due, about `bytes_max` of it (at least one delivery if any is due). May read history from the engine.
    pub fn poll(&mut self, bytes_max: usize) -> Result<Vec<Delivery>, Fatal> {
        let mut items = Vec::new();
        let bytes = self.inbox.drain(bytes_max.max(1), &mut items);
        let mut deliveries = Vec::with_capacity(items.len());
        for item in items {
            deliveries.extend(self.deliver(item)?);
        }
        if self.catching > 0 {
            self.catch_up(bytes_max.saturating_sub(bytes), &mut deliveries)?;
        }
        Ok(deliveries)
    }

    fn deliver(&mut self, item: Item) -> Result<Option<Delivery>, Fatal> {
        match item {
            Item::Events {
                watcher,
                batch,
                picked,
            } => match watch_of(&mut self.watches, watcher) {
                Some(watch) => live(watch, &batch, &picked, &self.shared).map(Some),
                None => Ok(None),
            },
            Item::Lagging { watcher, next } => {
                if let Some(watch) = watch_of(&mut self.watches, watcher) {
                    watch.phase = Phase::Catching { next };
                    self.catching += 1;
                }
                Ok(None)
            }
            Item::Progress { scope, revision } => {
                let watch_id = match scope {
                    Scope::Stream { epoch } => (epoch == self.epoch).then_some(-1),
                    Scope::Watcher(watcher) => {
                        let watch = watch_of(&mut self.watches, watcher);
                        watch.map(|watch| watch.watcher.watch_id)
                    }
                };
                Ok(watch_id.map(|watch_id| Delivery {
                    watch_id,
                    revision,
                    kind: DeliveryKind::Progress,
                }))
            }
        }
    }

    /// The watch as the hub is to see it once it has everything before `next`.
    pub(super) fn interest(&self, watch: &Watch, next: i64) -> Arc<Interest> {
        Arc::new(Interest::new(
            watch.watcher,
            watch.interval.clone(),
            next,
            watch.filters,
            self.inbox.clone(),
        ))
    }

    /// What there is to do: whether `poll` may have something to give, and whether the bell has rung. If nothing, the caller is woken
    /// for the next thing, in place of who asked before.
    pub fn poll_ready(&self, cx: &Context<'_>) -> Poll<Ready> {
        let ready = self.inbox.poll_ready(cx);
        match (ready, self.catching) {
            (_, 0) => ready,
            (Poll::Ready(ready), _) => Poll::Ready(Ready { due: true, ..ready }),
            (Poll::Pending, _) => Poll::Ready(Ready {
                due: true,
                rung: false,
            }),
        }
    }

    /// Returns when there is something to do. Cancel-safe; of several that wait only the last one is told.
    pub async fn ready(&self) -> Ready {
        poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// Rings when it is woken: for what the owner has to look at beside the watches, so that it need not whenever there are events.
    pub fn bell(&self) -> Waker {
        self.inbox.clone().into()
    }
}

impl Watch {
    /// Whether it is synced and a progress at `revision` would be true and is wanted.
    fn is_served(&self, revision: i64) -> bool {
        match &self.phase {
            Phase::Synced(interest) => !interest.is_lagging() && revision >= self.start,
            Phase::Catching { .. } | Phase::Compacted => false,
        }
    }
}

/// The watch, unless it was cancelled; its id may be that of another by now.
fn watch_of(watches: &mut BTreeMap<i64, Watch>, watcher: Watcher) -> Option<&mut Watch> {
    let watch = watches.get_mut(&watcher.watch_id)?;
    (watch.watcher == watcher).then_some(watch)
}

/// The events of a batch that the hub picked.
fn live(
    watch: &mut Watch,
    batch: &Batch,
    picked: &Picked,
    shared: &Shared,
) -> Result<Delivery, Fatal> {
    watch.had_events = true;
    let places = picked.places().iter();
    let picked = places.filter_map(|place| batch.event(*place as usize));
    let events = match watch.prev_kv {
        false => picked.map(|event| event.plain()).collect(),
        true => {
            let state = shared.load();
            let events = picked.map(|event| event.with_previous(&state));
            events.collect::<Result<_, Fatal>>()?
        }
    };
    Ok(Delivery {
        watch_id: watch.watcher.watch_id,
        revision: batch.revision,
        kind: DeliveryKind::Events {
            events,
            fragment: watch.fragment,
        },
    })
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        let mut hub = self.shared.hub();
        hub.dismiss(self.watches.len());
        for watch in self.watches.values() {
            if let Phase::Synced(interest) = &watch.phase {
                hub.remove(interest);
            }
        }
    }
}
