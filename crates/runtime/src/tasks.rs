//! Tasks and threads.

use std::{future::Future, pin::Pin};

use futures_util::future::AbortHandle;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::oneshot,
    task::block_in_place,
};

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Spawns what runs beside the caller.
pub trait Tasks: Send + Sync + 'static {
    /// Starts a task. It is aborted when the returned handle is dropped.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task;

    /// Starts a loop that blocks in disk calls and so gets a thread of its own (in a simulation: a task like any other).
    /// It ends by itself, when the queue that feeds it closes.
    fn spawn_thread(&self, name: &'static str, future: BoxFuture<'static, ()>);

    /// Runs `work`, which blocks, away from the serving threads; completes when it is done (in a simulation: at once).
    fn blocking(
        &self,
        name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()>;

    /// Runs `work`, which may take long, before it returns; the thread's other tasks go on elsewhere meanwhile (in a simulation: after
    /// it).
    fn in_place(&self, work: &mut dyn FnMut()) {
        work();
    }
}

/// A spawned task; dropping it aborts the task.
#[must_use = "dropping the handle aborts the task"]
#[derive(Debug)]
pub struct Task {
    abort: AbortHandle,
    done: Option<oneshot::Receiver<()>>,
}

impl Task {
    /// Wraps `future` so that the returned handle controls it; the caller polls the returned future somewhere.
    pub fn wrap(future: BoxFuture<'static, ()>) -> (Self, BoxFuture<'static, ()>) {
        let (done_tx, done) = oneshot::channel();
        let (future, abort) = futures_util::future::abortable(future);
        let run = Box::pin(async move {
            // Both ends, completion and abortion, count as done.
            let _aborted = future.await;
            let _joiner_gone = done_tx.send(());
        });
        (
            Self {
                abort,
                done: Some(done),
            },
            run,
        )
    }

    /// Asks the task to stop at its next await.
    pub fn abort(&self) {
        self.abort.abort();
    }

    /// Waits until the task has ended by itself.
    pub async fn join(mut self) {
        if let Some(done) = self.done.take() {
            // A dropped sender means that the executor is gone, and the task with it.
            let _executor_gone = done.await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// Tokio tasks and threads of the operating system.
#[derive(Clone, Debug, Default)]
pub struct SystemTasks {
    on: Option<Handle>,
}

impl SystemTasks {
    /// Tasks of that tokio runtime, whoever spawns them. By default they run on the one from within which they are spawned.
    pub fn on(runtime: Handle) -> Self {
        Self { on: Some(runtime) }
    }
}

impl Tasks for SystemTasks {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let (task, run) = Task::wrap(future);
        match &self.on {
            Some(runtime) => runtime.spawn(run),
            None => tokio::spawn(run),
        };
        task
    }

    fn spawn_thread(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let spawned = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || futures_executor::block_on(future));
        spawned.expect("a thread can be started");
    }

    fn blocking(
        &self,
        _name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        let task = match &self.on {
            Some(runtime) => runtime.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        };
        Box::pin(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        })
    }

    fn in_place(&self, work: &mut dyn FnMut()) {
        let here = Handle::try_current().map(|here| here.runtime_flavor());
        match here {
            Ok(RuntimeFlavor::MultiThread) => block_in_place(work),
            // No other task can go on.
            Ok(_) | Err(_) => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// Other tasks of the only thread go on while work in place waits for them.
    #[test]
    fn work_in_place_holds_up_no_task() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .build()
            .unwrap();
        let (sender, receiver) = mpsc::channel();
        let work = runtime.spawn(async move {
            tokio::spawn(async move { sender.send(7).unwrap() });
            let mut received = None;
            SystemTasks::default().in_place(&mut || {
                received = receiver.recv_timeout(Duration::from_secs(30)).ok();
            });
            received
        });
        assert_eq!(runtime.block_on(work).unwrap(), Some(7));
    }

    #[tokio::test]
    async fn work_in_place_is_done_where_there_is_one_thread() {
        let mut done = false;
        SystemTasks::default().in_place(&mut || done = true);
        assert!(done);
    }
}
