//! What waits for one stream.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::event::Batch;

/// What one item takes beside the events it points to.
const ITEM_BYTES: usize = 64;

/// Progress notices that may wait; a request beyond that is dropped, as etcd drops it when its queue is full.
const PROGRESS_MAX: usize = 128;

/// One thing that a stream has to tell, in the order in which it became due.
#[derive(Debug)]
pub(super) enum Item {
    /// Events of one revision for one watcher.
    Events {
        interest: u64,
        batch: Arc<Batch>,
        /// Places in the batch, ascending.
        picked: Vec<u32>,
    },
    /// The watcher gets nothing more from the hub: it has to read history from `next` on.
    Lagging { interest: u64, next: i64 },
    /// Progress.
    Progress { scope: Scope, revision: i64 },
}

/// Whom a progress notice concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Watcher(u64),
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
    filled: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: usize,
    progress: usize,
}

impl Item {
    /// Bytes of the events.
    pub(super) fn bytes(&self) -> usize {
        let events = match self {
            Item::Events { batch, picked, .. } => {
                let events = picked.iter();
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
            filled: Notify::new(),
            bytes_max,
        }
    }

    /// Takes events, or refuses them for want of room.
    pub(super) fn push_events(&self, interest: u64, batch: &Arc<Batch>, picked: Vec<u32>) -> bool {
        let item = Item::Events {
            interest,
            batch: batch.clone(),
            picked,
        };
        let bytes = item.bytes();
        let mut queue = self.queue.lock();
        if queue.bytes > 0 && queue.bytes + bytes > self.bytes_max {
            return false;
        }
        queue.bytes += bytes;
        queue.items.push_back(item);
        drop(queue);
        self.filled.notify_one();
        true
    }

    /// Notes that a watcher lags; there is at most one such note for each watcher.
    pub(super) fn push_lagging(&self, interest: u64, next: i64) {
        self.push(Item::Lagging { interest, next });
    }

    /// Takes a progress notice unless too many are waiting.
    pub(super) fn push_progress(&self, scope: Scope, revision: i64) {
        let mut queue = self.queue.lock();
        if queue.progress >= PROGRESS_MAX {
            return;
        }
        queue.progress += 1;
        drop(queue);
        self.push(Item::Progress { scope, revision });
    }

    fn push(&self, item: Item) {
        let mut queue = self.queue.lock();
        queue.bytes += item.bytes();
        queue.items.push_back(item);
        drop(queue);
        self.filled.notify_one();
    }

    /// Takes items out until they have `bytes_max` or there are no more.
    pub(super) fn drain(&self, bytes_max: usize) -> Vec<Item> {
        let mut queue = self.queue.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(item) = queue.items.pop_front() else {
                break;
            };
            bytes += item.bytes();
            queue.progress -= usize::from(matches!(item, Item::Progress { .. }));
            taken.push(item);
        }
        queue.bytes -= bytes;
        taken
    }

    /// How full it is.
    pub(super) fn load(&self) -> InboxLoad {
        let mut load = InboxLoad::default();
        for item in &self.queue.lock().items {
            if matches!(item, Item::Events { .. }) {
                load.items += 1;
                load.bytes += item.bytes();
            }
        }
        load
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.lock().items.is_empty()
    }

    /// Returns when something has come since the last time. Cancel-safe.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}
