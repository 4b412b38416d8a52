//! The threads that a member runs on.
//!
//! Consensus, the peer port and the lease clock have a tokio runtime of their own, apart from the clients. On one runtime a heartbeat
//! would stand in line behind every request that clients have sent, those that are only refused too: at four times the load that a
//! member carries, for longer than an election timeout. Between two runtimes the system shares the processor by thread, so consensus
//! gets up to half of it if it needs that, at once.
//!
//! Clients are served by a single-threaded runtime for each core, to which a connection belongs with all of its calls. All calls that
//! have become ready are then run before the connection is written to, so that one system call carries many answers; where threads
//! steal calls from each other each answer costs one of its own, and that is the largest part of a small read.

use std::{io, sync::Arc, thread, time::Duration};

use catena_raft::Node;
use catena_runtime::{Runtime, SystemTasks};
use tokio::runtime::{self, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::hall;

/// Threads of consensus: a quarter of the cores, at most so many, since most of the work has one owner. A second thread on two cores
/// costs a hand-over at each step of a write; what takes long makes room for the others by itself.
const WORKERS_MAX: usize = 4;

/// Work that blocks and has not ended by then is left to itself.
const END_WITHIN: Duration = Duration::from_secs(10);

/// Threads that serve clients, at most: with more than that consensus is what all wait for.
const CLIENT_THREADS_MAX: usize = 16;

/// Threads with a tokio runtime. Dropping them cuts their tasks off.
pub(crate) struct Threads {
    /// Taken when they end.
    runtime: Option<runtime::Runtime>,
    handle: Handle,
}

impl Threads {
    /// Starts them.
    pub(crate) fn start() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads((cores / 4).clamp(1, WORKERS_MAX))
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

/// The threads that serve clients. They end when this is dropped, and cut off what still runs on them.
pub(crate) struct ClientThreads {
    threads: Vec<ClientThread>,
    _ends: DropGuard,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct ClientThread {
    handle: Handle,
    /// Its clones are the connections that the thread has.
    load: Arc<()>,
}

impl ClientThreads {
    /// Starts one for each core.
    pub(crate) fn start(node: &Node) -> Self {
        let ended = CancellationToken::new();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..cores.min(CLIENT_THREADS_MAX)).map(|_| {
            let started = ClientThread::start(node.clone(), ended.clone());
            started.expect("a thread can be started")
        });
        Self {
            threads: threads.collect(),
            _ends: ended.drop_guard(),
        }
    }

    /// The one with the fewest connections.
    pub(crate) fn least_loaded(&self) -> ClientThread {
        let load = |thread: &&ClientThread| Arc::strong_count(&thread.load);
        let least = self.threads.iter().min_by_key(load);
        least.expect("there is a core").clone()
    }
}

impl ClientThread {
    fn start(node: Node, ended: CancellationToken) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new()
            .name("clients".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = ended.cancelled() => {}
                        () = hall::open(&node) => {}
                    }
                });
                runtime.shutdown_background();
            })?;
        let load = Arc::default();
        Ok(Self { handle, load })
    }

    /// Where its tasks are spawned.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}
