//! What clients were told.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::history::{Args, LeaseId, Operation, Outcome, Pair, Reply};

/// How many leases are remembered after their end.
const ENDED_MAX: usize = 16;

/// What clients were told.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The newest revision.
    pub(super) revision: i64,
    /// What was, or may have been, compacted.
    pub(super) compacted: i64,
    /// Leases that are thought to be there.
    pub(super) leases: Vec<i64>,
    /// Leases that ended.
    pub(super) ended: Vec<i64>,
    /// The pairs as they were last seen.
    pub(super) pairs: BTreeMap<Bytes, Pair>,
}

impl Known {
    pub(super) fn learn(&mut self, ended: &Operation) {
        match (&ended.args, &ended.outcome) {
            (Args::Compact(compact), Outcome::Ok(_) | Outcome::Unknown(_)) => {
                self.compacted = self.compacted.max(compact.revision);
            }
            (Args::LeaseRevoke(LeaseId { id }), _) => self.end(*id),
            _ => {}
        }
        let Outcome::Ok(answer) = &ended.outcome else {
            return;
        };
        self.revision = self.revision.max(answer.header.revision.unwrap_or(0));
        match (&ended.args, &answer.reply) {
            (_, Reply::LeaseGrant(granted)) => self.leases.push(granted.id),
            (Args::LeaseKeepalive(LeaseId { id }), Reply::LeaseKeepalive { ttl: ..=0 }) => {
                self.end(*id);
            }
            (Args::Get(_), reply) => self.see(reply),
            (Args::Txn(_), Reply::Txn(tried)) => {
                tried.responses.iter().for_each(|reply| self.see(reply));
            }
            _ => {}
        }
    }

    fn see(&mut self, reply: &Reply) {
        if let Reply::Get(ranged) = reply {
            for pair in &ranged.kvs {
                self.pairs.insert(pair.key.clone(), pair.clone());
            }
        }
    }

    fn end(&mut self, lease: i64) {
        self.leases.retain(|id| *id != lease);
        self.ended.push(lease);
        if self.ended.len() > ENDED_MAX {
            self.ended.remove(0);
        }
    }
}
