//! openraft's type parameters: what an entry carries, how members are named, which runtime consensus runs on.
//!
//! An entry carries a batch of commands and, if the members change, the new membership: both in one entry, so that the change of
//! consensus and the record in the state machine can never part. Both are cheap to clone, since an entry is read once for apply and
//! once for each follower.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
/// Names that [`crate::type_config!`] needs where it is used.
pub use openraft::{
    RaftTypeConfig,
    impls::{BoxedErrorSource as ErrorSource, InlineBatch as Batch, OneshotResponder as Responder},
};
use openraft::{
    entry::RaftPayload,
    vote::{RaftLeaderId, leader_id_std},
};
use serde::{Deserialize, Serialize};

/// Term and candidate; one leader a term, as in etcd.
pub type LeaderId = leader_id_std::LeaderId<u64, u64>;
/// Term of a leader that was elected.
pub type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
/// Term and index.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// Whom a member voted for.
pub type Vote = openraft::Vote<LeaderId>;
/// An entry of the log.
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Peer>;
/// A membership and the entry that it came in.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Peer>;
/// What a snapshot is about.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Peer>;

/// A member as consensus knows it. Client URLs and what else changes without consensus lie in the state machine only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The name of one of the first members; empty for those added later, who publish theirs.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
}

/// An encoded batch of commands; see the module `batch`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Commands(pub(crate) Bytes);

impl Commands {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commands({} bytes)", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What an entry carries. Neither part: the entry with which a leader opens its term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// Commands for the state machine, perhaps none.
    pub commands: Commands,
    /// The membership from this entry on.
    pub membership: Option<Arc<Membership>>,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.membership {
            Some(membership) => write!(f, "{} and {membership}", self.commands),
            None => fmt::Display::fmt(&self.commands, f),
        }
    }
}

impl RaftPayload for Payload {
    type D = Commands;
    type NodeId = u64;
    type Node = Peer;

    fn blank() -> Self {
        Self::default()
    }

    fn with_normal(self, commands: Commands) -> Self {
        Self { commands, ..self }
    }

    fn with_membership(self, membership: Membership) -> Self {
        Self {
            membership: Some(Arc::new(membership)),
            ..self
        }
    }

    fn get_membership(&self) -> Option<Membership> {
        self.membership.as_deref().cloned()
    }
}

/// Builds a uniform membership; `None` if there is no voter or one that is no peer.
pub(crate) fn membership(voters: BTreeSet<u64>, peers: BTreeMap<u64, Peer>) -> Option<Membership> {
    Membership::new(vec![voters], peers).ok()
}

/// The type configurations of this crate: all alike but for the runtime.
pub trait Types:
    RaftTypeConfig<
        D = Commands,
        R = (),
        NodeId = u64,
        Node = Peer,
        Term = u64,
        LeaderId = LeaderId,
        Vote = Vote,
        Payload = Payload,
        Entry = Entry,
        ErrorSource = ErrorSource,
    >
{
    /// Makes a responder.
    fn responder() -> NewResponder<Self>;
}

/// A responder for a write, and where its answer arrives.
pub type NewResponder<C> = (
    openraft::type_config::alias::WriteResponderOf<C>,
    openraft::type_config::alias::OneshotReceiverOf<C, openraft::raft::ClientWriteResult<C>>,
);

/// Defines a type configuration on an asynchronous runtime. openraft's own macro cannot set a generic responder.
#[macro_export]
macro_rules! type_config {
    ($(#[$attribute:meta])* $visibility:vis $name:ident on $runtime:ty) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
        $visibility struct $name;

        impl $crate::types::RaftTypeConfig for $name {
            type D = $crate::types::Commands;
            type R = ();
            type NodeId = u64;
            type Node = $crate::types::Peer;
            type Term = u64;
            type LeaderId = $crate::types::LeaderId;
            type Vote = $crate::types::Vote;
            type Payload = $crate::types::Payload;
            type Entry = $crate::types::Entry;
            type AsyncRuntime = $runtime;
            type Responder<T> = $crate::types::Responder<Self, T> where T: Send + 'static;
            type Batch<T> = $crate::types::Batch<T> where T: Send + 'static;
            type ErrorSource = $crate::types::ErrorSource;
        }

        impl $crate::types::Types for $name {
            fn responder() -> $crate::types::NewResponder<Self> {
                $crate::types::Responder::new_pair()
            }
        }
    };
}

crate::type_config! {
    /// Consensus on tokio.
    pub Prod on openraft_rt_tokio::TokioRuntime
}
