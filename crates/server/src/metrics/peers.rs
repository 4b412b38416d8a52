//! What passes between members.

use std::{collections::HashMap, sync::Arc};

use catena_telemetry::metrics::{
    Buckets, Registry,
    prometheus::{Error, Histogram, HistogramVec, IntCounter, IntCounterVec},
};
use parking_lot::RwLock;

/// What passes between members. Labels are ids in hexadecimal, as in etcd.
#[derive(Clone)]
pub(crate) struct PeerMetrics {
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    send_failures: IntCounterVec,
    round_trip: HistogramVec,
    /// The series of each peer, so that counting a frame writes no label.
    peers: Arc<RwLock<HashMap<u64, Arc<PeerSeries>>>>,
}

/// The series of one peer.
pub(crate) struct PeerSeries {
    pub(crate) sent_bytes: IntCounter,
    pub(crate) received_bytes: IntCounter,
    pub(crate) send_failures: IntCounter,
    pub(crate) round_trip: Histogram,
}

impl PeerMetrics {
    pub(super) fn register(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            sent_bytes: r.counters(
                "etcd_network_peer_sent_bytes_total",
                "The total number of bytes sent to peers.",
                &["To"],
            )?,
            received_bytes: r.counters(
                "etcd_network_peer_received_bytes_total",
                "The total number of bytes received from peers.",
                &["From"],
            )?,
            send_failures: r.counters(
                "etcd_network_peer_sent_failures_total",
                "The total number of send failures from peers.",
                &["To"],
            )?,
            round_trip: r.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Round-Trip-Time histogram between peers",
                &["To"],
                Buckets::doubling(0.0001, 16),
            )?,
            peers: Arc::default(),
        })
    }

    /// The series of a peer, made when it is first met.
    pub(crate) fn of(&self, peer: u64) -> Arc<PeerSeries> {
        if let Some(series) = self.peers.read().get(&peer) {
            return series.clone();
        }
        let label = [format!("{peer:x}")];
        let series = Arc::new(PeerSeries {
            sent_bytes: self.sent_bytes.with_label_values(&label),
            received_bytes: self.received_bytes.with_label_values(&label),
            send_failures: self.send_failures.with_label_values(&label),
            round_trip: self.round_trip.with_label_values(&label),
        });
        self.peers.write().entry(peer).or_insert(series).clone()
    }
}
