//! Virtual time, tasks and chance.
//!
//! A [`Machine`] is what a member runs on: it outlives the member's process, because it holds the disk. [`Machine::boot`] gives the
//! [`Runtime`] of one process; [`Machine::crash`] ends it: its tasks stop, its files give errors, and the disk keeps what a crash
//! of that kind keeps.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Arc, LazyLock, Once},
    time::Duration,
};

use catena_runtime::{BoxFuture, Clock, Random, Runtime, Task, Tasks};
use futures_util::future::AbortHandle;
use openraft_rt::{AsyncRuntime, Instant};
use openraft_rt_sim::{SimInstant, SimRuntime};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::disk::{Crash, Drive};

/// Longest wait before a task or a piece of blocking work starts: the executor is first come, first served, so the interleavings
/// that a seed reaches are those of its delays.
const JITTER_MICROS_MAX: u64 = 50;

/// The date at which every run starts.
const EPOCH_UNIX_SECS: u64 = 1_700_000_000;

/// Seeds that one command may choose: `SIMULATION_SEED=7`, or `SIMULATION_SEEDS=1000` from 0 on.
static ONLY: LazyLock<Option<u64>> = LazyLock::new(|| variable("SIMULATION_SEED"));
static COUNT: LazyLock<Option<u64>> = LazyLock::new(|| variable("SIMULATION_SEEDS"));

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

/// Runs `scenario` with each of `count` seeds, each in a world of its own.
pub(crate) fn with_seeds<F: Future<Output = ()>>(
    test: &str,
    count: u64,
    scenario: impl Fn(Chance) -> F,
) {
    let seeds = match *ONLY {
        Some(seed) => seed..seed + 1,
        None => 0..COUNT.unwrap_or(count),
    };
    notice_panics();
    for seed in seeds {
        let replay = Replay { test, seed };
        SimRuntime::with_seed(seed).block_on(scenario(Chance::new(seed)));
        assert!(!PANICKED.take(), "a task panicked");
        drop(replay);
    }
}

thread_local! {
    /// A panic of a task reaches only who joins it, and nobody joins those of openraft.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

fn notice_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICKED.set(true);
            before(panic);
        }));
    });
}

/// Says how to run a seed again, if it is dropped by a panic.
struct Replay<'a> {
    test: &'a str,
    seed: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {seed} failed; again: SIMULATION_SEED={seed} cargo test -p catena-tests --test simulation {test}",
                seed = self.seed,
                test = self.test
            );
        }
    }
}

/// A stream of chances; clones draw from the same stream.
#[derive(Clone)]
pub(crate) struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A stream that belongs to no run, for what must not shift the chances of one.
    pub(crate) fn still() -> Self {
        Self::new(0)
    }

    /// A stream of its own, so that what one part draws does not shift what another gets.
    pub(crate) fn fork(&self) -> Self {
        Self::new(self.next_u64())
    }

    /// Less than `end`, which is not 0.
    pub(crate) fn below(&self, end: u64) -> u64 {
        self.0.lock().random_range(0..end)
    }

    /// True once in `times`.
    pub(crate) fn once_in(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// Up to `max`.
    pub(crate) fn micros(&self, max: u64) -> Duration {
        Duration::from_micros(self.below(max + 1))
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

impl Random for Chance {
    fn next_u64(&self) -> u64 {
        self.0.lock().random()
    }
}

/// Waits on virtual time.
pub(crate) async fn sleep(duration: Duration) {
    SimRuntime::sleep(duration).await;
}

/// Tells what happens, when a single seed runs again.
pub(crate) fn tell(what: impl FnOnce() -> String) {
    if ONLY.is_some() {
        eprintln!("{:>12?} {}", now(), what());
    }
}

/// Time since the start of the run.
pub(crate) fn now() -> Duration {
    SimInstant::now().elapsed_since_start()
}

/// Starts a task that ends by itself.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    drop(SimRuntime::spawn(future));
}

/// Tasks that end together.
#[derive(Clone, Default)]
pub(crate) struct Group(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, AbortHandle>,
}

impl Group {
    /// Makes `future` end with the group.
    pub(crate) fn join(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (future, abort) = futures_util::future::abortable(future);
        let mut running = self.0.lock();
        running.next += 1;
        let number = running.next;
        running.tasks.insert(number, abort);
        let leave = Leave(self.clone(), number);
        async move {
            // Aborted means that the group has ended.
            let _aborted = future.await;
            drop(leave);
        }
    }

    /// Ends all tasks.
    pub(crate) fn abort(&self) {
        let tasks = std::mem::take(&mut self.0.lock().tasks);
        for task in tasks.values() {
            task.abort();
        }
    }
}

/// Takes a task out of its group, however it ends.
struct Leave(Group, u64);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.0.lock().tasks.remove(&self.1);
    }
}

/// A computer: a disk, and at most one process.
pub(crate) struct Machine {
    chance: Chance,
    drive: Arc<Drive>,
    process: Mutex<Option<Arc<Process>>>,
}

impl Machine {
    /// A computer with an empty disk.
    pub(crate) fn new(chance: &Chance) -> Self {
        let chance = chance.fork();
        Self {
            drive: Arc::new(Drive::new(chance.fork())),
            chance,
            process: Mutex::new(None),
        }
    }

    pub(crate) fn drive(&self) -> &Arc<Drive> {
        &self.drive
    }

    /// Starts a process. The one before must have ended.
    pub(crate) fn boot(&self) -> Runtime {
        let process = Arc::new(Process {
            chance: self.chance.fork(),
            tasks: Group::default(),
        });
        *self.process.lock() = Some(process.clone());
        Runtime {
            clock: Arc::new(SimClock),
            disk: self.drive.mount(),
            random: Arc::new(process.chance.fork()),
            tasks: process,
        }
    }

    /// Ends the process and does to the disk what such an end does.
    pub(crate) fn crash(&self, crash: Crash) {
        self.drive.crash(crash);
        if let Some(process) = self.process.lock().take() {
            process.tasks.abort();
        }
    }
}

#[derive(Clone, Copy)]
struct SimClock;

impl Clock for SimClock {
    fn now(&self) -> Duration {
        now()
    }

    fn unix_secs(&self) -> u64 {
        EPOCH_UNIX_SECS + now().as_secs()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(SimRuntime::sleep(duration))
    }
}

/// The tasks of a member. Those that stand for threads are not aborted by a crash: they end at their next access to the disk, as
/// openraft's own tasks do, and everybody who waits for them learns it.
struct Process {
    chance: Chance,
    tasks: Group,
}

impl Tasks for Process {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let jitter = self.chance.micros(JITTER_MICROS_MAX);
        let (task, run) = Task::wrap(future);
        spawn(self.tasks.join(async move {
            SimRuntime::sleep(jitter).await;
            run.await;
        }));
        task
    }

    fn spawn_thread(&self, _name: &'static str, future: BoxFuture<'static, ()>) {
        spawn(future);
    }

    fn blocking(
        &self,
        _name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        let jitter = self.chance.micros(JITTER_MICROS_MAX);
        Box::pin(async move {
            SimRuntime::sleep(jitter).await;
            work();
        })
    }
}
