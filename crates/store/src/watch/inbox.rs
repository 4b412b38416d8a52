//! What waits for one stream.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::{Mutex, MutexGuard};

use super::event::Batch;

/// What one item takes beside the events it points to.
const ITEM_BYTES: usize = 64;

/// Progress notices that may wait; a request beyond that is dropped, as etcd drops it when its queue is full.
const PROGRESS_MAX: usize = 128;

/// A watch, as what waits in the inbox of its stream names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watcher {
    /// Unique over all streams and for ever, unlike the other.
    pub(super) interest: u64,
    /// What the stream calls it.
    pub(super) watch_id: i64,
}

/// Places in a batch, ascending. Most batches have one event, and a batch has many watchers.
#[derive(Clone, Debug)]
pub(super) enum Picked {
    One(u32),
    Many(Box<[u32]>),
}

/// One thing that a stream has to tell, in the order in which it became due.
#[derive(Debug)]
pub(super) enum Item {
    /// Events of one revision for one watcher.
    Events {
        watcher: Watcher,
        batch: Arc<Batch>,
        picked: Picked,
    },
    /// The watcher gets nothing more from the hub: it has to read history from `next` on.
    Lagging { watcher: Watcher, next: i64 },
    /// Progress.
    Progress { scope: Scope, revision: i64 },
}

/// Whom a progress notice concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Watcher(Watcher),
    /// All watches of the stream that there were in this epoch of it.
    Stream {
        epoch: u64,
    },
}

/// What waits for one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InboxLoad {
    /// Items that hold events.
    pub items: usize,
    /// Bytes of these events.
    pub bytes: usize,
}

/// Filled by the hub, emptied by the stream. Bounded: the events of all items together keep below a limit, unless it is one item.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    bytes_max: usize,
}

///
/// The hub goes through the inboxes of all watchers of an event, and each of them then through its own: nothing of it is in a cache, and
/// what counts is how many places of memory that touches.
#[derive(Debug, Default)]
struct Queue {
    /// The first item lies here: mostly there is no other.
    first: Option<Item>,
    /// Empty if there is no first.
    others: VecDeque<Item>,
    bytes: usize,
    progress: usize,
    rung: bool,
    /// Whom to wake, once.
    waiting: Option<Waker>,
}

/// What a stream is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Something may be due.
    pub due: bool,
    /// Its bell has rung since this was last told.
    pub rung: bool,
}

impl Queue {
    fn push(&mut self, item: Item, bytes: usize) {
        self.bytes += bytes;
        match self.first {
            None => self.first = Some(item),
            Some(_) => self.others.push_back(item),
        }
    }

    fn pop(&mut self) -> Option<Item> {
        let item = self.first.take()?;
        self.first = self.others.pop_front();
        Some(item)
    }
}

impl Picked {
    pub(super) fn places(&self) -> &[u32] {
        match self {
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }
}

impl From<Vec<u32>> for Picked {
    fn from(places: Vec<u32>) -> Self {
        match places[..] {
            [place] => Self::One(place),
            _ => Self::Many(places.into()),
        }
    }
}

impl Item {
    /// Bytes of the events.
    pub(super) fn bytes(&self) -> usize {
        let events = match self {
            Item::Events { batch, picked, .. } => {
                let events = picked.places().iter();
                let events = events.filter_map(|place| batch.event(*place as usize));
                events.map(|event| event.bytes()).sum()
            }
            Item::Lagging { .. } | Item::Progress { .. } => 0,
        };
        events + ITEM_BYTES
    }
}

impl Inbox {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            bytes_max,
        }
    }

    /// Takes events, or refuses them for want of room.
    pub(super) fn push_events(&self, watcher: Watcher, batch: &Arc<Batch>, picked: Picked) -> bool {
        let item = Item::Events {
            watcher,
            batch: batch.clone(),
            picked,
        };
        let bytes = item.bytes();
        let queue = self.queue.lock();
        if queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
            return false;
        }
        push(queue, item, bytes);
        true
    }

    /// Notes that a watcher lags; there is at most one such note for each watcher.
    pub(super) fn push_lagging(&self, watcher: Watcher, next: i64) {
        let item = Item::Lagging { watcher, next };
        let bytes = item.bytes();
        push(self.queue.lock(), item, bytes);
    }

    /// Takes a progress notice unless too many are waiting.
    pub(super) fn push_progress(&self, scope: Scope, revision: i64) {
        let mut queue = self.queue.lock();
        if queue.progress >= PROGRESS_MAX {
            return;
        }
        queue.progress += 1;
        let item = Item::Progress { scope, revision };
        let bytes = item.bytes();
        push(queue, item, bytes);
    }

    /// Moves items to `taken` until they have `bytes_max` or there are no more; gives their bytes.
    pub(super) fn drain(&self, bytes_max: usize, taken: &mut Vec<Item>) -> usize {
        let mut queue = self.queue.lock();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(item) = queue.pop() else {
                break;
            };
            bytes += item.bytes();
            queue.progress -= usize::from(matches!(item, Item::Progress { .. }));
            taken.push(item);
        }
        queue.bytes -= bytes;
        bytes
    }

    /// How full it is.
    pub(super) fn load(&self) -> InboxLoad {
        let mut load = InboxLoad::default();
        let queue = self.queue.lock();
        for item in queue.first.iter().chain(&queue.others) {
            if matches!(item, Item::Events { .. }) {
                load.items += 1;
                load.bytes += item.bytes();
            }
        }
        load
    }

    /// What there is to do; if nothing, the next thing wakes this caller and no earlier one.
    pub(super) fn poll_ready(&self, cx: &Context<'_>) -> Poll<Ready> {
        let mut queue = self.queue.lock();
        let ready = Ready {
            due: queue.first.is_some(),
            rung: std::mem::take(&mut queue.rung),
        };
        if ready.due || ready.rung {
            return Poll::Ready(ready);
        }
        let is_known = |waiting: &Waker| waiting.will_wake(cx.waker());
        if !queue.waiting.as_ref().is_some_and(is_known) {
            queue.waiting = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Wake for Inbox {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut queue = self.queue.lock();
        queue.rung = true;
        wake(queue);
    }
}

/// Adds an item.
fn push(mut queue: MutexGuard<'_, Queue>, item: Item, bytes: usize) {
    queue.push(item, bytes);
    wake(queue);
}

/// Wakes who waits, when the lock is free.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waiting = queue.waiting.take();
    drop(queue);
    if let Some(waiting) = waiting {
        waiting.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn lag(inbox: &Inbox, next: i64) {
        let watcher = Watcher {
            interest: 1,
            watch_id: 0,
        };
        inbox.push_lagging(watcher, next);
    }

    fn drained(inbox: &Inbox, bytes_max: usize) -> Vec<i64> {
        let mut items = Vec::new();
        let bytes = inbox.drain(bytes_max, &mut items);
        assert_eq!(bytes, items.iter().map(Item::bytes).sum::<usize>());
        let next = items.iter().map(|item| match item {
            Item::Lagging { next, .. } => *next,
            Item::Events { .. } | Item::Progress { .. } => panic!("{item:?}"),
        });
        next.collect()
    }

    #[test]
    fn items_come_in_order_however_they_are_taken() {
        let inbox = Inbox::new(0);
        (1..=3).for_each(|next| lag(&inbox, next));
        assert_eq!(drained(&inbox, 1), [1]);
        lag(&inbox, 4);
        assert_eq!(drained(&inbox, 2 * ITEM_BYTES), [2, 3]);
        lag(&inbox, 5);
        assert_eq!(drained(&inbox, usize::MAX), [4, 5]);
        assert!(drained(&inbox, usize::MAX).is_empty());
    }

    #[test]
    fn who_asked_last_is_woken_once() {
        let inbox = Inbox::new(0);
        let woken: [Arc<Woken>; 2] = Default::default();
        for woken in &woken {
            let waker = Waker::from(woken.clone());
            assert!(inbox.poll_ready(&Context::from_waker(&waker)).is_pending());
        }
        lag(&inbox, 1);
        lag(&inbox, 2);
        assert_eq!(woken.each_ref().map(|woken| woken.times()), [0, 1]);
        let due = Ready {
            due: true,
            rung: false,
        };
        let ready = inbox.poll_ready(&Context::from_waker(Waker::noop()));
        assert_eq!(ready, Poll::Ready(due));
    }

    #[test]
    fn a_ring_is_told_once_and_hides_nothing() {
        let inbox = Arc::new(Inbox::new(0));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        assert!(inbox.poll_ready(&cx).is_pending());
        Waker::from(inbox.clone()).wake();
        lag(&inbox, 1);
        assert_eq!(woken.times(), 1);
        let told = [true, false].map(|rung| Poll::Ready(Ready { due: true, rung }));
        assert_eq!([(); 2].map(|()| inbox.poll_ready(&cx)), told);
        assert_eq!(drained(&inbox, usize::MAX), [1]);
        assert!(inbox.poll_ready(&cx).is_pending());
    }
}
