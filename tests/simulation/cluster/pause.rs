//! Members that stand still, as after SIGSTOP: nothing of them runs, the world goes on, and later they go on as if no time had passed.
//!
//! A task belongs to the member within whose tasks it was spawned; so openraft's own tasks are caught too. A task of a frozen member
//! is not polled: what it would have been woken for waits, frames and timers alike, until the member thaws. And since all tasks are
//! caught, they are counted, by their names: none may outlive what it was for.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, Service, Task, Tasks};
use openraft::OptionalSend;
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;

use crate::world::{self, Chance};

thread_local! {
    /// The member whose task is being polled.
    static CURRENT: RefCell<Option<Freezer>> = const { RefCell::new(None) };
}

/// The name of openraft's own tasks.
const CONSENSUS: &str = "consensus";

/// The name of a call that another member made.
const PEER_CALL: &str = "peer call";

/// The name of what serves a stream that another member opened.
pub(crate) const PEER_STREAM: &str = "peer stream";

/// Holds one process of a member; clones hold the same.
#[derive(Clone, Default)]
pub(crate) struct Freezer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    frozen: bool,
    /// Tasks that were to be polled meanwhile.
    waiting: Vec<Waker>,
    /// How many there are, by name.
    tasks: BTreeMap<&'static str, usize>,
}

impl Freezer {
    /// Nothing of the member runs any more.
    pub(crate) fn freeze(&self) {
        self.0.lock().frozen = true;
    }

    /// Everything goes on, in the order in which it would have; how many tasks were held.
    pub(crate) fn thaw(&self) -> usize {
        let waiting = self.release();
        let held = waiting.len();
        waiting.into_iter().for_each(Waker::wake);
        held
    }

    /// Everything goes on, in an order of chance, as on a machine with several processors: what came last may go first.
    pub(crate) fn thaw_in_any_order(&self, chance: &Chance) {
        let mut waiting = self.release();
        for place in (1..waiting.len()).rev() {
            waiting.swap(place, chance.below(place as u64 + 1) as usize);
        }
        waiting.into_iter().for_each(Waker::wake);
    }

    fn release(&self) -> Vec<Waker> {
        let mut state = self.0.lock();
        state.frozen = false;
        std::mem::take(&mut state.waiting)
    }

    /// Runs `future` as a part of the member.
    pub(crate) fn hold<F: Future>(&self, name: &'static str, future: F) -> Held<F> {
        Held {
            part: Some(Part::new(self.clone(), name)),
            future: Box::pin(future),
        }
    }

    /// How many tasks of this name there are.
    pub(crate) fn tasks(&self, name: &str) -> usize {
        self.0.lock().tasks.get(name).copied().unwrap_or(0)
    }

    /// All that there is, by name.
    pub(crate) fn all_tasks(&self) -> BTreeMap<&'static str, usize> {
        self.0.lock().tasks.clone()
    }

    fn is_frozen(&self, waker: &Waker) -> bool {
        let mut state = self.0.lock();
        if state.frozen {
            state.waiting.push(waker.clone());
        }
        state.frozen
    }
}

/// What makes a task one of a member; it counts as long as this is there.
struct Part {
    freezer: Freezer,
    name: &'static str,
}

impl Part {
    fn new(freezer: Freezer, name: &'static str) -> Self {
        *freezer.0.lock().tasks.entry(name).or_default() += 1;
        Self { freezer, name }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let tasks = &mut self.freezer.0.lock().tasks;
        if let Some(count) = tasks.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                tasks.remove(self.name);
            }
        }
    }
}

/// A task, of a member or of nobody.
pub(crate) struct Held<F> {
    // Dropped before its part: a task counts until nothing of it is left.
    future: Pin<Box<F>>,
    part: Option<Part>,
}

impl<F: Future> Future for Held<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let freezer = self.part.as_ref().map(|part| part.freezer.clone());
        let frozen = |freezer: &Freezer| freezer.is_frozen(cx.waker());
        if freezer.as_ref().is_some_and(frozen) {
            return Poll::Pending;
        }
        let before = CURRENT.replace(freezer);
        let polled = self.future.as_mut().poll(cx);
        CURRENT.set(before);
        polled
    }
}

/// The runtime of the simulation, for tasks that can be frozen.
#[derive(Debug)]
pub(crate) struct Freezing;

impl AsyncRuntime for Freezing {
    type JoinError = <SimRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <SimRuntime as AsyncRuntime>::Sleep;
    type Instant = <SimRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <SimRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <SimRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <SimRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <SimRuntime as AsyncRuntime>::Mpsc;
    type Watch = <SimRuntime as AsyncRuntime>::Watch;
    type Oneshot = <SimRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <SimRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let current = CURRENT.with_borrow(Clone::clone);
        SimRuntime::spawn(Held {
            part: current.map(|freezer| Part::new(freezer, CONSENSUS)),
            future: Box::pin(future),
        })
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        world::step();
        SimRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        world::step();
        SimRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        world::step();
        SimRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        world::step();
        SimRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        SimRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        SimRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        // The world has made the runtime that counts; this one only names its types.
        let _one_thread = threads;
        Self
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        SimRuntime::new(1).block_on(future)
    }
}

/// Spawns tasks that can be frozen.
pub(crate) struct FreezingTasks {
    pub(crate) inner: Arc<dyn Tasks>,
    pub(crate) freezer: Freezer,
}

impl Tasks for FreezingTasks {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let held = Box::pin(self.freezer.hold(name, future));
        self.inner.spawn(name, held)
    }

    fn spawn_thread(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let held = Box::pin(self.freezer.hold(name, future));
        self.inner.spawn_thread(name, held);
    }

    fn blocking(
        &self,
        name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        self.inner.blocking(name, work)
    }
}

/// Answers other members, unless it is frozen.
pub(crate) struct FreezingService {
    pub(crate) inner: Arc<dyn Service>,
    pub(crate) freezer: Freezer,
}

impl Service for FreezingService {
    fn call(&self, from: u64, method: u32, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>> {
        let inner = self.inner.clone();
        let call = async move { inner.call(from, method, body).await };
        Box::pin(self.freezer.hold(PEER_CALL, call))
    }

    fn stream(&self, from: u64, method: u32, stream: Duplex) -> BoxFuture<'static, ()> {
        let inner = self.inner.clone();
        // What a stream starts belongs to the member, so it is started within.
        let serve = async move { inner.stream(from, method, stream).await };
        Box::pin(self.freezer.hold(PEER_STREAM, serve))
    }
}
