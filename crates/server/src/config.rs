//! What a member is told before it starts: plain data, filled by the binary from etcd's flags.

use std::{path::PathBuf, time::Duration};

use catena_store::backend::Engine;

use crate::url::Url;

/// Bytes that the receive limit of a gRPC message lies above `max_request_bytes`, as in etcd.
pub const GRPC_OVERHEAD_BYTES: usize = 512 << 10;

/// The quota where none is given.
pub const DEFAULT_QUOTA_BYTES: i64 = 2 << 30;

/// Proposals between snapshots where none or 0 is given.
const DEFAULT_SNAPSHOT_COUNT: u64 = 10_000;

/// Proposals kept behind a snapshot where none or 0 is given.
const DEFAULT_CATCHUP_ENTRIES: u64 = 5_000;

/// All settings of one member. [`ServerConfig::new`] has etcd's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// `--name`: the member's name in `initial_cluster`.
    pub name: String,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--listen-client-urls`: gRPC and HTTP; gRPC only where `listen_client_http` is not empty.
    pub listen_client: Vec<Url>,
    /// `--listen-client-http-urls`: HTTP handlers only.
    pub listen_client_http: Vec<Url>,
    /// `--listen-metrics-urls`: /metrics, /health, /livez and /readyz only.
    pub listen_metrics: Vec<Url>,
    /// `--listen-peer-urls`.
    pub listen_peer: Vec<Url>,
    /// `--advertise-client-urls`, as published; empty: what is listened on.
    pub advertise_client: Vec<String>,
    /// `--initial-advertise-peer-urls`, as hashed into the member's id.
    pub advertise_peer: Vec<String>,
    /// `--initial-cluster`: pairs of name and peer URL, in the order given.
    pub initial_cluster: Vec<(String, String)>,
    /// `--initial-cluster-state`.
    pub initial_state: InitialState,
    /// `--initial-cluster-token`.
    pub token: String,
    /// `--snapshot-count`: proposals after which the log is cut behind a snapshot; 0 = 10000.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`: proposals kept behind a snapshot; 0 = 5000.
    pub catchup_entries: u64,
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`.
    pub election: Duration,
    /// `--pre-vote`.
    pub pre_vote: bool,
    /// `--strict-reconfig-check`.
    pub strict_reconfig: bool,
    /// `--max-learners`.
    pub max_learners: usize,
    /// `--quota-backend-bytes`: 0 = [`DEFAULT_QUOTA_BYTES`], negative = no quota.
    pub quota_bytes: i64,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-concurrent-streams` of one connection.
    pub max_concurrent_streams: u32,
    /// `--grpc-keepalive-interval`: an idle connection is pinged after it; zero = never.
    pub keepalive_interval: Duration,
    /// `--grpc-keepalive-timeout`: and closed if no answer comes within it.
    pub keepalive_timeout: Duration,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`.
    pub auto_compaction: Option<AutoCompaction>,
    /// `--compaction-batch-limit`.
    pub compaction_batch_limit: usize,
    /// `--compaction-sleep-interval`.
    pub compaction_pause: Duration,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_interval: Duration,
    /// `--warning-unary-request-duration`.
    pub warning_unary_duration: Duration,
    /// `--metrics`: whether handling times are measured for each RPC.
    pub metrics: MetricsDetail,
    /// The engine for applied state.
    pub engine: Engine,
}

/// Whether the cluster is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitialState {
    /// All of `initial_cluster` start together.
    #[default]
    New,
    /// This member was added to a running cluster.
    Existing,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsDetail {
    /// Counters.
    #[default]
    Basic,
    /// And `grpc_server_handling_seconds`.
    Extensive,
}

/// What history the leader drops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keeps the revisions of this long.
    Periodic(Duration),
    /// Keeps this many revisions.
    Revision(i64),
}

impl ServerConfig {
    /// etcd's defaults for a member `name` with its data in `data_dir`: a cluster of one on localhost.
    pub fn new(name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        let name = name.into();
        let peer_url = "http://localhost:2380".to_owned();
        Self {
            initial_cluster: vec![(name.clone(), peer_url.clone())],
            name,
            data_dir: data_dir.into(),
            listen_client: vec![Url::http("localhost", 2379)],
            listen_client_http: Vec::new(),
            listen_metrics: Vec::new(),
            listen_peer: vec![Url::http("localhost", 2380)],
            advertise_client: vec!["http://localhost:2379".to_owned()],
            advertise_peer: vec![peer_url],
            initial_state: InitialState::New,
            token: "etcd-cluster".to_owned(),
            snapshot_count: DEFAULT_SNAPSHOT_COUNT,
            catchup_entries: DEFAULT_CATCHUP_ENTRIES,
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(1000),
            pre_vote: true,
            strict_reconfig: true,
            max_learners: 1,
            quota_bytes: 0,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            auto_compaction: None,
            compaction_batch_limit: 1000,
            compaction_pause: Duration::from_millis(10),
            watch_progress_interval: Duration::from_secs(600),
            warning_unary_duration: Duration::from_millis(300),
            metrics: MetricsDetail::Basic,
            engine: Engine::default(),
        }
    }

    /// Largest gRPC message that is received.
    pub fn receive_bytes_max(&self) -> usize {
        self.max_request_bytes.saturating_add(GRPC_OVERHEAD_BYTES)
    }

    /// Proposals after which a snapshot is due.
    pub(crate) fn proposals_max(&self) -> u64 {
        match self.snapshot_count {
            0 => DEFAULT_SNAPSHOT_COUNT,
            count => count,
        }
    }

    /// Proposals behind a snapshot that are kept for slow followers.
    pub(crate) fn proposals_keep(&self) -> u64 {
        match self.catchup_entries {
            0 => DEFAULT_CATCHUP_ENTRIES,
            count => count,
        }
    }

    /// The quota in force; `None` = unlimited.
    pub fn quota(&self) -> Option<u64> {
        match self.quota_bytes {
            0 => Some(DEFAULT_QUOTA_BYTES as u64),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// Time that a request may take: etcd's 5 s and two election timeouts.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election
    }

    /// Lowest TTL of a lease: one and a half election timeouts, whole seconds.
    pub fn min_lease_ttl_secs(&self) -> i64 {
        let millis = self.election.as_millis() as i64 * 3;
        (millis + 1999) / 2000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_from_the_timeouts() {
        let mut config = ServerConfig::new("a", "a.etcd");
        assert_eq!(config.min_lease_ttl_secs(), 2);
        assert_eq!(config.request_timeout(), Duration::from_secs(7));
        assert_eq!(config.receive_bytes_max(), 2 << 20);
        assert_eq!(config.quota(), Some(2_147_483_648));
        config.election = Duration::from_millis(100);
        assert_eq!(config.min_lease_ttl_secs(), 1);
        config.election = Duration::from_millis(10_000);
        assert_eq!(config.min_lease_ttl_secs(), 15);
        config.quota_bytes = -1;
        assert_eq!(config.quota(), None);
        (config.snapshot_count, config.catchup_entries) = (0, 7);
        assert_eq!(
            (config.proposals_max(), config.proposals_keep()),
            (10_000, 7)
        );
    }
}
