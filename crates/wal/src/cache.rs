//! The newest entries, in memory.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::index::Gather;

/// What an entry costs beside its content, so that many small ones are bounded too.
const ENTRY_OVERHEAD_BYTES: usize = 64;

#[derive(Debug)]
struct Cached {
    data: Bytes,
    /// The append that brought it: it may leave once that is written.
    append: u64,
}

/// The newest entries: all that are not yet written, and as many more as fit.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Index of the front entry, or of the next one to come.
    first: u64,
    entries: VecDeque<Cached>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// An empty cache in front of which lie `next - 1` and below.
    pub(crate) fn new(next: u64, bytes_max: usize) -> Self {
        Self {
            first: next,
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Where the cache begins: all live entries from here on are in it.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, index: u64, data: Bytes, append: u64) {
        if self.entries.is_empty() {
            self.first = index;
        }
        self.bytes += cost(&data);
        self.entries.push_back(Cached { data, append });
    }

    /// Drops the entries above `keep_to`.
    pub(crate) fn truncate(&mut self, keep_to: Option<u64>) {
        let keep_next = keep_to.map_or(0, |index| index.saturating_add(1));
        while self.first + self.entries.len() as u64 > keep_next
            && let Some(cached) = self.entries.pop_back()
        {
            self.bytes -= cost(&cached.data);
        }
        if self.entries.is_empty() {
            self.first = self.first.min(keep_next);
        }
    }

    /// Drops the entries up to `upto`.
    pub(crate) fn purge(&mut self, upto: u64) {
        while self.first <= upto && self.pop_front() {}
    }

    /// Drops entries of appends up to `written`, oldest first, until the rest fits.
    pub(crate) fn evict(&mut self, written: u64) {
        while self.bytes > self.bytes_max
            && self
                .entries
                .front()
                .is_some_and(|cached| cached.append <= written)
        {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) -> bool {
        let Some(cached) = self.entries.pop_front() else {
            return false;
        };
        self.first += 1;
        self.bytes -= cost(&cached.data);
        true
    }

    /// Offers the entries from `from` on to `gather`.
    pub(crate) fn read(&self, from: u64, gather: &mut Gather) {
        let skip = from.saturating_sub(self.first) as usize;
        for (at, cached) in self.entries.iter().enumerate().skip(skip) {
            if !gather.offer(self.first + at as u64, &cached.data) {
                return;
            }
        }
    }
}

fn cost(data: &Bytes) -> usize {
    data.len() + ENTRY_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: std::ops::Range<u64>) -> Cache {
        let mut cache = Cache::new(entries.start, 0);
        for index in entries {
            cache.push(index, Bytes::from(index.to_string()), index);
        }
        cache
    }

    fn indexes(cache: &Cache, from: u64, to: u64, bytes_max: usize) -> Vec<u64> {
        let mut gather = Gather::new(from, to, bytes_max);
        cache.read(from, &mut gather);
        let out = gather.into_entries();
        for (index, data) in &out {
            assert_eq!(*data, index.to_string());
        }
        out.into_iter().map(|(index, _)| index).collect()
    }

    #[test]
    fn reads_are_bounded_in_bytes_but_give_one() {
        let cache = cache(3..9);
        assert_eq!(indexes(&cache, 4, 7, 100), [4, 5, 6]);
        assert_eq!(indexes(&cache, 4, 7, 2), [4, 5]);
        assert_eq!(indexes(&cache, 4, 7, 0), [4]);
        assert_eq!(indexes(&cache, 9, 12, 100), Vec::<u64>::new());
    }

    #[test]
    fn only_written_entries_leave() {
        let mut cache = cache(3..9);
        cache.evict(5);
        assert_eq!(cache.first(), 6);
        assert_eq!(indexes(&cache, 6, 99, 100), [6, 7, 8]);
    }

    #[test]
    fn truncation_below_the_front_moves_it() {
        let mut cache = cache(3..9);
        cache.truncate(Some(5));
        assert_eq!(indexes(&cache, 3, 99, 100), [3, 4, 5]);
        cache.truncate(Some(1));
        assert_eq!((cache.first(), cache.bytes), (2, 0));
        cache.truncate(None);
        assert_eq!(cache.first(), 0);
    }

    #[test]
    fn purge_drops_the_front() {
        let mut cache = cache(3..9);
        cache.purge(5);
        assert_eq!(indexes(&cache, 6, 99, 100), [6, 7, 8]);
        cache.purge(100);
        assert_eq!(cache.bytes, 0);
    }
}
