//! One change of a key, and what follows from the one before it.

use super::revision::Revision;

/// One change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Revision of the change.
    pub(crate) main: i64,
    /// Revision that began the generation; 0 in a tombstone.
    pub(crate) create: i64,
    /// Number of writes in the generation, this one included; 0 in a tombstone.
    pub(crate) version: i64,
    /// Place of the change in its command.
    pub(crate) sub: u32,
}

impl Item {
    /// The write that begins a generation.
    pub(super) fn first(main: i64, sub: u32) -> Self {
        Self {
            main,
            create: main,
            version: 1,
            sub,
        }
    }

    /// The end of a generation.
    pub(super) fn tombstone(main: i64, sub: u32) -> Self {
        Self {
            main,
            create: 0,
            version: 0,
            sub,
        }
    }

    /// The write that comes after this change.
    pub(super) fn put(&self, main: i64, sub: u32) -> Self {
        if self.is_tombstone() {
            return Self::first(main, sub);
        }
        Self {
            main,
            create: self.create,
            version: self.version.saturating_add(1),
            sub,
        }
    }

    /// The change that comes after this one, if it is as a store writes it.
    pub(super) fn then(&self, main: i64, sub: u32, is_tombstone: bool) -> Self {
        if is_tombstone {
            Self::tombstone(main, sub)
        } else {
            self.put(main, sub)
        }
    }

    /// Whether a change comes after this one as a store writes it. An imported database may say otherwise.
    pub(super) fn leads_to(&self, next: &Self) -> bool {
        let is_later = (next.main, next.sub) > (self.main, self.sub);
        let is_real = next.main > 0;
        is_real && is_later && *next == self.then(next.main, next.sub, next.is_tombstone())
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision {
            main: self.main,
            sub: i64::from(self.sub),
        }
    }

    /// Whether it ends a generation.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}
