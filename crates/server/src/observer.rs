//! What consensus, log and engine tell of their work, as metrics.

use std::time::Duration;

use catena_raft::Observer;
use catena_store::Position;

use crate::metrics::{DiskMetrics, Metrics, PeerMetrics};

/// Counts into the series of one member.
pub(crate) struct Observed {
    disk: DiskMetrics,
    peers: PeerMetrics,
}

impl Observed {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self {
            disk: metrics.disk.clone(),
            peers: metrics.peers.clone(),
        }
    }
}

impl Observer for Observed {
    fn log_synced(&self, took: Duration, bytes: usize) {
        self.disk.wal_fsync.observe(took.as_secs_f64());
        self.disk.wal_bytes.add(bytes as i64);
    }

    fn engine_committed(&self, took: Duration, _last: Option<Position>) {
        self.disk.backend_commit.observe(took.as_secs_f64());
    }

    fn peer_sent(&self, to: u64, bytes: usize) {
        let peer = self.peers.of(to);
        peer.sent_bytes.inc_by(bytes as u64);
    }

    fn peer_received(&self, from: u64, bytes: usize) {
        let peer = self.peers.of(from);
        peer.received_bytes.inc_by(bytes as u64);
    }

    fn peer_failed(&self, to: u64) {
        self.peers.of(to).send_failures.inc();
    }

    fn peer_answered(&self, to: u64, took: Duration) {
        self.peers.of(to).round_trip.observe(took.as_secs_f64());
    }
}
