//! The threads that a member runs on, apart from those that serve its clients.
//!
//! Consensus, the peer port and the lease clock have a tokio runtime of their own; connections and handlers of clients stay on the
//! one that the member was started on. On one runtime a heartbeat would stand in line behind every request that clients have sent,
//! those that are only refused too: at four times the load that a member carries, for longer than an election timeout. Between two
//! runtimes the system shares the processor by thread, so consensus gets up to half of it if it needs that, at once.

use std::{sync::Arc, thread, time::Duration};

use catena_runtime::{Runtime, SystemTasks};
use tokio::runtime::{self, Handle};

/// Two, so that a large apply does not hold up heartbeats; more than a few have nothing to do, since most of the work has one owner.
const WORKERS: (usize, usize) = (2, 4);

/// Work that blocks and has not ended by then is left to itself.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Threads with a tokio runtime. Dropping them cuts their tasks off.
pub(crate) struct Threads {
    /// Taken when they end.
    runtime: Option<runtime::Runtime>,
    handle: Handle,
}

impl Threads {
    /// Starts them.
    pub(crate) fn start() -> Self {
        let (min, max) = WORKERS;
        let cores = thread::available_parallelism().map_or(min, usize::from);
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(cores.clamp(min, max))
            .thread_name("consensus")
            .enable_all()
            .build()
            .expect("a thread can be started");
        Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        }
    }

    /// The same world, with tasks on these threads.
    pub(crate) fn world(&self, world: &Runtime) -> Runtime {
        Runtime {
            tasks: Arc::new(SystemTasks::on(self.handle.clone())),
            ..world.clone()
        }
    }

    /// Runs `future` here, and what it spawns.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.handle.spawn(future).await {
            Ok(output) => output,
            Err(ended) => std::panic::resume_unwind(ended.into_panic()),
        }
    }

    /// Ends them, and waits for that.
    pub(crate) async fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting blocks, so it is done where that is allowed.
            let end = tokio::task::spawn_blocking(|| runtime.shutdown_timeout(END_WITHIN));
            end.await.expect("ending threads does not panic");
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        match Handle::try_current() {
            // A task must not block; they end by themselves.
            Ok(_) => runtime.shutdown_background(),
            Err(_) => runtime.shutdown_timeout(END_WITHIN),
        }
    }
}
