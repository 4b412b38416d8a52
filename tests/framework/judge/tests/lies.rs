//! Lies that a store may tell once in a run.

/// A lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    AnsweredAndLost,
    AppliedTwice,
    UnknownAppliedTwice,
    RefusedAndApplied,
    HalfApplied,
    WrongBranch,
    CompareSeesWrites,
    WrongOrder,
    RevisionSkipped,
    VersionGoesOn,
    CreateRevisionMoves,
    StaleRead,
    ReadOfLost,
    AppliedBeforeCall,
    WrittenByNobody,
    DeletedByNobody,
    SerializableGoesBack,
    SerializableMixed,
    PastReadShowsPresent,
    CompactedRead,
    FutureRead,
    SaidCompacted,
    SaidFuture,
    LeaseEndsEarly,
    LeaseNeverEnds,
    SomeKeysOfLease,
    RenewedAfterEnd,
    RenewalDenied,
    AttachedAfterEnd,
}

/// Tells one lie, at the n-th occasion.
pub(super) struct Liar {
    lie: Option<Lie>,
    /// Occasions still to pass.
    after: u32,
    pub(super) told: bool,
}

impl Liar {
    pub(super) fn honest() -> Self {
        Self {
            lie: None,
            after: 0,
            told: false,
        }
    }

    pub(super) fn of(lie: Lie, after: u32) -> Self {
        Self {
            lie: Some(lie),
            after,
            told: false,
        }
    }

    /// Whether to lie here and now.
    pub(super) fn tells(&mut self, lie: Lie) -> bool {
        if self.lie != Some(lie) || self.told {
            return false;
        }
        if self.after > 0 {
            self.after -= 1;
            return false;
        }
        self.told = true;
        true
    }

    /// Whether this is the lie, told or not; for those that last.
    pub(super) fn keeps(&mut self, lie: Lie) -> bool {
        let keeps = self.lie == Some(lie);
        self.told |= keeps;
        keeps
    }
}
