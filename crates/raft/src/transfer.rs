//! Handing leadership over.
//!
//! openraft knows no way back: once asked, the leader writes nothing until some member wins. So the target must be about to win:
//! it must answer, and have the whole log. Batches wait meanwhile, they are not refused.

use std::{sync::atomic::Ordering, time::Duration};

use crate::{
    MoveError, PeerStatus,
    blocking::timeout,
    shared::{Leader, Shared},
};

/// Entries that the target may lack when batches begin to wait for it.
const LAG_MAX: u64 = 100;

/// How often the target's progress is looked at.
const POLL: Duration = Duration::from_millis(5);

/// Reopens the way for batches when it goes out of scope.
struct Gate<'a>(&'a Shared);

impl<'a> Gate<'a> {
    fn close(shared: &'a Shared) -> Self {
        shared.handing_over.store(true, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        self.0.handing_over.store(false, Ordering::Relaxed);
    }
}

/// Hands leadership to `to` and waits until it leads, but no longer than `limit`.
pub(crate) async fn move_leader(
    shared: &Shared,
    to: u64,
    limit: Duration,
) -> Result<(), MoveError> {
    if shared.leader() != Leader::Here {
        return Err(MoveError::NotLeader);
    }
    if to == shared.identity.member_id {
        return Ok(());
    }
    if !shared.consensus.configuration().voters.contains(&to) {
        return Err(MoveError::BadTransferee);
    }
    let clock = shared.runtime.clock.as_ref();
    timeout(clock, limit, hand_over(shared, to))
        .await
        .unwrap_or(Err(MoveError::Timeout))
}

async fn hand_over(shared: &Shared, to: u64) -> Result<(), MoveError> {
    let Ok(_no_reconfiguration) = shared.reconfiguring.acquire().await else {
        return Err(MoveError::Stopped);
    };
    wait_until_close(shared, to, LAG_MAX).await?;
    let _gate = Gate::close(shared);
    wait_until_close(shared, to, 0).await?;
    tracing::info!(to = format_args!("{to:x}"), "leadership transfer starting");
    shared.consensus.transfer(to).await;
    let mut leadership = shared.leadership.clone();
    let own = shared.identity.member_id;
    let another = |leader: &u64| *leader != own;
    let moved = leadership.wait_for(|known| known.leader.as_ref().is_some_and(another));
    let leader = moved.await.map_err(|_| MoveError::Stopped)?.leader;
    tracing::info!(to = format_args!("{to:x}"), "leadership transfer finished");
    match leader == Some(to) {
        true => Ok(()),
        // A third one was quicker.
        false => Err(MoveError::Timeout),
    }
}

/// Waits until the target answers and lacks no more than `lag`.
async fn wait_until_close(shared: &Shared, to: u64, lag: u64) -> Result<(), MoveError> {
    loop {
        if shared.leader() != Leader::Here {
            return Err(MoveError::NotLeader);
        }
        let status = shared.consensus.status();
        let target = status.peers.iter().find(|peer| peer.id == to);
        if target.is_some_and(|peer| is_close(shared, peer, status.last_index, lag)) {
            return Ok(());
        }
        shared.runtime.clock.sleep(POLL).await;
    }
}

fn is_close(shared: &Shared, peer: &PeerStatus, last_index: u64, lag: u64) -> bool {
    peer.silent
        .is_some_and(|silent| silent < shared.rules.election)
        && peer.matched.unwrap_or(0) + lag >= last_index
}

/// Before this member stops: hands leadership, if it has it, to the voter that is furthest. Nothing is lost if that fails.
pub(crate) async fn before_stop(shared: &Shared) {
    if shared.leader() != Leader::Here {
        return;
    }
    let voters = shared.consensus.configuration().voters;
    let status = shared.consensus.status();
    // Right after an election nobody has answered yet, which is not to be out of reach.
    let reachable = |peer: &&PeerStatus| {
        let silent = peer.silent.unwrap_or_default();
        voters.contains(&peer.id) && silent < shared.rules.election
    };
    let furthest = status
        .peers
        .iter()
        .filter(reachable)
        .max_by_key(|peer| peer.matched);
    if let Some(peer) = furthest
        && let Err(error) = move_leader(shared, peer.id, 2 * shared.rules.election).await
    {
        tracing::warn!(%error, "leadership not handed over");
    }
}
