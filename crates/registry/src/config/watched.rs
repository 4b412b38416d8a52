//! A typed part of the configuration that follows its changes.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;
use tracing::error;

use super::{Error, Result, Violation, tree, typed};

/// Observers of one value; whoever needs more has forgotten to drop his subscriptions.
const OBSERVERS_MAX: usize = 256;

/// Why a value is refused. The text is static so that it cannot carry the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The path below the watched one; empty for the whole.
    pub path: &'static str,
    /// What is expected.
    pub message: &'static str,
}

/// The present value of a part of the configuration. Clones see the same changes, each at its own pace.
pub struct Watched<T> {
    cell: Arc<Cell<T>>,
    count: watch::Receiver<Count>,
    /// The changes that this end has seen.
    seen: u64,
}

/// How often a value has changed, and whether it can again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    changes: u64,
    closed: bool,
}

type Check<T> = Box<dyn Fn(&T) -> Result<(), Invalid> + Send + Sync>;
type Observer<T> = Arc<dyn Fn(&Arc<T>) + Send + Sync>;

struct Cell<T> {
    path: String,
    value: ArcSwap<T>,
    check: Check<T>,
    count: watch::Sender<Count>,
    observers: Mutex<Vec<(u64, Observer<T>)>>,
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// The present value, without a lock.
    pub fn load(&self) -> Arc<T> {
        self.cell.value.load_full()
    }

    /// Waits for the next change that this end has not seen, and gives the newest value. Changes between may be passed over; whoever
    /// has to see each one uses [`on_change`](Self::on_change). Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Result<Arc<T>> {
        let seen = self.seen;
        let found = self
            .count
            .wait_for(|count| count.closed || count.changes != seen)
            .await;
        match found {
            Ok(count) if count.changes != seen => self.seen = count.changes,
            Ok(_) | Err(_) => return Err(Error::Closed),
        }
        Ok(self.cell.value.load_full())
    }

    /// Calls `observer` with every value from the next change on, in order, on the task that applies changes: it must be quick,
    /// since it holds up those that come after. A panic of it is logged and changes nothing. Ends when the subscription is dropped.
    pub fn on_change(
        &self,
        observer: impl Fn(&Arc<T>) + Send + Sync + 'static,
    ) -> Result<Subscription> {
        let mut observers = self.cell.observers.lock();
        if observers.len() >= OBSERVERS_MAX {
            return Err(Error::TooMuch {
                what: "observers of one value",
                actual: observers.len() + 1,
                limit: OBSERVERS_MAX,
            });
        }
        let id = observers.last().map_or(0, |(id, _)| id + 1);
        observers.push((id, Arc::new(observer)));
        Ok(Subscription {
            cell: self.cell.clone(),
            id,
        })
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self {
            cell: self.cell.clone(),
            count: self.count.clone(),
            seen: self.seen,
        }
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("path", &self.cell.path)
            .finish_non_exhaustive()
    }
}

/// An observer's place. Dropping it ends the calls; as long as it stands, the value is watched, whether or not a [`Watched`] is left.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    cell: Arc<dyn Observed>,
    id: u64,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cell.forget(self.id);
    }
}

trait Observed: Send + Sync {
    fn forget(&self, id: u64);
}

impl<T: Send + Sync> Observed for Cell<T> {
    fn forget(&self, id: u64) {
        self.observers.lock().retain(|(other, _)| *other != id);
    }
}

/// A watched value as the side that applies changes sees it.
pub(crate) trait Slot: Send + Sync {
    /// Reads the value out of the next tree; `None` if it is as before.
    fn stage(self: Arc<Self>, before: &Value, next: &Value) -> Result<Option<Staged>>;

    /// Nothing will change any more.
    fn close(&self);
}

/// A new value that is read and checked. It is stored first, with all others of the same change, and told about afterwards.
pub(crate) struct Staged {
    pub(crate) store: Box<dyn FnOnce() + Send>,
    pub(crate) tell: Box<dyn FnOnce() + Send>,
}

/// Reads and checks a value.
fn read<T: DeserializeOwned>(path: &str, tree: &Value, check: &Check<T>) -> Result<T> {
    let value = typed::get(tree, path)?;
    match check(&value) {
        Ok(()) => Ok(value),
        Err(invalid) => Err(Error::Refused(vec![Violation {
            path: match invalid.path {
                "" => path.to_owned(),
                below => tree::join(path, below),
            },
            rule: "valid",
            message: invalid.message.to_owned(),
        }])),
    }
}

/// Makes the two ends of a watched value, unless what stands in the tree is refused.
pub(crate) fn open<T: DeserializeOwned + Send + Sync + 'static>(
    path: &str,
    tree: &Value,
    check: Check<T>,
) -> Result<(Watched<T>, Weak<dyn Slot>)> {
    let value = read(path, tree, &check)?;
    let (counter, count) = watch::channel(Count {
        changes: 0,
        closed: false,
    });
    let cell = Arc::new(Cell {
        path: path.to_owned(),
        value: ArcSwap::from_pointee(value),
        check,
        count: counter,
        observers: Mutex::default(),
    });
    let slot: Arc<dyn Slot> = cell.clone();
    // The slot lives as long as somebody watches.
    let slot = Arc::downgrade(&slot);
    let watched = Watched {
        cell,
        count,
        seen: 0,
    };
    Ok((watched, slot))
}

impl<T: DeserializeOwned + Send + Sync + 'static> Slot for Cell<T> {
    fn stage(self: Arc<Self>, before: &Value, next: &Value) -> Result<Option<Staged>> {
        if tree::lookup(before, &self.path) == tree::lookup(next, &self.path) {
            return Ok(None);
        }
        let value = Arc::new(read(&self.path, next, &self.check)?);
        let (cell, stored) = (self.clone(), value.clone());
        Ok(Some(Staged {
            store: Box::new(move || cell.value.store(stored)),
            tell: Box::new(move || self.tell(&value)),
        }))
    }

    fn close(&self) {
        self.count.send_modify(|count| count.closed = true);
    }
}

impl<T> Cell<T> {
    fn tell(&self, value: &Arc<T>) {
        self.count.send_modify(|count| count.changes += 1);
        // A copy, so that an observer may subscribe and unsubscribe.
        let observers = self.observers.lock().clone();
        for (_, observer) in observers {
            if catch_unwind(AssertUnwindSafe(|| observer(value))).is_err() {
                error!(
                    path = self.path,
                    "an observer of the configuration panicked"
                );
            }
        }
    }
}
