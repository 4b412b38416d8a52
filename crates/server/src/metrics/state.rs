//! What is read when somebody asks.

use std::{collections::BTreeSet, time::Duration};

use catena_api::etcd::etcdserverpb as pb;
use catena_raft::Role;
use catena_telemetry::metrics::{
    Registry,
    prometheus::{Error, IntGauge, IntGaugeVec},
};
use parking_lot::Mutex;

use crate::{server::Server, v3rpc::maintenance::minor};

/// What is read when somebody asks.
pub(super) struct State {
    has_leader: IntGauge,
    is_leader: IntGauge,
    is_learner: IntGauge,
    proposals_committed: IntGauge,
    proposals_applied: IntGauge,
    db_total: IntGauge,
    db_in_use: IntGauge,
    current_revision: IntGauge,
    compact_revision: IntGauge,
    cluster_version: IntGaugeVec,
    alarms: IntGaugeVec,
    known_peers: IntGaugeVec,
    active_peers: IntGaugeVec,
    /// Label sets that stand, so that those which no longer hold can be taken away.
    standing_alarms: Mutex<BTreeSet<(String, String)>>,
}

impl State {
    pub(super) fn register(r: &Registry) -> Result<Self, Error> {
        Ok(Self {
            has_leader: r.gauge(
                "etcd_server_has_leader",
                "Whether or not a leader exists. 1 is existence, 0 is not.",
            )?,
            is_leader: r.gauge(
                "etcd_server_is_leader",
                "Whether or not this member is a leader. 1 if is, 0 otherwise.",
            )?,
            is_learner: r.gauge(
                "etcd_server_is_learner",
                "Whether or not this member is a learner. 1 if is, 0 otherwise.",
            )?,
            proposals_committed: r.gauge(
                "etcd_server_proposals_committed_total",
                "The total number of consensus proposals committed.",
            )?,
            proposals_applied: r.gauge(
                "etcd_server_proposals_applied_total",
                "The total number of consensus proposals applied.",
            )?,
            db_total: r.gauge(
                "etcd_mvcc_db_total_size_in_bytes",
                "Total size of the underlying database physically allocated in bytes.",
            )?,
            db_in_use: r.gauge(
                "etcd_mvcc_db_total_size_in_use_in_bytes",
                "Total size of the underlying database logically in use in bytes.",
            )?,
            current_revision: r.gauge(
                "etcd_debugging_mvcc_current_revision",
                "The current revision of store.",
            )?,
            compact_revision: r.gauge(
                "etcd_debugging_mvcc_compact_revision",
                "The revision of the last compaction in store.",
            )?,
            cluster_version: r.gauges(
                "etcd_cluster_version",
                "Which version is running. 1 for 'cluster_version' label with current cluster version",
                &["cluster_version"],
            )?,
            alarms: r.gauges(
                "etcd_debugging_server_alarms",
                "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm",
                &["alarm_type", "server_id"],
            )?,
            known_peers: r.gauges(
                "etcd_network_known_peers",
                "The current number of known peers.",
                &["Local", "Remote"],
            )?,
            active_peers: r.gauges(
                "etcd_network_active_peers",
                "The current number of active peer connections.",
                &["Local", "Remote"],
            )?,
            standing_alarms: Mutex::default(),
        })
    }
}

impl Server {
    /// All series as text.
    pub(crate) fn render_metrics(&self) -> Result<String, Error> {
        self.refresh_state();
        self.metrics.registry.render()
    }

    fn refresh_state(&self) {
        let state = &self.metrics.state;
        let raft = self.node.status();
        state.has_leader.set(i64::from(raft.leader.is_some()));
        state.is_leader.set(i64::from(raft.role == Role::Leader));
        state.is_learner.set(i64::from(self.is_learner()));
        state.proposals_committed.set(raft.committed as i64);
        state.proposals_applied.set(raft.applied as i64);
        let sizes = self.reader.sizes();
        state.db_total.set(sizes.physical as i64);
        state.db_in_use.set(sizes.in_use as i64);
        state.current_revision.set(self.reader.revision());
        state.compact_revision.set(self.reader.compacted());
        if let Some(version) = self.reader.cluster_version() {
            state
                .cluster_version
                .with_label_values(&[minor(&version)])
                .set(1);
        }
        self.refresh_alarms(state);
        self.refresh_peers(state);
    }

    fn refresh_alarms(&self, state: &State) {
        let alarms = self.reader.alarms();
        let labels = |alarm: &pb::AlarmMember| {
            let kind = pb::AlarmType::try_from(alarm.alarm);
            let kind = kind.unwrap_or_default().as_str_name().to_owned();
            (kind, format!("{:x}", alarm.member_id))
        };
        let now: BTreeSet<_> = alarms.iter().map(labels).collect();
        let mut standing = state.standing_alarms.lock();
        for (kind, member) in standing.difference(&now) {
            state.alarms.with_label_values(&[kind, member]).set(0);
        }
        for (kind, member) in &now {
            state.alarms.with_label_values(&[kind, member]).set(1);
        }
        standing.extend(now);
    }

    fn refresh_peers(&self, state: &State) {
        let own = self.node.member_id();
        let local = format!("{own:x}");
        let leads = self.leadership().role == Role::Leader;
        let heard = self.node.status().peers;
        for id in self
            .reader
            .members()
            .present
            .keys()
            .filter(|id| **id != own)
        {
            let remote = format!("{id:x}");
            let labels = [&local, &remote];
            state.known_peers.with_label_values(&labels).set(1);
            // Only a leader hears from all; a follower knows of its leader.
            let recent = |silent: Duration| silent < 2 * self.config.election;
            let active = if leads {
                let peer = heard.iter().find(|peer| peer.id == *id);
                peer.and_then(|peer| peer.silent).is_some_and(recent)
            } else {
                self.leader() == Some(*id)
            };
            state
                .active_peers
                .with_label_values(&labels)
                .set(i64::from(active));
        }
    }
}
