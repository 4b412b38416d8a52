//! The remote form against a server that misbehaves on purpose, and the recipes against a store in memory.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

mod calls;
mod fake;
mod leases;
mod memory;
mod recipes;
mod watches;

use std::time::Duration;

/// What a test waits at most for something that is sure to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// The future's result, or a failure instead of a test that hangs.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("comes in time")
}
