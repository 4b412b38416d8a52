//! A value that one side changes and others wait for, like `tokio::sync::watch`, which wakes waiters in an order that it draws.
//!
//! Here they wake in the order in which they began to wait, so a simulation that runs twice goes the same way twice. The calls are
//! those of tokio that the store uses, with the same meaning: a receiver sees the latest value and may miss those between; a change
//! that it has not seen comes before the news that all senders are gone.
//!
//! Lock order: none is held while another is taken, and no waker runs or is dropped under a lock, since both may lead back here.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    ops::Deref,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard};

/// A value and the first of its senders and receivers.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let sender = Sender::new(value);
    let receiver = sender.subscribe();
    (sender, receiver)
}

/// All senders are gone: the value will not change again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watched value will not change again")]
pub struct Closed;

struct Channel<T> {
    value: RwLock<T>,
    /// Counts changes; raised while `value` is locked for writing.
    version: AtomicU64,
    waiters: Mutex<Waiters>,
}

struct Waiters {
    senders: usize,
    next: u64,
    /// By number, which is the order in which they came.
    queue: VecDeque<(u64, Waker)>,
}

impl<T> Channel<T> {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Wakes all who wait now, the oldest first; those who come meanwhile have seen what there is to see.
    fn wake_all(&self) {
        let mut waiters = self.waiters.lock();
        let end = waiters.next;
        while waiters
            .queue
            .front()
            .is_some_and(|(number, _)| *number < end)
        {
            let woken = waiters.queue.pop_front();
            MutexGuard::unlocked(&mut waiters, || woken.map(|(_, waker)| waker.wake()));
        }
    }
}

/// Changes the value.
pub struct Sender<T>(Arc<Channel<T>>);

impl<T> Sender<T> {
    /// A value that nobody receives yet.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Channel {
            value: RwLock::new(value),
            version: AtomicU64::new(0),
            waiters: Mutex::new(Waiters {
                senders: 1,
                next: 0,
                queue: VecDeque::new(),
            }),
        }))
    }

    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        Receiver {
            seen: self.0.version(),
            channel: self.0.clone(),
        }
    }

    /// The present value. Whoever changes it waits until the guard is dropped.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.value.read())
    }

    /// Puts another value, whether anybody receives it or not; gives the one before.
    pub fn send_replace(&self, value: T) -> T {
        let mut before = value;
        self.send_modify(|current| std::mem::swap(current, &mut before));
        before
    }

    /// Changes the value in place.
    pub fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Changes the value in place if `change` says that it did; gives what it says.
    pub fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut value = self.0.value.write();
            let modified = change(&mut value);
            if modified {
                self.0.version.fetch_add(1, Ordering::Release);
            }
            modified
        };
        if modified {
            self.0.wake_all();
        }
        modified
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.waiters.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let left = {
            let mut waiters = self.0.waiters.lock();
            waiters.senders -= 1;
            waiters.senders
        };
        if left == 0 {
            self.0.wake_all();
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sender").field(&*self.borrow()).finish()
    }
}

/// Sees the value, and which of its changes are new.
pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

impl<T> Receiver<T> {
    /// The present value, which does not count as seen by this.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.channel.value.read())
    }

    /// The present value, which now is seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.channel.value.read();
        self.seen = self.channel.version();
        Ref(value)
    }

    /// Counts the present value as seen.
    pub fn mark_unchanged(&mut self) {
        self.seen = self.channel.version();
    }

    /// Completes when there is a change that was not seen, and counts it as seen. Cancelling it loses nothing.
    pub fn changed(&mut self) -> Changed<'_, T> {
        Changed {
            channel: &self.channel,
            seen: &mut self.seen,
            waits_as: None,
        }
    }

    /// Completes with the first value that `wanted` accepts, at once if it is the present one.
    pub async fn wait_for(
        &mut self,
        mut wanted: impl FnMut(&T) -> bool,
    ) -> Result<Ref<'_, T>, Closed> {
        loop {
            {
                let value = self.channel.value.read();
                self.seen = self.channel.version();
                if wanted(&value) {
                    return Ok(Ref(value));
                }
            }
            let changed = Changed {
                channel: &self.channel,
                seen: &mut self.seen,
                waits_as: None,
            };
            changed.await?;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self {
            channel: self.channel.clone(),
            seen: self.seen,
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receiver").field(&*self.borrow()).finish()
    }
}

/// The value, locked for reading; it must not be held across an await.
#[derive(Debug)]
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Waits for a change; see [`Receiver::changed`].
#[must_use = "a future does nothing unless it is awaited"]
pub struct Changed<'a, T> {
    channel: &'a Channel<T>,
    seen: &'a mut u64,
    waits_as: Option<u64>,
}

impl<T> Changed<'_, T> {
    /// Keeps the place of a waiter that is polled again before it was woken; gives the waker that it had then.
    fn enqueue(&mut self, waiters: &mut Waiters, waker: Waker) -> Option<Waker> {
        if let Some(place) = self.place(waiters) {
            return Some(std::mem::replace(&mut waiters.queue[place].1, waker));
        }
        self.waits_as = Some(waiters.next);
        waiters.queue.push_back((waiters.next, waker));
        waiters.next += 1;
        None
    }

    fn place(&self, waiters: &Waiters) -> Option<usize> {
        let waits_as = self.waits_as?;
        let found = waiters
            .queue
            .binary_search_by_key(&waits_as, |(number, _)| *number);
        found.ok()
    }
}

impl<T> Future for Changed<'_, T> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let channel = this.channel;
        let mut waiters = channel.waiters.lock();
        // Looked at under the lock that a change takes after it has raised the version: it sees us, or we see it.
        let version = channel.version();
        if version != *this.seen {
            *this.seen = version;
            return Poll::Ready(Ok(()));
        }
        if waiters.senders == 0 {
            return Poll::Ready(Err(Closed));
        }
        let before = this.enqueue(&mut waiters, cx.waker().clone());
        drop(waiters);
        drop(before);
        Poll::Pending
    }
}

impl<T> Drop for Changed<'_, T> {
    fn drop(&mut self) {
        if self.waits_as.is_none() {
            return;
        }
        let mut waiters = self.channel.waiters.lock();
        let place = self.place(&waiters);
        let waker = place.and_then(|place| waiters.queue.remove(place));
        drop(waiters);
        drop(waker);
    }
}

#[cfg(test)]
#[path = "watch_test.rs"]
mod tests;
