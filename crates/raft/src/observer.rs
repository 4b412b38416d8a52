//! What metrics are made of.

use std::{sync::Arc, time::Duration};

/// Sees what the log, the engine and the ways between members do. Called where it happens, so it must be quick.
pub trait Observer: Send + Sync + 'static {
    /// A sync of the log took `took`; `bytes` were written for it.
    fn log_synced(&self, took: Duration, bytes: usize) {
        let _unobserved = (took, bytes);
    }

    /// A batch reached the engine.
    fn engine_committed(&self, took: Duration) {
        let _unobserved = took;
    }

    /// A frame was handed to the connection to a peer.
    fn peer_sent(&self, to: u64, bytes: usize) {
        let _unobserved = (to, bytes);
    }

    /// A frame came from a peer.
    fn peer_received(&self, from: u64, bytes: usize) {
        let _unobserved = (from, bytes);
    }

    /// A frame could not be sent, or was not answered.
    fn peer_failed(&self, to: u64) {
        let _unobserved = to;
    }

    /// A peer answered a small call, which waits for nothing at its end.
    fn peer_answered(&self, to: u64, took: Duration) {
        let _unobserved = (to, took);
    }
}

/// Sees nothing.
pub(crate) struct Blind;

impl Observer for Blind {}

/// The log's part.
pub(crate) struct OfLog(pub(crate) Arc<dyn Observer>);

impl catena_wal::Observer for OfLog {
    fn synced(&self, took: Duration, bytes: usize) {
        self.0.log_synced(took, bytes);
    }
}
