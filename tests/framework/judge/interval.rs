//! Intervals of keys as etcd writes them.

use std::ops::Bound;

use bytes::Bytes;

/// One key, `[key, end)`, or everything from a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    first: Bytes,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Single,
    Open,
    Before(Bytes),
}

impl Interval {
    /// From a key and a `range_end`.
    pub(crate) fn new(key: &Bytes, range_end: &Bytes) -> Self {
        let end = match &range_end[..] {
            b"" => End::Single,
            b"\0" => End::Open,
            _ => End::Before(range_end.clone()),
        };
        Self {
            first: key.clone(),
            end,
        }
    }

    /// The key, if it is the only one.
    pub(crate) fn single(&self) -> Option<&Bytes> {
        (self.end == End::Single).then_some(&self.first)
    }

    /// Whether a key lies in it.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => self.first == key,
            End::Open => self.first <= key,
            End::Before(end) => self.first <= key && key < end,
        }
    }

    /// Whether every key lies in it.
    pub(crate) fn all(&self) -> bool {
        self.end == End::Open && matches!(&self.first[..], b"" | b"\0")
    }

    /// Its bounds for an ordered map; empty intervals become an empty one that is in order.
    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = match &self.end {
            End::Single => Bound::Included(&self.first[..]),
            End::Open => Bound::Unbounded,
            End::Before(end) if *end <= self.first => Bound::Excluded(&self.first[..]),
            End::Before(end) => Bound::Excluded(&end[..]),
        };
        (Bound::Included(&self.first[..]), end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_mean_what_they_mean_in_etcd() {
        let interval = |key: &'static str, end: &'static str| {
            Interval::new(&Bytes::from(key), &Bytes::from(end))
        };
        assert!(interval("a", "").holds(b"a") && !interval("a", "").holds(b"aa"));
        assert!(interval("a", "\0").holds(b"z") && !interval("b", "\0").holds(b"a"));
        assert!(interval("a", "c").holds(b"b") && !interval("a", "c").holds(b"c"));
        assert!(interval("\0", "\0").all() && !interval("a", "\0").all());
        let map = std::collections::BTreeMap::from([(Bytes::from("a"), ())]);
        assert_eq!(map.range::<[u8], _>(interval("b", "a").bounds()).count(), 0);
    }
}
