//! Where a client stands among the events of an application, as the ids of events say it.

use std::{fmt, str::FromStr};

/// Of the events of a revision, so many were told, and all of those before it.
///
/// One transaction can change several documents, so a revision alone does not say where a client is that left among its events. The id
/// of an event is `7.2`, the second of revision 7; `7` is what is told of documents as they are at revision 7. The store gives the
/// events of a revision in the order of their writing to whoever asks, so counting them again comes to the same numbers. Releases of
/// etcd before 3.5.16 and 3.4.34 forget a deletion at the very revision that they compact to: who left among the events of just that
/// one can miss as many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    revision: i64,
    told: u64,
}

impl Place {
    /// Before all: documents are told as they are.
    pub(super) const START: Self = Self {
        revision: 0,
        told: 0,
    };

    /// All of a revision was told.
    pub(super) fn after(revision: i64) -> Self {
        Self {
            revision: revision.saturating_add(1),
            told: 0,
        }
    }

    /// The place that an id names; none if it is not of that form.
    pub(super) fn of_id(id: &str) -> Option<Self> {
        match id.split_once('.') {
            Some((revision, told)) => Some(Self {
                revision: digits(revision)?,
                told: digits(told)?,
            }),
            None => digits(id).map(Self::after),
        }
    }

    /// The revision from which on there is something to be told, or that has to be counted again; 0 if all is to be told first.
    pub(super) fn revision(self) -> i64 {
        self.revision
    }

    /// Where a watch from that revision begins.
    pub(super) fn of_watch(self) -> Self {
        Self { told: 0, ..self }
    }

    /// The place once one more event came, of this revision.
    pub(super) fn next(self, revision: i64) -> Self {
        let told = if revision == self.revision {
            self.told
        } else {
            0
        };
        Self {
            revision,
            told: told + 1,
        }
    }
}

/// The id of the event that was told last.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.revision, self.told)
    }
}

/// A number of digits and nothing else: Rust would take a sign too.
fn digits<N: FromStr>(text: &str) -> Option<N> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(revision: i64, told: u64) -> Place {
        Place { revision, told }
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        assert_eq!(Place::of_id("7"), Some(place(8, 0)));
        assert_eq!(Place::of_id("7.2"), Some(place(7, 2)));
        assert_eq!(Place::of_id(&place(7, 2).to_string()), Some(place(7, 2)));
        assert_eq!(Place::of_id("0.3").unwrap().revision(), 0);
    }

    #[test]
    fn the_greatest_ids_are_places() {
        let revision = i64::MAX;
        assert_eq!(
            Place::of_id(&revision.to_string()),
            Some(place(revision, 0))
        );
        let last = place(revision, u64::MAX);
        assert_eq!(Place::of_id(&last.to_string()), Some(last));
        assert!(last.of_watch().next(revision) < last);
    }

    #[test]
    fn what_is_no_id_is_no_place() {
        for id in [
            "",
            ".",
            "7.",
            ".2",
            "-1",
            "+7",
            "-1.2",
            "7.-2",
            "7.+2",
            "7.2.1",
            "7,2",
            " 7",
            "7x",
            "٧",
            "1e3",
            "9223372036854775808",
            "9223372036854775808.1",
            "7.18446744073709551616",
        ] {
            assert_eq!(Place::of_id(id), None, "{id:?}");
        }
    }

    #[test]
    fn a_watch_comes_to_where_a_client_was() {
        let told = |from: Place, revisions: &[i64]| {
            let mut reached = from.of_watch();
            let mut places = Vec::new();
            for revision in revisions {
                reached = reached.next(*revision);
                if reached > from {
                    places.push(reached.to_string());
                }
            }
            places
        };
        let revisions = [7, 7, 7, 9, 9];
        assert_eq!(
            told(Place::after(6), &revisions),
            ["7.1", "7.2", "7.3", "9.1", "9.2"]
        );
        assert_eq!(told(place(7, 1), &revisions), ["7.2", "7.3", "9.1", "9.2"]);
        assert_eq!(told(place(7, 3), &revisions), ["9.1", "9.2"]);
        // More than there were takes nothing away from the next revision.
        assert_eq!(told(place(7, u64::MAX), &revisions), ["9.1", "9.2"]);
        assert_eq!(told(Place::after(7), &[9]), ["9.1"]);
    }
}
