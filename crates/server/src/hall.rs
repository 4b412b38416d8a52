//! Where calls wait for what other threads do.
//!
//! What a call waits for (its entry applied, its read let through, an event) comes about on another thread, for many calls at once.
//! If each of them were woken from there, the runtime would run one call, write its answer, and only then look for the next: a system
//! call for each answer, and another to wake the thread. So a wake from another thread goes into the hall of the calls' own thread,
//! whose usher is woken by the first one, and passes all that have gathered on at once. They run in a row, and their connection is
//! written to after the last.
//!
//! ```text
//! other threads ─wake─► hall ─once─► usher ─wakes─► call, call, call ─► connection
//! ```
//!
//! A wake on the thread itself takes no detour.
//!
//! In the other direction, calls that read gather at the desk of their thread, which asks at the read gate for all of them. Both are
//! run when the calls that are ready have run.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use catena_raft::{Node, ReadDesk, ReadError};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

thread_local! {
    /// The hall of this thread, if it serves calls.
    static HALL: RefCell<Option<Arc<Hall>>> = const { RefCell::new(None) };
    /// Its desk.
    static DESK: RefCell<Option<Arc<ReadDesk>>> = const { RefCell::new(None) };
}

/// The calls of one thread that have been woken from others. There are no more than calls are open.
#[derive(Default)]
struct Hall {
    woken: Mutex<Vec<Waker>>,
    usher: AtomicWaker,
}

impl Hall {
    fn is_here(&self) -> bool {
        HALL.with_borrow(|here| here.as_deref().is_some_and(|here| std::ptr::eq(here, self)))
    }

    fn enter(&self, call: Waker) {
        if self.is_here() {
            return call.wake();
        }
        let is_first = {
            let mut woken = self.woken.lock();
            woken.push(call);
            woken.len() == 1
        };
        if is_first {
            self.usher.wake();
        }
    }

    fn poll_usher(&self, cx: &Context<'_>, calls: &mut Vec<Waker>) -> Poll<()> {
        self.usher.register(cx.waker());
        std::mem::swap(calls, &mut self.woken.lock());
        calls.drain(..).for_each(Waker::wake);
        Poll::Pending
    }
}

/// Opens the hall and the desk of this thread, and serves them for as long as the thread serves calls of `node`.
pub(crate) async fn open(node: &Node) {
    let (desk, clerk) = node.read_desk();
    DESK.set(Some(Arc::new(desk)));
    tokio::join!(usher(), clerk);
}

async fn usher() {
    let hall = Arc::new(Hall::default());
    HALL.set(Some(hall.clone()));
    let mut calls = Vec::new();
    poll_fn(|cx| hall.poll_usher(cx, &mut calls)).await
}

/// [`Node::read_index`], at the desk of this thread if it has one.
pub(crate) async fn read_index(node: &Node) -> Result<(), ReadError> {
    let desk = DESK.with_borrow(Clone::clone);
    match desk {
        Some(desk) => desk.read_index().await,
        None => node.read_index().await,
    }
}

/// Stands for one task where others wake it.
struct Place {
    hall: Arc<Hall>,
    /// Taken by whoever wakes it, given back when it is polled.
    task: Mutex<Option<Waker>>,
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            self.hall.enter(task);
        }
    }
}

/// What one task is polled through, so that wakes from other threads go through the hall.
pub(crate) struct Relay {
    place: Arc<Place>,
    waker: Waker,
}

impl Relay {
    /// One in the hall of this thread, if it has one.
    pub(crate) fn here() -> Option<Self> {
        let hall = HALL.with_borrow(Clone::clone)?;
        let task = Mutex::new(None);
        let place = Arc::new(Place { hall, task });
        let waker = Waker::from(place.clone());
        Some(Self { place, waker })
    }

    /// Polls in place of the task that `cx` belongs to.
    pub(crate) fn poll<T>(
        &self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        {
            let mut task = self.place.task.lock();
            let is_known = |task: &Waker| task.will_wake(cx.waker());
            if !task.as_ref().is_some_and(is_known) {
                *task = Some(cx.waker().clone());
            }
        }
        poll(&mut Context::from_waker(&self.waker))
    }
}

/// Runs a call.
pub(crate) async fn wait<T>(mut call: impl Future<Output = T> + Unpin) -> T {
    match Relay::here() {
        Some(relay) => poll_fn(|cx| relay.poll(cx, |cx| Pin::new(&mut call).poll(cx))).await,
        None => call.await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::{runtime, sync::oneshot, task::LocalSet};

    use super::*;

    /// Calls that are woken from another thread, one after the other, all run before what the first of them has woken here.
    #[test]
    fn calls_woken_from_another_thread_run_in_a_row() {
        const CALLS: usize = 20;
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        let local = LocalSet::new();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..CALLS).map(|_| oneshot::channel()).unzip();
        let ran = Arc::new(AtomicUsize::new(0));
        local.spawn_local(usher());
        let calls = receivers.into_iter().map(|receiver| {
            let ran = ran.clone();
            local.spawn_local(async move {
                wait(receiver).await.unwrap();
                ran.fetch_add(1, Ordering::Relaxed)
            })
        });
        let calls: Vec<_> = calls.collect();
        let seen = local.block_on(&runtime, async {
            // Everybody waits.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let wake = std::thread::spawn(|| senders.into_iter().for_each(|s| s.send(()).unwrap()));
            wake.join().unwrap();
            assert_eq!(ran.load(Ordering::Relaxed), 0, "this thread was busy");
            let first = calls.into_iter().next().unwrap().await.unwrap();
            (first, ran.load(Ordering::Relaxed))
        });
        assert_eq!(seen, (0, CALLS));
    }

    #[test]
    fn wake_on_the_same_thread_and_without_a_hall_arrives() {
        let runtime = runtime::Builder::new_current_thread().build().unwrap();
        let there_and_back = || async {
            let (sender, receiver) = oneshot::channel();
            tokio::spawn(async { sender.send(7).unwrap() });
            wait(receiver).await.unwrap()
        };
        assert_eq!(runtime.block_on(there_and_back()), 7);
        let with_hall = async {
            tokio::spawn(usher());
            tokio::task::yield_now().await;
            assert!(Relay::here().is_some());
            there_and_back().await
        };
        assert_eq!(runtime.block_on(with_hall), 7);
    }
}
