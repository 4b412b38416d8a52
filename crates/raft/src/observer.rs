//! What metrics are made of, and what a simulation checks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use catena_store::Position;

/// A vote that a member has given, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// The term.
    pub term: u64,
    /// For whom.
    pub candidate: u64,
    /// Whether a quorum elected the candidate: then it leads the term.
    pub elected: bool,
}

/// An entry that a member has applied.
#[derive(Clone, Debug)]
pub struct AppliedEntry<'a> {
    /// Its place in the log.
    pub position: Position,
    /// Its commands, encoded.
    pub commands: &'a [u8],
    /// Who votes from this entry on, if it changes that.
    pub voters: Option<BTreeSet<u64>>,
    /// The store's revision after it.
    pub revision: i64,
}

/// Sees what the log, the engine and the ways between members do. Called where it happens, so it must be quick.
pub trait Observer: Send + Sync + 'static {
    /// A sync of the log took `took`; `bytes` were written for it.
    fn log_synced(&self, took: Duration, bytes: usize) {
        let _unobserved = (took, bytes);
    }

    /// A batch reached the engine, which durably holds all up to `last` now.
    fn engine_committed(&self, took: Duration, last: Option<Position>) {
        let _unobserved = (took, last);
    }

    /// A frame was handed to the connection to a peer.
    fn peer_sent(&self, to: u64, bytes: usize) {
        let _unobserved = (to, bytes);
    }

    /// A frame came from a peer.
    fn peer_received(&self, from: u64, bytes: usize) {
        let _unobserved = (from, bytes);
    }

    /// A frame could not be sent, or was not answered.
    fn peer_failed(&self, to: u64) {
        let _unobserved = to;
    }

    /// A vote is durable and may leave this member.
    fn voted(&self, ballot: Ballot) {
        let _unobserved = ballot;
    }

    /// An entry was applied; those who wait for it are not answered yet.
    fn applied(&self, entry: &AppliedEntry<'_>) {
        let _unobserved = entry;
    }

    /// A snapshot was put in place of the applied state.
    fn installed(&self, position: Position, revision: i64) {
        let _unobserved = (position, revision);
    }

    /// A peer answered a small call, which waits for nothing at its end.
    fn peer_answered(&self, to: u64, took: Duration) {
        let _unobserved = (to, took);
    }
}

/// Sees nothing.
pub(crate) struct Blind;

impl Observer for Blind {}

/// The log's part.
pub(crate) struct OfLog(pub(crate) Arc<dyn Observer>);

impl catena_wal::Observer for OfLog {
    fn synced(&self, took: Duration, bytes: usize) {
        self.0.log_synced(took, bytes);
    }
}
