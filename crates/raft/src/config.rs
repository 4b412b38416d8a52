//! Settings of a member, and what they mean to openraft.

use std::{path::PathBuf, sync::Arc, time::Duration};

use catena_store::backend::Engine;

use crate::{
    StartError,
    identity::Identity,
    observer::{Blind, Observer},
    transport::AddressBook,
};

/// As in etcd.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What whoever started the member believes it to be. Unlike the identity it is not taken from the data directory, so it tells a
/// directory that was given to the wrong member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The member's name.
    pub name: String,
    /// Its peer URLs.
    pub peer_urls: Vec<String>,
    /// The peer URLs of all members of its cluster, as far as they are known.
    pub cluster_urls: Vec<String>,
}

/// Settings of a member. Plain data; [`Config::new`] gives etcd's defaults.
#[derive(Clone)]
pub struct Config {
    /// Where the member's files lie; this crate uses the directory `member` in it.
    pub data_dir: PathBuf,
    /// Who the member is, as its data directory says; see [`crate::identity`].
    pub identity: Identity,
    /// Who it should be, if that is to be compared with what the directory says.
    pub expected: Option<Expected>,
    /// The first members of a new cluster, if this is one of them; `None` for a member that joins. A member that has a log
    /// already ignores it.
    pub initial: Option<Vec<catena_store::Member>>,
    /// Which engine keeps the applied state.
    pub engine: Engine,
    /// How often a leader makes itself heard.
    pub heartbeat: Duration,
    /// After this long without a leader a member asks for votes.
    pub election: Duration,
    /// A request has this long, and two election timeouts on top.
    pub request_timeout: Duration,
    /// Whether a member asks whether it could win before it disturbs the others.
    pub pre_vote: bool,
    /// Whether changes of members that could cost the quorum are refused.
    pub strict_reconfig: bool,
    /// Most learners in the cluster, for who adds one here. Apply knows no such limit: it may differ between members.
    pub max_learners: usize,
    /// A snapshot is taken, and the log behind it dropped, after this many proposals.
    pub log_proposals_max: u64,
    /// Proposals behind a snapshot that are kept for slow followers.
    pub log_proposals_keep: u64,
    /// A snapshot is taken, and the log behind it dropped, after this many bytes.
    pub log_bytes_max: u64,
    /// Bytes a second at which a member that is far behind is sent what it lacks at least, while clients write. It is more if much is
    /// written, and as fast as the member takes it if little is.
    pub catch_up_bytes_min: u64,
    /// Pause between two slices of a compaction: what it takes is spread, so that no write waits for more than one.
    pub compaction_pause: Duration,
    /// Bounds of the store.
    pub store: catena_store::Options,
    /// Bounds of the log; its observer is [`Config::observer`].
    pub wal: catena_wal::Options,
    /// Where the members are; kept up to date by the member, read by the transport.
    pub addresses: AddressBook,
    /// Sees what happens, for metrics.
    pub observer: Arc<dyn Observer>,
}

impl Config {
    /// etcd's defaults.
    pub fn new(data_dir: impl Into<PathBuf>, identity: Identity) -> Self {
        Self {
            data_dir: data_dir.into(),
            identity,
            expected: None,
            initial: None,
            engine: Engine::default(),
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(1000),
            request_timeout: REQUEST_TIMEOUT,
            pre_vote: true,
            strict_reconfig: true,
            max_learners: 1,
            log_proposals_max: 10_000,
            log_proposals_keep: 5_000,
            log_bytes_max: 256 << 20,
            catch_up_bytes_min: 16 << 20,
            compaction_pause: Duration::from_millis(10),
            store: catena_store::Options::default(),
            wal: catena_wal::Options::default(),
            addresses: AddressBook::default(),
            observer: Arc::new(Blind),
        }
    }

    /// The time that a request has in all.
    pub fn request_time(&self) -> Duration {
        self.request_timeout + 2 * self.election
    }

    /// openraft's own settings.
    pub(crate) fn openraft(&self) -> Result<Arc<openraft::Config>, StartError> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let election = millis(self.election);
        let config = openraft::Config {
            cluster_name: format!("{:x}", self.identity.cluster_id),
            heartbeat_interval: millis(self.heartbeat),
            // A follower campaigns after the lease, `election_timeout_max`, and a random part of [min, max).
            election_timeout_min: election / 2,
            election_timeout_max: election,
            heartbeat_min_interval: Some(0),
            enable_pre_vote: Some(self.pre_vote),
            // The smallest legal one: keeps a connected quorum able to elect under a bridge partition.
            quorum_loss_probe_interval: Some(2 * election),
            // As etcd: a leader that restarts stands for election again.
            enable_leader_restore: Some(false),
            // A wiped member is refused by its incarnation; see `transport`.
            allow_log_reversion: None,
            // Entries are bounded by bytes where they are read, so these never bind first.
            max_payload_entries: 4096,
            max_append_entries: Some(4096),
            api_batch_capacity: 4096,
            api_batch_linger_ms: 0,
            // Our own trigger counts bytes and proposals; openraft would count entries, which are batches here.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            purge_batch_size: 256,
            install_snapshot_timeout: 30_000,
            snapshot_max_chunk_size: 1 << 20,
            backoff: "50ms 100ms 200ms 400ms 800ms ..1s".into(),
            removed_leader_step_down: openraft::StepDownPolicy::After(150),
            ..openraft::Config::default()
        };
        let config = config
            .validate()
            .map_err(|error| StartError::Config(error.to_string()))?;
        Ok(Arc::new(config))
    }
}
