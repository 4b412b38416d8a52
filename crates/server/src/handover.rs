//! Handing leadership over, without losing the time of leases.

use catena_raft::{MoveError, PeerStatus, Role};

use crate::{lease_clock, server::Server};

/// Makes `target` the leader. What is left of leases is noted first, so that they end when they would have.
pub(crate) async fn move_leader(server: &Server, target: u64) -> Result<(), MoveError> {
    let leads = server.leadership().role == Role::Leader;
    if leads && target != server.node.member_id() {
        lease_clock::note_all(server).await;
    }
    server.node.move_leader(target).await
}

/// Before a leader stops: notes what is left of leases, then makes the most suitable other voter the leader, so that the cluster need
/// not find out that it is gone.
pub(crate) async fn hand_over(server: &Server) {
    let raft = server.node.status();
    if raft.role != Role::Leader {
        return;
    }
    lease_clock::note_all(server).await;
    let members = server.reader.members();
    let voter = |peer: &&PeerStatus| {
        let member = members.present.get(&peer.id);
        member.is_some_and(|member| !member.is_learner) && peer.matched.is_some()
    };
    // The most advanced one, and of equals the one heard of last.
    let best = raft.peers.iter().filter(voter).max_by_key(|peer| {
        let quiet = peer.silent.unwrap_or(std::time::Duration::MAX);
        (peer.matched, std::cmp::Reverse(quiet))
    });
    let Some(target) = best.map(|peer| peer.id) else {
        return;
    };
    let (from, to) = (
        format!("{:x}", server.node.member_id()),
        format!("{target:x}"),
    );
    tracing::info!(
        local_member_id = from,
        current_leader_member_id = from,
        transferee_member_id = to,
        "leadership transfer starting"
    );
    // A target that is well takes milliseconds; one that stops too, as when a whole cluster does, is not waited for.
    let moved = server.node.move_leader(target);
    match server.within(server.config.election, moved).await {
        Some(Ok(())) => tracing::info!(
            local_member_id = from,
            old_leader_member_id = from,
            new_leader_member_id = to,
            "leadership transfer finished"
        ),
        Some(Err(error)) => {
            tracing::warn!(local_member_id = from, %error, "leadership transfer failed")
        }
        None => tracing::warn!(local_member_id = from, "leadership transfer took too long"),
    }
}
