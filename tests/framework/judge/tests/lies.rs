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

/// Tells one lie, at the first occasion.
pub(super) struct Liar {
    lie: Option<Lie>,
    pub(super) told: bool,
}

impl Liar {
    pub(super) fn honest() -> Self {
        Self {
            lie: None,
            told: false,
        }
    }

    pub(super) fn of(lie: Lie) -> Self {
        Self {
            lie: Some(lie),
            told: false,
        }
    }

    /// Whether to lie here and now.
    pub(super) fn tells(&mut self, lie: Lie) -> bool {
        if self.lie != Some(lie) || self.told {
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
