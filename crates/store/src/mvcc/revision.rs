//! Revisions and the keys of records.

use bytes::Bytes;

/// Length of a record's key; a tombstone's has one byte more.
const KEY_BYTES: usize = 17;

/// When a change was made: `main` counts the commands that changed something, `sub` the changes of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Revision {
    pub(crate) main: i64,
    pub(crate) sub: i64,
}

/// The key of a record, without allocation.
pub(crate) struct RecordKey {
    raw: [u8; KEY_BYTES + 1],
    len: usize,
}

impl Revision {
    /// The first possible revision of `main`.
    pub(crate) fn first(main: i64) -> Self {
        Self { main, sub: 0 }
    }

    /// The key of the record: `main`, `_`, `sub`, big endian, and `t` behind it for a tombstone.
    pub(crate) fn key(self, tombstone: bool) -> RecordKey {
        let mut raw = [0; KEY_BYTES + 1];
        raw[..8].copy_from_slice(&self.main.to_be_bytes());
        raw[8] = b'_';
        raw[9..KEY_BYTES].copy_from_slice(&self.sub.to_be_bytes());
        raw[KEY_BYTES] = b't';
        RecordKey {
            raw,
            len: KEY_BYTES + usize::from(tombstone),
        }
    }

    /// Reads a record's key: the revision, and whether the record is a tombstone.
    pub(crate) fn parse(key: &[u8]) -> Option<(Self, bool)> {
        let tombstone = match key.len() {
            KEY_BYTES => false,
            18 if key[KEY_BYTES] == b't' => true,
            _ => return None,
        };
        let number = |at: usize| Some(i64::from_be_bytes(key[at..at + 8].try_into().ok()?));
        let revision = Self {
            main: number(0)?,
            sub: number(9)?,
        };
        (key[8] == b'_').then_some((revision, tombstone))
    }
}

impl RecordKey {
    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl std::ops::Deref for RecordKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.raw[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_records_are_those_of_etcd() {
        let revision = Revision { main: 2, sub: 1 };
        assert_eq!(
            &revision.key(false)[..],
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01"
        );
        assert_eq!(
            &revision.key(true)[..],
            b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\x01t"
        );
        for tombstone in [false, true] {
            assert_eq!(
                Revision::parse(&revision.key(tombstone)),
                Some((revision, tombstone))
            );
        }
        assert_eq!(
            Revision::parse(b"\0\0\0\0\0\0\0\x02-\0\0\0\0\0\0\0\x01"),
            None
        );
        assert_eq!(Revision::parse(b"short"), None);
    }
}
