//! Whether this member is the whole cluster.
//!
//! Where nobody else is a member, voter or learner, nobody else can commit an entry or answer a client: whoever was answered was
//! answered here, from what was applied. So what is applied may be read as it is, without a question to consensus.
//!
//! Others can join through this member's log alone. An entry that names them is noted before it is in the log, and so before any
//! other member can have it; one that names nobody else counts once it is applied, and only if no other membership was appended
//! since.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::entry::RaftEntry;

use crate::types::{Entry, Membership};

/// What the log and the applied state say of other members. Indexes count from 1; 0 is none.
#[derive(Debug)]
pub(crate) struct Sole {
    own: u64,
    /// The last applied entry by which there is nobody else.
    alone: AtomicU64,
    /// The last entry in the log by which there are others.
    joined: AtomicU64,
}

impl Sole {
    /// Nothing is known yet.
    pub(crate) fn new(own: u64) -> Self {
        Self {
            own,
            alone: AtomicU64::new(0),
            joined: AtomicU64::new(0),
        }
    }

    /// Whether there is nobody else.
    pub(crate) fn is(&self) -> bool {
        self.alone.load(Ordering::SeqCst) > self.joined.load(Ordering::SeqCst)
    }

    /// An entry is about to be appended.
    pub(crate) fn appending(&self, entry: &Entry) {
        if let Some(membership) = &entry.payload.membership
            && !self.is_named_alone(membership)
        {
            self.may_have_joined(entry.index());
        }
    }

    /// The membership of entry `index` is applied.
    pub(crate) fn applied(&self, index: u64, membership: &Membership) {
        if self.is_named_alone(membership) {
            self.alone.fetch_max(index + 1, Ordering::SeqCst);
        }
    }

    /// There may be others since entry `index`.
    pub(crate) fn may_have_joined(&self, index: u64) {
        self.joined.fetch_max(index + 1, Ordering::SeqCst);
    }

    /// The membership that consensus has found in the log at start, in entry `index`.
    pub(crate) fn found(&self, index: u64, mut members: impl Iterator<Item = u64>) {
        match members.all(|id| id == self.own) {
            true => self.alone.fetch_max(index + 1, Ordering::SeqCst),
            false => self.joined.fetch_max(index + 1, Ordering::SeqCst),
        };
    }

    fn is_named_alone(&self, membership: &Membership) -> bool {
        membership.nodes().all(|(id, _)| *id == self.own)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{self, CommittedLeaderId, LogId, Payload, Peer};

    fn members(ids: &[u64], voters: &[u64]) -> Membership {
        let peers = ids.iter().map(|id| (*id, Peer::default())).collect();
        types::membership(voters.iter().copied().collect(), peers).unwrap()
    }

    fn entry(index: u64, membership: Membership) -> Entry {
        let payload = Payload {
            membership: Some(Arc::new(membership)),
            ..Payload::default()
        };
        Entry::new(LogId::new(CommittedLeaderId::new(1), index), payload)
    }

    #[test]
    fn alone_once_that_is_applied_and_until_another_is_appended() {
        let sole = Sole::new(7);
        assert!(!sole.is(), "nothing is known");
        let founding = members(&[7], &[7]);
        sole.appending(&entry(0, founding.clone()));
        assert!(!sole.is(), "not applied");
        sole.applied(0, &founding);
        assert!(sole.is());
        sole.appending(&entry(5, members(&[7, 8], &[7])));
        assert!(!sole.is(), "a learner answers clients too");
        sole.applied(0, &founding);
        assert!(!sole.is(), "an older membership");
        sole.applied(9, &founding);
        assert!(sole.is(), "the other one has left");
    }

    #[test]
    fn leaving_that_is_overtaken_does_not_count() {
        let sole = Sole::new(7);
        sole.appending(&entry(3, members(&[7], &[7])));
        sole.appending(&entry(4, members(&[7, 8], &[7, 8])));
        sole.applied(3, &members(&[7], &[7]));
        assert!(!sole.is());
    }

    #[test]
    fn what_start_finds_counts() {
        let sole = Sole::new(7);
        sole.found(3, [7].into_iter());
        assert!(sole.is());
        sole.may_have_joined(3);
        assert!(!sole.is());
        let sole = Sole::new(7);
        sole.found(3, [7, 8].into_iter());
        assert!(!sole.is());
        assert!(!Sole::new(8).is());
    }
}
