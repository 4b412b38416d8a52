//! The one place that says that a member must exit.

use catena_runtime::watch;
use std::sync::Arc;

use crate::Stop;

/// Set once, watched by all; cheap to clone.
#[derive(Clone)]
pub(crate) struct StopCell {
    reason: Arc<watch::Sender<Option<Stop>>>,
}

impl StopCell {
    pub(crate) fn new() -> Self {
        Self {
            reason: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Gives a reason; the first one stays.
    pub(crate) fn set(&self, reason: Stop) {
        let first = self.reason.send_if_modified(|current| {
            let first = current.is_none();
            current.get_or_insert_with(|| reason.clone());
            first
        });
        if !first {
            return;
        }
        match reason {
            Stop::Asked => {}
            // What an operator wanted is no error.
            Stop::Removed => tracing::warn!(%reason, "member stops"),
            Stop::Refused(_) | Stop::Wal { .. } | Stop::Store { .. } | Stop::Raft(_) => {
                tracing::error!(%reason, "member stops");
            }
        }
    }

    pub(crate) fn get(&self) -> Option<Stop> {
        self.reason.borrow().clone()
    }

    pub(crate) async fn stopped(&self) -> Stop {
        let mut reason = self.reason.subscribe();
        let stopped = reason.wait_for(Option::is_some).await;
        // The sender lives as long as `self`.
        stopped.map_or(Stop::Asked, |reason| reason.clone().unwrap_or(Stop::Asked))
    }
}
