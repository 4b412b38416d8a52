//! What a proposal is told whose time is up: the texts of etcd say what may have been the reason.

use std::time::Duration;

use super::Proposal;
use crate::{
    ProposeError,
    shared::{Leader, Shared},
};

/// The time left for the last one of a batch.
pub(super) fn left(shared: &Shared, proposals: &[Proposal]) -> Duration {
    let deadline = proposals
        .last()
        .map_or(Duration::ZERO, |last| last.deadline);
    deadline.saturating_sub(shared.now())
}

/// Why a proposal was never appended.
pub(super) fn unsent(shared: &Shared, proposal: &Proposal) -> ProposeError {
    match shared.leader() {
        Leader::Nowhere if proposal.leaderless => ProposeError::Deadline,
        Leader::Nowhere | Leader::Here | Leader::There(_) => ProposeError::NoLeader,
    }
}

/// Why nothing is known of a proposal.
pub(super) fn sent(shared: &Shared, proposal: &Proposal) -> ProposeError {
    let leader_since = shared.leader_since();
    let close = leader_since.saturating_sub(2 * shared.rules.election);
    if (close..leader_since).contains(&proposal.admitted) {
        ProposeError::TimeoutLeaderFailure
    } else if !shared.connected_after(proposal.admitted) {
        ProposeError::TimeoutConnectionLost
    } else {
        ProposeError::Timeout
    }
}
