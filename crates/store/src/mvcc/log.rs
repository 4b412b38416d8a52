//! An append-only list that its one writer extends while others read it.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

/// Slots of the first block; each next one has twice as many.
const FIRST_SLOTS: usize = 64;

/// Blocks; together they hold more than memory does.
const BLOCKS: usize = 32;

type Block<T> = Box<[OnceLock<T>]>;

/// Readers need no lock: a slot is filled once and counted afterwards.
pub(crate) struct Log<T> {
    blocks: [OnceLock<Block<T>>; BLOCKS],
    len: AtomicUsize,
}

impl<T> Log<T> {
    pub(crate) fn new() -> Self {
        Self {
            blocks: [const { OnceLock::new() }; BLOCKS],
            len: AtomicUsize::new(0),
        }
    }

    /// Appends. Only one thread may do it at a time; a value that came second would be dropped.
    pub(crate) fn push(&self, value: T) {
        let index = self.len.load(Ordering::Relaxed);
        let (block, slot) = place(index);
        let slots = self.blocks[block].get_or_init(|| {
            std::iter::repeat_with(OnceLock::new)
                .take(FIRST_SLOTS << block)
                .collect()
        });
        if slots[slot].set(value).is_ok() {
            self.len.store(index + 1, Ordering::Release);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (block, slot) = place(index);
        self.blocks.get(block)?.get()?.get(slot)?.get()
    }

    /// The first place whose value does not satisfy `before`; the values are ordered by it.
    pub(crate) fn partition_point(&self, before: impl Fn(&T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle) {
                Some(value) if before(value) => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

/// Block and slot of an index.
fn place(index: usize) -> (usize, usize) {
    let block = (index / FIRST_SLOTS + 1).ilog2() as usize;
    (block, index - FIRST_SLOTS * ((1 << block) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_over_blocks() {
        let log = Log::new();
        for i in 0..1000 {
            assert_eq!(log.get(i), None);
            log.push(i);
        }
        assert_eq!(log.len(), 1000);
        assert!((0..1000).all(|i| log.get(i) == Some(&i)));
        assert_eq!(log.partition_point(|value| *value < 777), 777);
        assert_eq!(log.partition_point(|_| true), 1000);
    }
}
