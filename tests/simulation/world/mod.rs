//! Virtual time, tasks and chance.
//!
//! A [`Machine`] is what a member runs on: it outlives the member's process, because it holds the disk. [`Machine::boot`] gives the
//! [`Runtime`] of one process; [`Machine::crash`] ends it: its tasks stop, its files give errors, and the disk keeps what a crash
//! of that kind keeps.
//!
//! A run is exact: the same seed gives the same [`trace`], byte for byte, which every tenth seed proves by running twice. All that
//! decides comes from the seed's [`Chance`], and all that waits wakes in order: the executor is first come, first served, and so are
//! the queues of tokio and [`catena_runtime::watch`].

mod chance;
mod coverage;
mod options;
mod seeds;
mod trace;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catena_runtime::{BoxFuture, Clock, Runtime, Task, Tasks};
use futures_util::future::AbortHandle;
use openraft_rt::{AsyncRuntime, Instant};
use openraft_rt_sim::{SimInstant, SimRuntime};
use parking_lot::Mutex;

pub(crate) use self::{
    chance::Chance,
    coverage::{Event, covered},
    options::{arguments_are_told_apart, read_arguments},
    seeds::{
        a_panic_of_a_task_fails_the_run, a_run_that_hangs_fails, campaign,
        runs_that_part_are_told_apart, step, with_seeds,
    },
    trace::{digest, tell},
};
use crate::disk::{Crash, Drive};

/// Longest wait before a task or a piece of blocking work starts: the executor is first come, first served, so the interleavings
/// that a seed reaches are those of its delays.
const JITTER_MICROS_MAX: u64 = 50;

/// The date at which every run starts.
const EPOCH_UNIX_SECS: u64 = 1_700_000_000;

/// Waits on virtual time.
pub(crate) async fn sleep(duration: Duration) {
    step();
    SimRuntime::sleep(duration).await;
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
    /// A computer with an empty disk, and the name that it has in traces.
    pub(crate) fn new(name: &str, chance: &Chance) -> Self {
        let chance = chance.fork();
        Self {
            drive: Arc::new(Drive::new(name, chance.fork())),
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
        step();
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
