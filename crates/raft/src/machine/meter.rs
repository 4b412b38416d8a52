//! How much log there is behind and ahead of the last snapshot, counted in proposals and bytes.
//!
//! openraft counts entries, but an entry is a batch here: ten thousand of them may be ten thousand puts or five million.

use std::collections::VecDeque;

/// Proposals between two marks.
const MARK_PROPOSALS: u64 = 256;

/// Bytes between two marks.
const MARK_BYTES: u64 = 1 << 20;

/// How many times the bytes that it may hold otherwise the log holds for members that catch up.
const HELD_TIMES: u64 = 4;

/// Where the counts stood at an entry.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    index: u64,
    proposals: u64,
    bytes: u64,
}

/// Bounds of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogBounds {
    /// A snapshot is due after this many proposals.
    pub(crate) proposals_max: u64,
    /// A snapshot is due after this many bytes.
    pub(crate) bytes_max: u64,
    /// Proposals behind a snapshot that are kept, as long as they are fewer than `bytes_max`.
    pub(crate) proposals_keep: u64,
}

/// Counts what is applied.
#[derive(Debug)]
pub(crate) struct LogMeter {
    bounds: LogBounds,
    now: Mark,
    /// At the last snapshot.
    snapshot: Mark,
    /// Ascending; as many as the kept log needs.
    marks: VecDeque<Mark>,
}

impl LogMeter {
    /// For a log that already holds `entries` of unknown size.
    pub(crate) fn new(bounds: LogBounds, entries: u64) -> Self {
        let now = Mark {
            proposals: entries,
            ..Mark::default()
        };
        Self {
            bounds,
            now,
            snapshot: Mark::default(),
            marks: VecDeque::new(),
        }
    }

    /// An entry was applied; true if a snapshot is due.
    pub(crate) fn applied(&mut self, index: u64, proposals: usize, bytes: usize) -> bool {
        self.now.index = index;
        self.now.proposals += proposals.max(1) as u64;
        self.now.bytes += bytes as u64;
        let last = self.marks.back().copied().unwrap_or_default();
        if self.now.proposals - last.proposals >= MARK_PROPOSALS
            || self.now.bytes - last.bytes >= MARK_BYTES
        {
            self.marks.push_back(self.now);
        }
        self.is_due()
    }

    /// Whether a snapshot is due.
    pub(crate) fn is_due(&self) -> bool {
        self.now.proposals - self.snapshot.proposals >= self.bounds.proposals_max
            || self.now.bytes - self.snapshot.bytes >= self.bounds.bytes_max
    }

    /// A snapshot of all up to now was taken. Returns the index up to which the log may go; `needed` is told where the log would be cut,
    /// and says up to where nobody needs it, if somebody needs it.
    pub(crate) fn snapshot_taken(
        &mut self,
        needed: impl FnOnce(u64) -> Option<u64>,
    ) -> Option<u64> {
        self.snapshot = self.now;
        let proposals = self
            .now
            .proposals
            .saturating_sub(self.bounds.proposals_keep);
        let bytes = self.now.bytes.saturating_sub(self.bounds.bytes_max);
        let goes = |mark: &&Mark| mark.proposals <= proposals || mark.bytes <= bytes;
        let held_bytes = HELD_TIMES.saturating_mul(self.bounds.bytes_max);
        let too_long = self.now.bytes.saturating_sub(held_bytes);
        let cut = self.marks.iter().take_while(goes).last()?.index;
        let cut = needed(cut).map_or(cut, |needed| needed.min(cut));
        let mut upto = None;
        while let Some(mark) = self.marks.front().filter(goes)
            && (mark.index <= cut || mark.bytes <= too_long)
        {
            upto = Some(mark.index);
            self.marks.pop_front();
        }
        upto
    }

    /// A received snapshot replaced everything.
    pub(crate) fn installed(&mut self, index: u64) {
        self.now.index = index;
        self.snapshot = self.now;
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: LogBounds = LogBounds {
        proposals_max: 10_000,
        bytes_max: 64 << 20,
        proposals_keep: 5_000,
    };

    #[test]
    fn proposals_count_and_not_entries() {
        let mut meter = LogMeter::new(BOUNDS, 0);
        let due = (0..20).position(|index| meter.applied(index, 512, 1000));
        assert_eq!(due, Some(19));
    }

    #[test]
    fn bytes_count_too() {
        let mut meter = LogMeter::new(BOUNDS, 0);
        let due = (0..1000).position(|index| meter.applied(index, 1, 1 << 20));
        assert_eq!(due, Some(63));
    }

    #[test]
    fn last_proposals_are_kept_and_the_rest_goes() {
        let mut meter = LogMeter::new(BOUNDS, 0);
        for index in 0..10_000 {
            meter.applied(index, 1, 100);
        }
        let upto = meter.snapshot_taken(|_| None).unwrap();
        assert!((4_700..5_000).contains(&upto), "{upto}");
        assert!(!meter.applied(10_000, 1, 100));
    }

    #[test]
    fn large_entries_are_kept_up_to_the_byte_bound() {
        let mut meter = LogMeter::new(BOUNDS, 0);
        for index in 0..100 {
            meter.applied(index, 1, 1 << 20);
        }
        assert_eq!(meter.snapshot_taken(|_| None), Some(35));
    }

    #[test]
    fn what_somebody_needs_is_held_up_to_a_bound() {
        let mut meter = LogMeter::new(BOUNDS, 0);
        for index in 0..200 {
            meter.applied(index, 1, 1 << 20);
        }
        let told = std::cell::Cell::new(0);
        let needs = |needed| {
            let told = &told;
            move |upto| {
                told.set(upto);
                Some(needed)
            }
        };
        assert_eq!(meter.snapshot_taken(needs(20)), Some(20));
        assert_eq!(told.get(), 135);
        assert_eq!(meter.snapshot_taken(needs(20)), None);
        for index in 200..300 {
            meter.applied(index, 1, 1 << 20);
        }
        assert_eq!(
            meter.snapshot_taken(needs(20)),
            Some(43),
            "256 MiB are held"
        );
        assert_eq!(meter.snapshot_taken(|_| None), Some(235));
    }

    #[test]
    fn entries_found_at_start_count() {
        let mut meter = LogMeter::new(BOUNDS, 9_999);
        assert!(meter.applied(9_999, 1, 1));
    }
}
