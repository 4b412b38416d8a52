//! Intervals of keys, as every request gives them: a key and a range end.

use std::ops::Bound;

use bytes::Bytes;

/// A set of neighbouring keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Interval {
    pub(crate) start: Bytes,
    pub(crate) end: End,
}

/// Where an interval ends. The order is that of the ends of intervals with one start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum End {
    /// Only the start itself: no range end was given.
    Single,
    /// Before this key.
    Before(Bytes),
    /// Nowhere: the range end was one zero byte.
    Open,
}

impl Interval {
    pub(crate) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match &range_end[..] {
            [] => End::Single,
            [0] => End::Open,
            _ => End::Before(range_end.clone()),
        };
        Self {
            start: key.clone(),
            end,
        }
    }

    /// Whether no key can lie in it.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Before(end) => self.start <= key && key < &end[..],
            End::Open => self.start <= key,
        }
    }

    /// Bounds for an ordered map. Not to be used if the interval is empty.
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::Single => Bound::Included(&self.start[..]),
            End::Before(end) => Bound::Excluded(&end[..]),
            End::Open => Bound::Unbounded,
        };
        (Bound::Included(&self.start[..]), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_ends() {
        let cases: [(&str, &str, &str, bool); 12] = [
            ("b", "", "b", true),
            ("b", "", "bb", false),
            ("b", "\0", "a", false),
            ("b", "\0", "b", true),
            ("b", "\0", "\u{7f}", true),
            ("b", "d", "b", true),
            ("b", "d", "cz", true),
            ("b", "d", "d", false),
            ("d", "b", "c", false),
            ("b", "b", "b", false),
            ("\0", "\0", "\0", true),
            ("\0", "\0", "x", true),
        ];
        for (start, end, key, inside) in cases {
            let interval = Interval::new(
                &start.as_bytes().to_vec().into(),
                &end.as_bytes().to_vec().into(),
            );
            assert_eq!(
                interval.contains(key.as_bytes()),
                inside,
                "{start:?} {end:?} {key:?}"
            );
        }
    }
}
