//! The series of one member, under etcd's names.
//!
//! What happens is counted when it happens; what merely is (sizes, indexes, revisions) is read when somebody asks, by
//! [`Server::render_metrics`].

mod disk;
mod mvcc;
mod peers;
mod state;

use catena_raft::MemberError;
use catena_store::Member;
use catena_telemetry::metrics::{
    Buckets, Registry,
    prometheus::{
        Error, Histogram, HistogramTimer, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    },
};

use self::state::State;
pub(crate) use self::{disk::DiskMetrics, mvcc::MvccMetrics, peers::PeerMetrics};
use crate::{
    config::{DEFAULT_QUOTA_BYTES, ServerConfig},
    server::ETCD_VERSION,
    v3rpc::metrics::RpcMetrics,
};

/// All series of a member.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) rpc: RpcMetrics,
    pub(crate) leader_changes: IntCounter,
    pub(crate) proposals_failed: IntCounter,
    pub(crate) read_indexes_failed: IntCounter,
    pub(crate) health_successes: IntCounter,
    pub(crate) health_failures: IntCounter,
    pub(crate) leases_granted: IntCounter,
    pub(crate) leases_renewed: IntCounter,
    pub(crate) leases_revoked: IntCounter,
    pub(crate) leases_expired: IntCounter,
    pub(crate) watch_streams: IntGauge,
    pub(crate) watchers: IntGauge,
    refused: IntCounterVec,
    promotions: IntCounter,
    promotion_failures: IntCounterVec,
    healthcheck: IntGaugeVec,
    healthchecks: IntCounterVec,
    defragment_duration: Histogram,
    defragments: IntGauge,
    proposals_pending: IntGauge,
    state: State,
    pub(crate) mvcc: MvccMetrics,
    pub(crate) disk: DiskMetrics,
    pub(crate) peers: PeerMetrics,
}

impl Metrics {
    pub(crate) fn register(config: &ServerConfig) -> Result<Self, Error> {
        let r = Registry::new()?;
        let debug_lease =
            |what: &str, help: &str| r.counter(&format!("etcd_debugging_lease_{what}_total"), help);
        let metrics = Self {
            rpc: RpcMetrics::register(&r, config.metrics)?,
            leader_changes: r.counter(
                "etcd_server_leader_changes_seen_total",
                "The number of leader changes seen.",
            )?,
            proposals_failed: r.counter(
                "etcd_server_proposals_failed_total",
                "The total number of failed proposals seen.",
            )?,
            read_indexes_failed: r.counter(
                "etcd_server_read_indexes_failed_total",
                "The total number of failed read indexes seen.",
            )?,
            health_successes: r.counter(
                "etcd_server_health_success",
                "The total number of successful health checks",
            )?,
            health_failures: r.counter(
                "etcd_server_health_failures",
                "The total number of failed health checks",
            )?,
            leases_granted: debug_lease("granted", "The total number of granted leases.")?,
            leases_renewed: debug_lease(
                "renewed",
                "The number of renewed leases seen by the leader.",
            )?,
            leases_revoked: debug_lease("revoked", "The total number of revoked leases.")?,
            leases_expired: r.counter(
                "etcd_debugging_server_lease_expired_total",
                "The total number of expired leases.",
            )?,
            watch_streams: r.gauge(
                "etcd_debugging_mvcc_watch_stream_total",
                "Total number of watch streams.",
            )?,
            watchers: r.gauge(
                "etcd_debugging_mvcc_watcher_total",
                "Total number of watchers.",
            )?,
            refused: r.counters(
                "catena_server_refused_total",
                "The total number of times that a client was refused because it asked for too much, by what.",
                &["what"],
            )?,
            promotions: r.counter(
                "etcd_server_learner_promote_successes",
                "The total number of successful learner promotions while this member is leader.",
            )?,
            promotion_failures: r.counters(
                "etcd_server_learner_promote_failures",
                "The total number of failed learner promotions (likely learner not ready) while this member is leader.",
                &["Reason"],
            )?,
            healthcheck: r.gauges(
                "etcd_server_healthcheck",
                "The result of each kind of healthcheck.",
                &["name", "type"],
            )?,
            healthchecks: r.counters(
                "etcd_server_healthchecks_total",
                "The total number of each kind of healthcheck.",
                &["name", "status", "type"],
            )?,
            defragment_duration: r.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "The latency distribution of backend defragmentation.",
                Buckets::doubling(0.1, 13),
            )?,
            defragments: r.gauge(
                "etcd_disk_defrag_inflight",
                "Whether or not defrag is active on the member. 1 means active, 0 means not.",
            )?,
            proposals_pending: r.gauge(
                "etcd_server_proposals_pending",
                "The current number of pending proposals to commit.",
            )?,
            state: State::register(&r)?,
            mvcc: MvccMetrics::register(&r)?,
            disk: DiskMetrics::register(&r)?,
            peers: PeerMetrics::register(&r)?,
            registry: r,
        };
        metrics.set_constants(config)?;
        Ok(metrics)
    }

    fn set_constants(&self, config: &ServerConfig) -> Result<(), Error> {
        let quota = self.registry.gauge(
            "etcd_server_quota_backend_bytes",
            "Current backend storage quota size in bytes.",
        )?;
        quota.set(
            config
                .quota()
                .map_or(DEFAULT_QUOTA_BYTES, |quota| quota as i64),
        );
        let version = self.registry.gauges(
            "etcd_server_version",
            "Which version is running. 1 for 'server_version' label with current version.",
            &["server_version"],
        )?;
        version.with_label_values(&[ETCD_VERSION]).set(1);
        Ok(())
    }

    /// Says which member this is.
    pub(crate) fn identify(&self, member_id: u64) -> Result<(), Error> {
        let id = self.registry.gauges(
            "etcd_server_id",
            "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.",
            &["server_id"],
        )?;
        id.with_label_values(&[format!("{member_id:x}")]).set(1);
        Ok(())
    }

    /// Counts a proposal for as long as the result lives.
    pub(crate) fn pending_proposal(&self) -> GaugeGuard {
        let mut guard = GaugeGuard::new(self.proposals_pending.clone());
        guard.set(1);
        guard
    }

    /// Measures a defragmentation for as long as the result lives.
    pub(crate) fn defragment(&self) -> (HistogramTimer, GaugeGuard) {
        let mut running = GaugeGuard::new(self.defragments.clone());
        running.set(1);
        (self.defragment_duration.start_timer(), running)
    }

    /// Counts a client that asked for too much.
    pub(crate) fn count_refusal(&self, what: Refused) {
        self.refused.with_label_values(&[what.label()]).inc();
    }

    /// Counts an attempt to promote a learner.
    pub(crate) fn count_promotion(&self, promoted: &Result<Vec<Member>, MemberError>) {
        match promoted {
            Ok(_) => self.promotions.inc(),
            Err(error) => self
                .promotion_failures
                .with_label_values(&[error.to_string()])
                .inc(),
        }
    }

    /// Counts a check of `/livez` or `/readyz`.
    pub(crate) fn count_check(&self, probe: &str, check: &str, healthy: bool) {
        self.healthcheck
            .with_label_values(&[check, probe])
            .set(i64::from(healthy));
        let status = if healthy { "success" } else { "error" };
        self.healthchecks
            .with_label_values(&[check, status, probe])
            .inc();
    }
}

/// What a client was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A connection: there are too many.
    Connection,
    /// A connection that did not begin as one should.
    Greeting,
    /// A connection with too many frames that carry nothing.
    ControlFrames,
    /// A request: too many bytes of unfinished ones are held, or it was not finished in time.
    RequestBytes,
    /// An answer: too many bytes of them are held, or it was not taken in time.
    ResponseBytes,
}

impl Refused {
    fn label(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Greeting => "greeting",
            Self::ControlFrames => "control_frames",
            Self::RequestBytes => "request_bytes",
            Self::ResponseBytes => "response_bytes",
        }
    }
}

/// A share in a gauge, given back when it is dropped.
pub(crate) struct GaugeGuard {
    gauge: IntGauge,
    share: i64,
}

impl GaugeGuard {
    pub(crate) fn new(gauge: IntGauge) -> Self {
        Self { gauge, share: 0 }
    }

    /// Changes the share.
    pub(crate) fn set(&mut self, share: i64) {
        self.gauge.add(share - self.share);
        self.share = share;
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.set(0);
    }
}
