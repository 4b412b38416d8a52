//! What the log and the engine do.

use catena_telemetry::metrics::{
    Buckets, Registry,
    prometheus::{Error, Histogram, IntGauge},
};

/// What the log and the engine do.
#[derive(Clone)]
pub(crate) struct DiskMetrics {
    pub(crate) wal_fsync: Histogram,
    pub(crate) wal_bytes: IntGauge,
    pub(crate) backend_commit: Histogram,
}

impl DiskMetrics {
    pub(super) fn register(r: &Registry) -> Result<Self, Error> {
        let buckets = Buckets::doubling(0.001, 14);
        Ok(Self {
            wal_fsync: r.histogram(
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
                buckets,
            )?,
            wal_bytes: r.gauge(
                "etcd_disk_wal_write_bytes_total",
                "Total number of bytes written in WAL.",
            )?,
            backend_commit: r.histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of commit called by backend.",
                buckets,
            )?,
        })
    }
}
