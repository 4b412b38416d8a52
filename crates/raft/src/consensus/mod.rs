//! What the rest of the crate wants of consensus, without openraft's types and its type parameter.
//!
//! [`Consensus`] is the seam: everything above it is written once, whatever the runtime; [`Core`] below it is openraft. It is called
//! once for each batch, so its boxed futures cost nothing that counts.

mod core;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, watch};

pub(crate) use self::core::Core;

use crate::{
    Leadership, Status,
    types::{Commands, LogId, Peer, Vote},
};

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Applied here.
    Applied,
    /// Not appended: another member leads, perhaps this one.
    NotLeader(Option<u64>),
    /// Not appended: this member leads and cannot write now.
    NotNow,
    /// Appended in this term or a later one, and lost sight of when the leader changed.
    Discarded {
        /// At least this term.
        term: u64,
    },
    /// Unknown: consensus has stopped.
    Stopped,
}

/// Why there is no read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotReadable {
    /// Another member leads, perhaps this one.
    NotLeader(Option<u64>),
    /// No quorum answered in time.
    NoQuorum,
    /// Consensus has stopped.
    Stopped,
}

/// What became of a change of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Applied here.
    Applied,
    /// Not appended: another change is under way, or the leader is new. Worth another try.
    Busy,
    /// Not appended: another member leads, perhaps this one.
    NotLeader(Option<u64>),
    /// Unknown.
    Lost,
    /// Not appended: refused for good.
    Refused(String),
    /// Consensus has stopped.
    Stopped,
}

/// The members as consensus has them, committed or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    /// The entry that it came in.
    pub(crate) at: Option<LogId>,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) peers: BTreeMap<u64, Peer>,
}

/// Consensus without type parameters.
pub(crate) trait Consensus: Send + Sync + 'static {
    /// Appends a batch, if `fence` is given only as leader of that term, and waits until it is applied here.
    fn write(&self, commands: Commands, fence: Option<u64>) -> BoxFuture<'_, Written>;

    /// Asks a quorum whether we lead; the index that a linearizable read has to wait for.
    fn read_index(&self, wait: Duration) -> BoxFuture<'_, Result<u64, NotReadable>>;

    /// The index that a linearizable read of member `by` has to wait for, if its question says enough: `vote` is its vote after the
    /// read began, and if that is for us, and both are a quorum, nobody else led when the question was sent.
    fn read_index_of(&self, by: u64, vote: Vote) -> BoxFuture<'_, Option<u64>>;

    /// Makes sure that we lead, by a quorum's answer that is younger than the lease or a new one; our term.
    fn confirm(&self, wait: Duration) -> BoxFuture<'_, Result<u64, NotReadable>>;

    /// The term that we lead, if a quorum has answered us within `limit`. Asks nobody; what it knows may be a little old, and then
    /// says less.
    fn confirmed_within(&self, limit: Duration) -> Option<u64>;

    /// Entries that are committed and not applied.
    fn backlog(&self) -> u64;

    /// What we know now.
    fn status(&self) -> Status;

    /// Who leads now.
    fn leadership(&self) -> Leadership;

    /// Keeps `leadership` up to date until consensus stops.
    fn follow(&self, leadership: watch::Sender<Leadership>) -> BoxFuture<'static, ()>;

    /// Completes with the reason when consensus has stopped.
    fn stopped(&self) -> BoxFuture<'static, String>;

    /// The members now.
    fn configuration(&self) -> Configuration;

    /// Time since a quorum last answered us as leader.
    fn quorum_silent(&self) -> Option<Duration>;

    /// Puts another membership in the place of the one that came in entry `at`, and commands with it.
    fn change(
        &self,
        at: Option<LogId>,
        voters: BTreeSet<u64>,
        peers: BTreeMap<u64, Peer>,
        commands: Commands,
    ) -> BoxFuture<'_, Changed>;

    /// Replaces what is known of one member, and commands with it.
    fn set_peer(
        &self,
        at: Option<LogId>,
        id: u64,
        peer: Peer,
        commands: Commands,
    ) -> BoxFuture<'_, Changed>;

    /// Asks another member to take over. From now on nothing is written until some member wins.
    fn transfer(&self, to: u64) -> BoxFuture<'_, ()>;

    /// Founds the cluster; false if this member has a log or a vote already.
    fn initialize(&self, peers: BTreeMap<u64, Peer>) -> BoxFuture<'_, Result<bool, String>>;

    /// Whether this member has a log or a vote.
    fn is_initialized(&self) -> BoxFuture<'_, bool>;

    /// Takes a snapshot, unless there is one that reaches to `last`, and waits for it.
    fn snapshot(&self, last: LogId) -> BoxFuture<'_, ()>;

    /// Drops the log up to an index that a snapshot covers.
    fn purge(&self, upto: u64) -> BoxFuture<'_, ()>;

    /// Answers a call of consensus itself.
    fn answer(&self, from: u64, method: u32, body: Bytes)
    -> BoxFuture<'_, Result<Bytes, NetError>>;

    /// Receives entries until either side closes the stream.
    fn receive_entries(&self, from: u64, stream: Duplex) -> BoxFuture<'static, ()>;

    /// Receives a snapshot.
    fn receive_snapshot(&self, from: u64, stream: Duplex) -> BoxFuture<'static, ()>;

    /// Stops.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}
