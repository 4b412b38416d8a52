//! What a prefix of the stream amounts to.

use bytes::Bytes;

use crate::{Error, Record};

/// The state that a prefix of the stream describes, but for the entries' contents. The same rules serve appending, writing and
/// recovery, so the three cannot disagree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// First and last entry.
    pub(crate) bounds: Option<(u64, u64)>,
    /// The last purged index and the caller's mark.
    pub(crate) purge: Option<(u64, Bytes)>,
    pub(crate) vote: Option<Bytes>,
    pub(crate) commit: Option<Bytes>,
}

impl View {
    /// Advances by one record. An error leaves the view as it was.
    pub(crate) fn apply(&mut self, record: &Record) -> Result<(), Error> {
        match record {
            Record::Entry { index, .. } => return self.entry(*index),
            Record::Truncate { keep_to } => self.truncate(*keep_to),
            Record::Purge { upto, mark } => self.purge(*upto, mark),
            Record::Vote(vote) => self.vote = Some(vote.clone()),
            Record::Commit(commit) => self.commit = Some(commit.clone()),
        }
        Ok(())
    }

    /// Advances by an entry.
    pub(crate) fn entry(&mut self, index: u64) -> Result<(), Error> {
        let invalid = |what| Err(Error::Invalid { what });
        if index == u64::MAX {
            return invalid(format!(
                "entry {index} cannot be followed, or read: ranges end before it"
            ));
        }
        if let Some((upto, _)) = &self.purge
            && index <= *upto
        {
            return invalid(format!("entry {index} is purged, up to {upto}"));
        }
        match &mut self.bounds {
            None => self.bounds = Some((index, index)),
            Some((_, last)) if last.checked_add(1) == Some(index) => *last = index,
            Some((_, last)) => return invalid(format!("entry {index} does not follow {last}")),
        }
        Ok(())
    }

    fn truncate(&mut self, keep_to: Option<u64>) {
        self.bounds = match (self.bounds, keep_to) {
            (Some((first, last)), Some(keep_to)) if keep_to >= first => {
                Some((first, last.min(keep_to)))
            }
            _ => None,
        };
    }

    fn purge(&mut self, upto: u64, mark: &Bytes) {
        if self
            .purge
            .as_ref()
            .is_some_and(|(before, _)| *before >= upto)
        {
            return;
        }
        self.purge = Some((upto, mark.clone()));
        self.bounds = match self.bounds {
            Some((first, last)) if last > upto => Some((first.max(upto + 1), last)),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64) -> Record {
        Record::Entry {
            index,
            data: Bytes::new(),
        }
    }

    fn purge(upto: u64) -> Record {
        Record::Purge {
            upto,
            mark: Bytes::new(),
        }
    }

    fn bounds(records: &[Record]) -> Option<(u64, u64)> {
        let mut view = View::default();
        for record in records {
            view.apply(record).unwrap();
        }
        view.bounds
    }

    #[test]
    fn bounds_follow_the_records() {
        let keep = |index| Record::Truncate {
            keep_to: Some(index),
        };
        let all = Record::Truncate { keep_to: None };
        assert_eq!(bounds(&[]), None);
        assert_eq!(bounds(&[entry(5), entry(6)]), Some((5, 6)));
        assert_eq!(bounds(&[entry(5), entry(6), keep(9)]), Some((5, 6)));
        assert_eq!(bounds(&[entry(5), entry(6), keep(5)]), Some((5, 5)));
        assert_eq!(bounds(&[entry(5), entry(6), keep(4)]), None);
        assert_eq!(bounds(&[entry(5), all, entry(1)]), Some((1, 1)));
        assert_eq!(bounds(&[entry(5), entry(6), purge(5)]), Some((6, 6)));
        assert_eq!(bounds(&[entry(5), purge(3)]), Some((5, 5)));
        assert_eq!(bounds(&[entry(5), purge(9)]), None);
        assert_eq!(bounds(&[purge(9), entry(10)]), Some((10, 10)));
    }

    #[test]
    fn the_purge_mark_never_goes_back() {
        let mut view = View::default();
        view.apply(&purge(9)).unwrap();
        view.apply(&purge(4)).unwrap();
        assert_eq!(view.purge, Some((9, Bytes::new())));
    }

    #[test]
    fn holes_and_purged_entries_are_refused() {
        let mut view = View::default();
        view.apply(&purge(9)).unwrap();
        assert!(view.apply(&entry(9)).is_err());
        view.apply(&entry(10)).unwrap();
        assert!(view.apply(&entry(12)).is_err());
        assert!(view.apply(&entry(10)).is_err());
        assert_eq!(view.bounds, Some((10, 10)));
    }

    #[test]
    fn entry_that_no_range_can_reach_is_refused() {
        let mut view = View::default();
        assert!(view.apply(&entry(u64::MAX)).is_err());
        view.apply(&entry(u64::MAX - 1)).unwrap();
        assert!(view.apply(&entry(u64::MAX)).is_err());
        assert_eq!(view.bounds, Some((u64::MAX - 1, u64::MAX - 1)));
    }
}
