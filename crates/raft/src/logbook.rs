//! What the log of a member says, read from its files: for who wants to know what a disk would give back.

use std::{collections::BTreeSet, path::Path};

use bytes::Bytes;
use catena_runtime::Runtime;
use catena_store::Position;
use catena_wal::Wal;

use crate::{
    Ballot, StartError,
    identity::Layout,
    machine::position,
    types::{LogId, Vote},
    wire,
};

/// A log.
#[derive(Clone, Debug, Default)]
pub struct Logbook {
    /// The last vote given.
    pub ballot: Option<Ballot>,
    /// The last entry that was dropped behind a snapshot.
    pub purged: Option<Position>,
    /// The entries, in order, without holes.
    pub entries: Vec<LoggedEntry>,
}

/// An entry of a log.
#[derive(Clone, Debug)]
pub struct LoggedEntry {
    /// Its place.
    pub position: Position,
    /// Its commands, encoded.
    pub commands: Bytes,
    /// Who votes from this entry on, if it changes that.
    pub voters: Option<BTreeSet<u64>>,
}

impl Logbook {
    /// Reads the log of the member whose files lie in `data_dir`. It is opened as the member would open it, which repairs what a
    /// crash left and takes the lock: so not while the member runs, but from a copy. Blocks in disk calls.
    pub fn read(runtime: &Runtime, data_dir: &Path) -> Result<Self, StartError> {
        let dir = Layout::new(data_dir).wal();
        let (wal, recovered) = Wal::open(runtime, &dir, catena_wal::Options::default())?;
        let mut book = Self {
            ballot: recovered.vote.as_deref().map(ballot).transpose()?,
            purged: recovered.purge.map(|(_, mark)| purged(&mark)).transpose()?,
            entries: Vec::new(),
        };
        let end = recovered.last.map_or(0, |last| last + 1);
        let mut next = recovered.first.unwrap_or(end);
        while next < end {
            for (index, data) in wal.read(next, end, usize::MAX)? {
                book.entries.push(logged(index, data)?);
                next = index + 1;
            }
        }
        Ok(book)
    }

    /// Whether the entry is there, or was dropped behind a snapshot.
    pub fn holds(&self, position: Position) -> bool {
        if self
            .purged
            .is_some_and(|purged| purged.index >= position.index)
        {
            return true;
        }
        let first = self.entries.first().map_or(0, |entry| entry.position.index);
        let place = position.index.checked_sub(first);
        let entry = place.and_then(|place| self.entries.get(place as usize));
        entry.is_some_and(|entry| entry.position == position)
    }

    /// The last entry, which may be a dropped one.
    pub fn last(&self) -> Option<Position> {
        let last = self.entries.last().map(|entry| entry.position);
        last.or(self.purged)
    }
}

impl Ballot {
    pub(crate) fn of(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            candidate: vote.leader_id.voted_for,
            elected: vote.committed,
        }
    }
}

fn malformed(error: wire::BadBytes) -> StartError {
    StartError::Raft(format!("log: a record {error}"))
}

fn ballot(vote: &[u8]) -> Result<Ballot, StartError> {
    let vote = wire::decode(vote).map_err(malformed)?;
    Ok(Ballot::of(&vote))
}

fn purged(mark: &[u8]) -> Result<Position, StartError> {
    let log_id: LogId = wire::decode(mark).map_err(malformed)?;
    Ok(position(&log_id))
}

fn logged(index: u64, data: Bytes) -> Result<LoggedEntry, StartError> {
    let entry = wire::decode_entry(index, data).map_err(malformed)?;
    let membership = entry.payload.membership.as_deref();
    Ok(LoggedEntry {
        position: position(&entry.log_id),
        voters: membership.map(|membership| membership.voter_ids().collect()),
        commands: entry.payload.commands.0,
    })
}
