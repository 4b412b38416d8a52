//! Waiting for a condition, never for a time.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How long to rest between two looks: short beside anything that a test waits for, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `condition` gives a value; fails with `what` once `deadline` has passed.
pub async fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition().await {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("not within {deadline:?}: {what}");
        }
        sleep(PAUSE).await;
    }
}
