//! What lies on the disks, and would be found after all power was lost at this moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use catena_raft::{
    Ballot, StartError,
    logbook::{Logbook, LoggedEntry},
};
use catena_runtime::{BoxFuture, Clock, Runtime, Task, Tasks};
use catena_store::Position;
use futures_util::future;

use super::{
    entries::{Entries, checksum},
    is_quorum,
};
use crate::{
    cluster::{Cluster, DATA_DIR, LOG_DIR},
    disk::Drive,
    world::Chance,
};

/// What was ever seen on a disk.
#[derive(Default)]
pub(super) struct Disks {
    /// Of each entry: the checksum of its commands, and the term of the entry before it.
    entries: BTreeMap<Position, (u32, Option<u64>)>,
    /// Of each member, what was durable last.
    durable: BTreeMap<u64, Durable>,
    /// Of each member, what its engine has on the platter.
    engines: BTreeMap<u64, Position>,
}

#[derive(Clone, Copy, Default)]
struct Durable {
    ballot: Option<Ballot>,
    purged: Option<Position>,
    /// The term that the member led then, and its last entry of that term.
    led: Option<(u64, Position)>,
}

/// The logs as they are on the platters, and the members whose disk is damaged: those count as if they held everything, since what they
/// acknowledged was durable once.
#[derive(Default)]
struct Books {
    sound: BTreeMap<u64, Logbook>,
    rotten: BTreeSet<u64>,
}

impl Books {
    /// Those of some members. A disk that is not damaged must open, at any moment.
    fn read(cluster: &Cluster, ids: impl IntoIterator<Item = u64>) -> Self {
        let mut books = Self::default();
        for id in ids {
            if !cluster.has(id) {
                continue;
            }
            if cluster.is_rotten(id) {
                books.rotten.insert(id);
                continue;
            }
            match platter(&cluster.drive(id)) {
                Ok(book) => drop(books.sound.insert(id, book)),
                Err(error) => {
                    panic!("invariant 11: after a power cut member {id:x} would not start: {error}")
                }
            }
        }
        books
    }
}

/// The log as it is on the platter; empty on a computer that was never started.
fn platter(drive: &Drive) -> Result<Logbook, StartError> {
    let dir = Path::new(DATA_DIR);
    let image = Arc::new(drive.image(&dir.join(LOG_DIR)));
    let disk = image.mount();
    if !disk.exists(&dir.join(LOG_DIR)) {
        return Ok(Logbook::default());
    }
    let runtime = Runtime {
        clock: Arc::new(NoTime),
        disk,
        random: Arc::new(Chance::still()),
        tasks: Arc::new(NoTasks),
    };
    Logbook::read(&runtime, dir)
}

/// A vote is about to leave a member: it must be on the platter, or a crash could make the member vote again.
pub(super) fn check_ballot(drive: &Drive, id: u64, ballot: Ballot) {
    // A disk that is damaged may not open, and then its member does not either.
    if let Ok(book) = platter(drive) {
        let reaches = |durable: Ballot| {
            durable.term > ballot.term
                || durable.term == ballot.term && durable.candidate == ballot.candidate
        };
        assert!(
            book.ballot.is_some_and(reaches),
            "invariant 2: {ballot:?} of member {id:x} is not durable, but {:?}",
            book.ballot
        );
    }
}

/// The engine has made an entry durable: the log beside it must have it too, or it would go on behind a hole after a crash.
pub(super) fn check_engine(drive: &Drive, id: u64, last: Position) {
    // What is all on the platter needs no reading.
    if drive.is_clean(&Path::new(DATA_DIR).join(LOG_DIR)) {
        return;
    }
    // A disk that is damaged may not open, and then its member does not either.
    if let Ok(book) = platter(drive) {
        assert!(
            book.holds(last),
            "invariant 11: the engine of member {id:x} has {last:?}, and its log ends at {:?}",
            book.last()
        );
    }
}

/// Reading a log takes no time …
struct NoTime;

impl Clock for NoTime {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn unix_secs(&self) -> u64 {
        0
    }

    fn sleep(&self, _duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(future::pending())
    }
}

/// … and nothing is written, so what would write does not run.
struct NoTasks;

impl Tasks for NoTasks {
    fn spawn(&self, _name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        Task::wrap(future).0
    }

    fn spawn_thread(&self, _name: &'static str, future: BoxFuture<'static, ()>) {
        drop(future);
    }

    fn blocking(
        &self,
        _name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        work();
        Box::pin(future::ready(()))
    }
}

impl Disks {
    /// Every disk against every other, and against itself before.
    pub(super) fn look(&mut self, cluster: &Cluster, entries: &Entries) {
        let running = cluster.running().into_iter();
        let applied: Vec<_> = running
            .filter_map(|process| Some((process.id, process.node.reader().applied()?)))
            .collect();
        // Who voted then may be removed by now, and its disk still counts.
        let voted = applied
            .iter()
            .flat_map(|(_, at)| entries.voters_at(at.index));
        let ids: BTreeSet<_> = cluster.ids().into_iter().chain(voted).collect();
        let books = Books::read(cluster, ids);
        for (id, book) in &books.sound {
            self.match_entries(*id, book, entries);
            self.keep(cluster, *id, book);
        }
        for (id, applied) in applied {
            check_durable(&books, entries, id, applied);
        }
    }

    fn match_entries(&mut self, id: u64, book: &Logbook, committed: &Entries) {
        let mut before = book.purged;
        for LoggedEntry {
            position, commands, ..
        } in &book.entries
        {
            let seen = (checksum(commands), before.map(|before| before.term));
            let known = *self.entries.entry(*position).or_insert(seen);
            assert!(
                known == seen,
                "invariant 3: {position:?} on member {id:x} is {seen:?} and elsewhere {known:?}"
            );
            assert!(
                !committed.contradicts(*position, commands),
                "invariant 7: {position:?} on member {id:x} is not what was applied"
            );
            before = Some(*position);
        }
    }

    fn keep(&mut self, cluster: &Cluster, id: u64, book: &Logbook) {
        let before = self.durable.get(&id).copied().unwrap_or_default();
        let engine = self.engines.get(&id).copied();
        assert!(
            cluster.process(id).is_none() || book.purged <= engine,
            "invariant 9: the log of member {id:x} is purged to {:?}, and its engine has {engine:?}",
            book.purged
        );
        let term = |ballot: Option<Ballot>| ballot.map(|ballot| ballot.term);
        assert!(
            term(book.ballot) >= term(before.ballot),
            "invariant 8: the vote of member {id:x} goes back from {:?} to {:?}",
            before.ballot,
            book.ballot
        );
        assert!(
            book.purged >= before.purged,
            "invariant 8: the purged index of member {id:x} goes back"
        );
        let leads = cluster.process(id).and_then(|process| process.led_term());
        if let Some((term, last)) = before.led
            && leads == Some(term)
        {
            assert!(
                book.holds(last),
                "invariant 4: member {id:x} leads {term} and has lost {last:?}"
            );
        }
        let led = leads.and_then(|term| Some((term, book.last()?)));
        let now = Durable {
            ballot: book.ballot,
            purged: book.purged,
            led,
        };
        self.durable.insert(id, now);
    }

    /// The engine of a member has brought this to the platter.
    pub(super) fn committed(&mut self, id: u64, last: Position) {
        let engine = self.engines.entry(id).or_insert(last);
        *engine = last.max(*engine);
    }

    /// A member has found this in its engine.
    pub(super) fn started(&mut self, id: u64, applied: Position) {
        self.committed(id, applied);
    }

    /// What one member has applied, and so may have answered.
    pub(super) fn answered(&self, cluster: &Cluster, entries: &Entries, id: u64) {
        let Some(applied) = cluster
            .process(id)
            .and_then(|process| process.node.reader().applied())
        else {
            return;
        };
        let voters = entries.voters_from(applied.index).flatten();
        let ids: BTreeSet<_> = voters.chain(cluster.ids()).collect();
        let books = Books::read(cluster, ids);
        check_durable(&books, entries, id, applied);
    }

    /// A member was elected: its log was durable before its vote.
    pub(super) fn elected(&self, cluster: &Cluster, entries: &Entries, term: u64, leader: u64) {
        let Some(committed) = entries.last_before(term) else {
            return;
        };
        let books = Books::read(cluster, [leader]);
        let Some(book) = books.sound.get(&leader) else {
            return;
        };
        let overtaken = book.ballot.is_none_or(|ballot| ballot.term != term);
        assert!(
            overtaken || book.holds(committed),
            "invariant 5: member {leader:x} leads {term} without {committed:?}"
        );
    }
}

/// Whether a quorum would have an entry again after all power was lost: of the voters at that entry or of any later ones, since a
/// configuration counts as soon as it is in the leader's log, and commits what lies before it too.
fn check_durable(books: &Books, entries: &Entries, applied_by: u64, applied: Position) {
    let holds = books.sound.iter().filter(|(_, book)| book.holds(applied));
    let holds = holds.map(|(id, _)| *id);
    let durable: BTreeSet<_> = holds.chain(books.rotten.iter().copied()).collect();
    let logged = books.sound.values().flat_map(|book| &book.entries);
    let later = logged.filter(|entry| entry.position > applied);
    let later = later.filter_map(|entry| entry.voters.clone());
    let voters: Vec<_> = entries.voters_from(applied.index).chain(later).collect();
    let last = |(id, book): (&u64, &Logbook)| format!("{id:x}: {:?}", book.last());
    assert!(
        voters.iter().any(|voters| is_quorum(&durable, voters)),
        "invariant 6: {applied:?}, applied by member {applied_by:x}, is durable on {durable:?} of {voters:?}; logs end at {:?}",
        books.sound.iter().map(last).collect::<Vec<_>>()
    );
}
