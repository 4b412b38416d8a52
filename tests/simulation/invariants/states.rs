//! What members hold in memory.

use std::collections::BTreeMap;

use catena_store::Position;

use crate::{
    cluster::{Cluster, Process},
    world::{Event, covered},
};

/// What was ever seen of states.
#[derive(Default)]
pub(super) struct States {
    /// What the state is after each entry at which somebody looked.
    digests: BTreeMap<u64, Digest>,
    /// What each process said last.
    last: BTreeMap<u64, Last>,
    /// Who let the time of leases run in each term.
    lessors: BTreeMap<u64, u64>,
}

/// All of a state, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Digest {
    pairs: (u32, i64, i64),
    others: u32,
}

#[derive(Clone, Copy)]
struct Last {
    incarnation: u64,
    term: u64,
    applied: Option<Position>,
    compacted: i64,
    purged: u64,
}

impl States {
    /// Every member against every other, and against itself before.
    pub(super) fn look(&mut self, cluster: &Cluster) {
        for process in cluster.running() {
            self.compare(&process);
            self.keep(&process);
            self.lessor(&process);
        }
    }

    fn compare(&mut self, process: &Process) {
        let Some(applied) = process.node.reader().applied() else {
            return;
        };
        let digest = digest(process);
        let known = self.digests.entry(applied.index).or_insert(digest.clone());
        assert_eq!(
            *known, digest,
            "invariant 10: state of member {:x} after entry {}",
            process.id, applied.index
        );
    }

    fn keep(&mut self, process: &Process) {
        let (status, reader) = (process.node.status(), process.node.reader());
        let now = Last {
            incarnation: process.incarnation,
            term: status.term,
            applied: reader.applied(),
            compacted: reader.compacted(),
            purged: status.purged,
        };
        assert!(
            status.purged <= status.applied,
            "invariant 9: member {:x} has purged what it has not applied: {status:?}",
            process.id
        );
        let before = self.last.insert(process.id, now);
        let Some(before) = before.filter(|before| before.incarnation == now.incarnation) else {
            return;
        };
        assert!(
            before.term <= now.term && before.applied <= now.applied && before.purged <= now.purged,
            "invariant 8: member {:x} goes back to {status:?}",
            process.id
        );
        if before.purged < now.purged {
            covered(Event::LogPurged);
        }
        assert!(
            before.compacted <= now.compacted,
            "invariant 18: the compacted revision of member {:x} goes back",
            process.id
        );
    }

    fn lessor(&mut self, process: &Process) {
        let Some(term) = process.indoor.lease_term() else {
            return;
        };
        let lessor = *self.lessors.entry(term).or_insert(process.id);
        assert_eq!(
            lessor, process.id,
            "invariant 17: two members let the time of leases run in term {term}"
        );
    }
}

fn digest(process: &Process) -> Digest {
    let reader = process.node.reader();
    let pairs = reader.hash_kv(0).expect("the store can be hashed");
    let others = format!(
        "{:?} {:?} {:?} {:?}",
        reader.leases(),
        reader.members(),
        reader.alarms(),
        reader.cluster_version()
    );
    Digest {
        pairs: (pairs.hash, pairs.compact_revision, pairs.revision),
        others: crc32c::crc32c(others.as_bytes()),
    }
}
