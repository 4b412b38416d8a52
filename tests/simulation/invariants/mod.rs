//! What must hold inside, whatever clients see.
//!
//! Observers in every member tell of each vote and each applied entry when it happens; [`Invariants::look`] compares members, and their
//! disks, at any moment between two steps. Nothing here reads a clock or waits, so it changes nothing of what it looks at. Numbers are
//! those of the list that reliability work on such stores goes by:
//!
//! | | holds | checked |
//! |---|---|---|
//! | 1 | at most one leader in a term | at each vote |
//! | 2 | one vote in a term, across crashes; durable before it leaves | at each vote, and on its disk |
//! | 3, 4 | same index and term: same entry, same entries before; a leader overwrites nothing of its own | disks, at each look |
//! | 5 | a leader has every entry that was committed before its term | its disk, when it is elected |
//! | 6, 12 | what is applied anywhere, so all that was answered, is durable on a quorum of the configuration that it was committed in | disks, at each look and after answers |
//! | 7, 14 | one entry, one revision for each index, on all members | at each applied entry |
//! | 8, 9 | term, applied and purged index never go back, on disk not even across crashes; what is purged is applied, and on the disk of the engine | at each look |
//! | 10 | equal applied index: equal hash, leases, members | at each look |
//! | 11 | what the engine has on its disk, the log beside it has on its own, or has dropped it | when the engine commits |
//! | 17 | only one member lets the time of leases run in a term | at each look |
//! | 18 | the compacted revision never goes back | at each look |
//! | 19, 20 | neighbouring configurations differ by one voter, so that their quorums meet; only voters count, and nobody votes who was removed | at each applied entry |
//! | 21 | what waits for a stream of watches, and the recent events, keep below their bounds | after each applied entry |
//! | 22 | no task of a process outlives it; calls, watches and streams between members that have ended leave none | at each look, and in peace |
//!
//! Of 11, a member checks the rest itself when it starts, and every crash makes it do so; here, a log must open at any moment as it is
//! on the disk. 13, 15 and 16 are judged from what clients saw. Of 21, the other queues are bounded by their types.

mod disks;
mod entries;
mod states;
mod tasks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use catena_raft::{AppliedEntry, Ballot, Observer};
use catena_store::{Options, Position, Reader};
use parking_lot::Mutex;

use self::{disks::Disks, entries::Entries, states::States, tasks::Lives};
use crate::{
    cluster::{Cluster, Freezer},
    disk::Drive,
    world::{Event, covered},
};

#[derive(Default)]
struct Inner {
    ballots: Mutex<Ballots>,
    entries: Mutex<Entries>,
    disks: Mutex<Disks>,
    states: Mutex<States>,
    lives: Mutex<Lives>,
}

/// All that was seen. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Invariants(Arc<Inner>);

impl Invariants {
    /// Of a cluster that begins with these members.
    pub(crate) fn new(founders: impl Iterator<Item = u64>) -> Self {
        let invariants = Self::default();
        invariants.0.entries.lock().found(founders.collect());
        invariants
    }

    /// What a new process of a member tells its votes and entries to.
    pub(crate) fn observer(&self, id: u64, drive: Arc<Drive>, store: Options) -> Arc<Watcher> {
        Arc::new(Watcher {
            id,
            drive,
            store,
            invariants: self.clone(),
            applied: Mutex::default(),
            reader: OnceLock::new(),
        })
    }

    /// A process begins; `tasks` knows what runs of it.
    pub(crate) fn lives(&self, id: u64, incarnation: u64, tasks: Freezer) {
        self.0.lives.lock().begin((id, incarnation), tasks);
    }

    /// Whether nothing is left of any process that has ended.
    pub(crate) fn dead_are_gone(&self, cluster: &Cluster) -> bool {
        self.0.lives.lock().dead_are_gone(cluster)
    }

    /// Whether an entry removed this member.
    pub(crate) fn is_removed(&self, id: u64) -> bool {
        !self.0.entries.lock().voters().contains(&id)
    }

    /// How many vote, as far as anybody has applied it.
    pub(crate) fn voters(&self) -> usize {
        self.0.entries.lock().voters().len()
    }

    /// Terms that had a leader.
    pub(crate) fn led_terms(&self) -> usize {
        self.0.ballots.lock().elected.len()
    }

    /// Compares members and disks.
    pub(crate) fn look(&self, cluster: &Cluster) {
        self.0.disks.lock().look(cluster, &self.0.entries.lock());
        self.0.states.lock().look(cluster);
        self.0.lives.lock().look(cluster);
    }

    /// After an answer: whether what its member has applied would survive the loss of all power.
    pub(crate) fn answered(&self, cluster: &Cluster, id: u64) {
        let entries = self.0.entries.lock();
        self.0.disks.lock().answered(cluster, &entries, id);
    }

    /// After an election: whether the new leader has all that was committed before.
    pub(crate) fn look_at_new_leaders(&self, cluster: &Cluster) {
        let elected = std::mem::take(&mut self.0.ballots.lock().fresh);
        for (term, leader) in elected {
            covered(Event::LeaderChange);
            let entries = self.0.entries.lock();
            self.0.disks.lock().elected(cluster, &entries, term, leader);
        }
    }
}

/// Votes.
#[derive(Default)]
struct Ballots {
    /// By voter and term.
    cast: BTreeMap<(u64, u64), u64>,
    /// By term.
    elected: BTreeMap<u64, u64>,
    /// The highest term by voter.
    terms: BTreeMap<u64, u64>,
    /// Elected since the last look, as they noted it themselves.
    fresh: Vec<(u64, u64)>,
}

impl Ballots {
    fn cast(&mut self, voter: u64, ballot: Ballot) {
        let Ballot {
            term,
            candidate,
            elected,
        } = ballot;
        let highest = self.terms.entry(voter).or_default();
        assert!(
            term >= *highest,
            "invariant 8: member {voter:x} goes back from term {highest} to {term}"
        );
        *highest = term;
        if elected {
            let leader = *self.elected.entry(term).or_insert(candidate);
            assert_eq!(
                leader, candidate,
                "invariant 1: two leaders in term {term}, says member {voter:x}"
            );
            if voter == candidate {
                self.fresh.push((term, candidate));
            }
        } else {
            // Who follows an elected leader has not voted for it.
            let first = *self.cast.entry((voter, term)).or_insert(candidate);
            assert_eq!(
                first, candidate,
                "invariant 2: member {voter:x} votes twice in term {term}"
            );
        }
    }
}

/// Hears one process.
pub(crate) struct Watcher {
    id: u64,
    drive: Arc<Drive>,
    store: Options,
    invariants: Invariants,
    /// What this process applied last.
    applied: Mutex<Option<Position>>,
    /// Its state, once it serves.
    reader: OnceLock<Reader>,
}

impl Watcher {
    /// The process has started.
    pub(crate) fn serves(&self, reader: &Reader) {
        if let Some(applied) = reader.applied() {
            // More than the engine has only by what was applied since, and that is told again.
            self.invariants.0.disks.lock().started(self.id, applied);
        }
        // A process starts once.
        let _first = self.reader.set(reader.clone());
    }

    /// Whether nobody votes who was removed.
    fn check_voters(&self, reader: &Reader, entry: &AppliedEntry<'_>) {
        let Some(voters) = &entry.voters else {
            return;
        };
        let members = reader.members();
        assert!(
            voters.is_disjoint(&members.removed),
            "invariant 20: from {:?} on {voters:?} vote, of whom some are removed: {:?}",
            entry.position,
            members.removed
        );
    }

    /// Whether what watching holds in memory is bounded: what waits for a stream takes more than it may only if it is one item.
    fn check_queues(&self, reader: &Reader) {
        let load = reader.watch_load();
        let full = load
            .inboxes
            .iter()
            .find(|inbox| inbox.items > 1 && inbox.bytes > self.store.inbox_bytes);
        assert!(
            full.is_none() && load.recent_bytes <= self.store.history_bytes,
            "invariant 21: member {:x} holds more than {:?}: {load:?}",
            self.id,
            self.store
        );
    }
}

impl Observer for Watcher {
    fn voted(&self, ballot: Ballot) {
        disks::check_ballot(&self.drive, self.id, ballot);
        self.invariants.0.ballots.lock().cast(self.id, ballot);
    }

    fn applied(&self, entry: &AppliedEntry<'_>) {
        let position = entry.position;
        if let Some(before) = self.applied.lock().replace(position) {
            assert!(
                before.index + 1 == position.index && before.term <= position.term,
                "invariant 7: member {:x} applies {position:?} after {before:?}",
                self.id
            );
        }
        self.invariants.0.entries.lock().applied(self.id, entry);
        if let Some(reader) = self.reader.get() {
            self.check_voters(reader, entry);
            self.check_queues(reader);
        }
    }

    fn engine_committed(&self, _took: Duration, last: Option<Position>) {
        if let Some(last) = last {
            disks::check_engine(&self.drive, self.id, last);
            self.invariants.0.disks.lock().committed(self.id, last);
        }
    }

    fn installed(&self, position: Position, revision: i64) {
        let before = self.applied.lock().replace(position);
        assert!(
            before.is_none_or(|before| before.index <= position.index),
            "invariant 8: member {:x} goes back from {before:?} to a snapshot of {position:?}",
            self.id
        );
        covered(Event::SnapshotInstalled);
        self.invariants.0.disks.lock().committed(self.id, position);
        let entries = self.invariants.0.entries.lock();
        entries.installed(self.id, position, revision);
    }
}

/// A majority of some voters.
fn is_quorum(of: &BTreeSet<u64>, voters: &BTreeSet<u64>) -> bool {
    2 * of.intersection(voters).count() > voters.len()
}
