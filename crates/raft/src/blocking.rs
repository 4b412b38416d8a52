//! Work that blocks, and time.

use std::{future::Future, time::Duration};

use catena_runtime::{Clock, Runtime};
use futures_util::{FutureExt, future::Either, pin_mut};
use tokio::sync::oneshot;

/// Runs `work`, which blocks in disk calls, away from the serving threads. Does not complete if the executor ends before it begins.
pub(crate) async fn blocking<T: Send + 'static>(
    runtime: &Runtime,
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, mut result) = oneshot::channel();
    let work = Box::new(move || {
        // The receiver lives until the work is done, below.
        let _received = done.send(work());
    });
    runtime.tasks.blocking(name, work).await;
    match result.try_recv() {
        Ok(result) => result,
        // The executor ends and has not begun it; what waits for it here ends with the executor.
        Err(_never_begun) => std::future::pending().await,
    }
}

/// Waits for `future`, but no longer than `limit`.
pub(crate) async fn timeout<F: Future>(
    clock: &dyn Clock,
    limit: Duration,
    future: F,
) -> Option<F::Output> {
    let sleep = clock.sleep(limit).fuse();
    pin_mut!(future, sleep);
    match futures_util::future::select(future, sleep).await {
        Either::Left((output, _)) => Some(output),
        Either::Right(((), _)) => None,
    }
}
