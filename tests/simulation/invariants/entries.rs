//! Entries that were applied somewhere, and so are committed for ever.

use std::collections::{BTreeMap, BTreeSet};

use catena_raft::AppliedEntry;
use catena_store::Position;

/// What is known of a committed entry.
struct Committed {
    term: u64,
    checksum: u32,
    /// The revision after it.
    revision: i64,
}

/// By index.
#[derive(Default)]
pub(super) struct Entries {
    committed: BTreeMap<u64, Committed>,
    /// Who votes, from which index on.
    configurations: BTreeMap<u64, BTreeSet<u64>>,
}

impl Entries {
    /// The configuration that all founders begin with.
    pub(super) fn found(&mut self, founders: BTreeSet<u64>) {
        self.configurations.insert(0, founders);
    }

    /// An entry was applied.
    pub(super) fn applied(&mut self, member: u64, entry: &AppliedEntry<'_>) {
        let Position { term, index } = entry.position;
        let new = Committed {
            term,
            checksum: checksum(entry.commands),
            revision: entry.revision,
        };
        match self.committed.get(&index) {
            Some(known) => {
                assert!(
                    known.term == new.term && known.checksum == new.checksum,
                    "invariant 7: member {member:x} applies another entry at {index}, of term {term} instead of {}",
                    known.term
                );
                assert_eq!(
                    known.revision, new.revision,
                    "invariant 14: revision after entry {index} on member {member:x}"
                );
            }
            None => {
                self.check_revision(member, index, new.revision);
                self.committed.insert(index, new);
            }
        }
        if let Some(voters) = &entry.voters {
            self.configure(index, voters);
        }
    }

    fn check_revision(&self, member: u64, index: u64, revision: i64) {
        let before = self.committed.range(..index).next_back();
        let after = self.committed.range(index..).next();
        let rises = before.is_none_or(|(_, before)| before.revision <= revision)
            && after.is_none_or(|(_, after)| revision <= after.revision);
        assert!(
            rises,
            "invariant 14: revision {revision} after entry {index} on member {member:x}"
        );
    }

    fn configure(&mut self, index: u64, voters: &BTreeSet<u64>) {
        if let Some(known) = self.configurations.get(&index) {
            assert_eq!(known, voters, "invariant 7: voters from entry {index} on");
            return;
        }
        let before = self.voters_at(index);
        let moved = before.symmetric_difference(voters).count();
        assert!(
            moved <= 1,
            "invariant 19: entry {index} moves from {before:?} to {voters:?}"
        );
        self.configurations.insert(index, voters.clone());
    }

    /// A snapshot took the place of all entries up to `position`.
    pub(super) fn installed(&self, member: u64, position: Position, revision: i64) {
        // The sender has applied it, so it is known.
        let known = self.committed.get(&position.index);
        let known = known.map(|known| (known.term, known.revision));
        assert_eq!(
            known,
            Some((position.term, revision)),
            "invariant 7: member {member:x} installs a snapshot of {position:?}"
        );
    }

    /// Who votes on the entry at `index`.
    pub(super) fn voters_at(&self, index: u64) -> BTreeSet<u64> {
        let configuration = self.configurations.range(..=index).next_back();
        configuration
            .map(|(_, voters)| voters.clone())
            .unwrap_or_default()
    }

    /// Who votes on the entry at `index`, and each who came after.
    pub(super) fn voters_from(&self, index: u64) -> impl Iterator<Item = BTreeSet<u64>> {
        let at = self.voters_at(index);
        let later = self.configurations.range(index.saturating_add(1)..);
        std::iter::once(at).chain(later.map(|(_, voters)| voters.clone()))
    }

    /// Who votes now, as far as anybody has applied it.
    pub(super) fn voters(&self) -> BTreeSet<u64> {
        self.voters_at(u64::MAX)
    }

    /// The last entry that was applied anywhere in a term below `term`.
    pub(super) fn last_before(&self, term: u64) -> Option<Position> {
        let mut entries = self.committed.iter().rev();
        let (index, known) = entries.find(|(_, known)| known.term < term)?;
        Some(Position {
            term: known.term,
            index: *index,
        })
    }

    /// Whether an entry of a log contradicts what was applied.
    pub(super) fn contradicts(&self, position: Position, commands: &[u8]) -> bool {
        self.committed.get(&position.index).is_some_and(|known| {
            known.term == position.term && known.checksum != checksum(commands)
        })
    }
}

pub(super) fn checksum(commands: &[u8]) -> u32 {
    crc32c::crc32c(commands)
}
