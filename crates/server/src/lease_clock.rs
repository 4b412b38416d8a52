//! The leader's clock: ends leases whose time is up, and notes what is left of the others.

use std::{sync::Arc, time::Duration};

use catena_api::etcd::etcdserverpb as pb;
use catena_raft::ProposeError;
use catena_store::{Command, LeaseChange, LeaseCheckpoint, LeaseFeed, Request};

use crate::server::Server;

/// How often the clock looks at the leases.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Leases that one look revokes at most.
const REVOKES_MAX: usize = 500;

/// Leases in one command that notes what is left of them.
const NOTES_MAX: usize = 1000;

/// Runs until the member stops.
pub(crate) async fn run(server: Arc<Server>) {
    let mut feed = server.reader.lease_feed();
    let mut leadership = server.leadership_changes();
    let mut look = server.runtime.clock.sleep(LOOK_INTERVAL);
    loop {
        let led = leadership.borrow_and_update().led_term();
        if led != server.lessor.term() {
            server.lessor.demote();
            if led.is_some() {
                promote(&server, &mut feed).await;
            }
        }
        tokio::select! {
            // The look comes before what may be ready at every turn.
            biased;
            changed = leadership.changed() => if changed.is_err() { return },
            () = &mut look => {
                look = server.runtime.clock.sleep(LOOK_INTERVAL);
                // What is under way is dropped when leadership changes: a deposed leader's revocations are refused in any case.
                tokio::select! {
                    biased;
                    () = tick(&server) => {}
                    _ = leadership.changed() => {}
                }
            }
            change = feed.next() => match change {
                Some(change) => follow(&server, &mut feed, change),
                None => return,
            },
        }
    }
}

/// Starts the time of leases, once this member is proven to lead and has applied all that its predecessors committed. If it is not
/// proven within the time for requests, the next look tries again.
async fn promote(server: &Server, feed: &mut LeaseFeed) {
    let proof = server.node.confirm_leader().await;
    let Ok(term) = proof else {
        return;
    };
    if server.node.read_index().await.is_err() {
        return;
    }
    // What happened until here is in the list that is read next.
    while feed.try_next().is_some() {}
    let now = server.runtime.clock.now();
    let leases = server.reader.leases();
    server
        .lessor
        .promote(term, now, server.config.election, &leases);
    tracing::info!(
        term,
        leases = leases.len(),
        "lease clock runs on this member"
    );
}

fn follow(server: &Server, feed: &mut LeaseFeed, first: LeaseChange) {
    let now = server.runtime.clock.now();
    let mut next = Some(first);
    while let Some(change) = next {
        match change {
            LeaseChange::Rescan => server.lessor.reconcile(now, &server.reader.leases()),
            LeaseChange::Granted { .. } => server.metrics.leases_granted.inc(),
            LeaseChange::Revoked { .. } => server.metrics.leases_revoked.inc(),
            LeaseChange::Checkpointed { .. } => {}
        }
        server.lessor.follow(now, change);
        next = feed.try_next();
    }
}

/// One look at the leases.
async fn tick(server: &Server) {
    let Some(term) = server.lessor.term() else {
        return;
    };
    let now = server.runtime.clock.now();
    let expired = server.lessor.expired(now, REVOKES_MAX);
    if !expired.is_empty() {
        revoke(server, term, &expired).await;
    }
    let now = server.runtime.clock.now();
    let until = now + server.config.request_timeout();
    let notes = server.lessor.due_notes(now, until, NOTES_MAX);
    if !notes.is_empty()
        && let Err(error) = note(server, term, &notes).await
    {
        tracing::debug!(%error, "failed to note remaining time of leases");
    }
}

/// Ends leases, all in one entry of the log. Those that have ended meanwhile are no failure.
async fn revoke(server: &Server, term: u64, expired: &[i64]) {
    let revoke = |&id: &i64| {
        let request = pb::LeaseRevokeRequest { id };
        Command::internal(Request::LeaseRevoke(request))
    };
    let commands: Vec<Command> = expired.iter().map(revoke).collect();
    match server.node.propose_as_leader(term, &commands).await {
        Ok(outcomes) => server.metrics.leases_expired.inc_by(outcomes.len() as u64),
        // The next look finds them again.
        Err(error) => {
            tracing::warn!(leases = expired.len(), %error, "failed to revoke expired leases");
        }
    }
}

async fn note(server: &Server, term: u64, notes: &[LeaseCheckpoint]) -> Result<(), ProposeError> {
    let command = Command::internal(Request::LeaseCheckpoint(notes.to_vec()));
    let proposed = server.node.propose_as_leader(term, &[command]).await;
    server.lessor.settle(notes);
    proposed.map(drop)
}

/// Notes what is left of every lease: before leadership is handed over, so that the next leader goes on where this one stopped.
pub(crate) async fn note_all(server: &Server) {
    let Some(term) = server.lessor.term() else {
        return;
    };
    let now = server.runtime.clock.now();
    let until = now + server.config.request_timeout();
    let notes = server.lessor.all_notes(now, until);
    for part in notes.chunks(NOTES_MAX) {
        if let Err(error) = note(server, term, part).await {
            tracing::warn!(%error, "failed to note remaining time of leases");
            return;
        }
    }
}

/// Takes notes back, before leases are renewed. If that fails they count as standing.
pub(crate) async fn clear_notes(
    server: &Server,
    term: u64,
    leases: &[i64],
) -> Result<(), ProposeError> {
    for part in leases.chunks(NOTES_MAX) {
        let clear = |&id: &i64| LeaseCheckpoint {
            id,
            remaining_ttl_secs: 0,
        };
        let cleared: Vec<_> = part.iter().map(clear).collect();
        let command = Command::internal(Request::LeaseCheckpoint(cleared.clone()));
        server.node.propose_as_leader(term, &[command]).await?;
        server.lessor.settle(&cleared);
    }
    Ok(())
}
