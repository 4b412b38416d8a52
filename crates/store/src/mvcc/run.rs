//! Changes of one key that nobody adds to any more, packed.
//!
//! ```text
//!   starts of all blocks but the first, u64 each │ block │ block │ …
//!   block = main create version sub, then up to 31 changes as what they differ in from the one before; all as varints
//! ```

use std::{iter, sync::Arc};

use prost::encoding::{decode_varint, encode_varint};

use super::item::Item;

/// Changes in a block: what is decoded at most to find one.
const BLOCK: usize = 32;

/// A write in the first place of its command.
const PUT: u64 = 0;
/// A write; its place follows.
const PUT_AT: u64 = 1;
/// A tombstone; its place follows.
const TOMBSTONE: u64 = 2;
/// A change that does not follow from the one before it; all of it follows.
const WHOLE: u64 = 3;
/// Bits of these kinds, below the distance to the revision before.
const KIND_BITS: u32 = 2;
const KINDS: u64 = (1 << KIND_BITS) - 1;

#[derive(Debug)]
pub(super) struct Run {
    len: usize,
    bytes: Box<[u8]>,
    older: Option<Arc<Run>>,
}

/// What is left of a block.
struct Block<'a> {
    bytes: &'a [u8],
    last: Option<Item>,
    left: usize,
}

impl Run {
    /// Puts changes, ascending, before older runs, merged with those that are not longer.
    pub(super) fn push(mut older: Option<Arc<Self>>, mut items: Vec<Item>) -> Arc<Self> {
        while let Some(run) = older.as_ref().filter(|run| run.len <= items.len()) {
            items = run.items().chain(items).collect();
            older = run.older.clone();
        }
        Arc::new(Self {
            len: items.len(),
            bytes: pack(&items),
            older,
        })
    }

    /// The run of older changes, if there are any.
    pub(super) fn older(&self) -> Option<&Self> {
        self.older.as_deref()
    }

    /// Ascending.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        (0..self.blocks()).flat_map(|number| self.block(number))
    }

    /// The newest change that satisfies `is_early`, which holds for a change if it holds for a later one.
    pub(super) fn last(&self, is_early: impl Fn(&Item) -> bool) -> Option<Item> {
        let (mut early, mut late) = (0, self.blocks());
        while early < late {
            let middle = early.midpoint(late);
            if self
                .block(middle)
                .next()
                .is_some_and(|item| is_early(&item))
            {
                early = middle + 1;
            } else {
                late = middle;
            }
        }
        let block = early.checked_sub(1)?;
        self.block(block).take_while(is_early).last()
    }

    fn blocks(&self) -> usize {
        self.len.div_ceil(BLOCK)
    }

    fn block(&self, number: usize) -> Block<'_> {
        let starts = self.blocks().saturating_sub(1);
        let (starts, blocks) = self.bytes.split_at(starts * size_of::<u64>());
        let (starts, _none) = starts.as_chunks();
        let start = number.checked_sub(1).and_then(|before| starts.get(before));
        let start = start.map_or(0, |start| usize::from_le_bytes(*start));
        Block {
            bytes: &blocks[start..],
            last: None,
            left: (self.len - number * BLOCK).min(BLOCK),
        }
    }
}

impl Iterator for Block<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.left = self.left.checked_sub(1)?;
        let bytes = &mut self.bytes;
        let item = match self.last {
            None => whole(bytes)?,
            Some(last) => {
                let head = decode_varint(bytes).ok()?;
                let main = last.main + (head >> KIND_BITS).cast_signed();
                match head & KINDS {
                    PUT => last.put(main, 0),
                    PUT_AT => last.put(main, place(bytes)?),
                    TOMBSTONE => Item::tombstone(main, place(bytes)?),
                    _whole => whole(bytes)?,
                }
            }
        };
        self.last = Some(item);
        Some(item)
    }
}

fn pack(items: &[Item]) -> Box<[u8]> {
    let mut starts = Vec::new();
    let mut packed = Vec::new();
    for (number, block) in items.chunks(BLOCK).enumerate() {
        if number > 0 {
            starts.extend_from_slice(&packed.len().to_le_bytes());
        }
        let before = iter::once(None).chain(block.iter().map(Some));
        for (before, item) in before.zip(block) {
            pack_item(before, item, &mut packed);
        }
    }
    starts.extend_from_slice(&packed);
    starts.into()
}

fn pack_item(before: Option<&Item>, item: &Item, packed: &mut Vec<u8>) {
    let distance = before
        .filter(|before| before.leads_to(item))
        .map(|before| item.main.abs_diff(before.main))
        .filter(|distance| *distance <= u64::MAX >> KIND_BITS);
    let Some(distance) = distance else {
        if before.is_some() {
            encode_varint(WHOLE, packed);
        }
        for number in [item.main, item.create, item.version] {
            encode_varint(number.cast_unsigned(), packed);
        }
        encode_varint(item.sub.into(), packed);
        return;
    };
    let kind = match item {
        tombstone if tombstone.is_tombstone() => TOMBSTONE,
        Item { sub: 0, .. } => PUT,
        _later => PUT_AT,
    };
    encode_varint(distance << KIND_BITS | kind, packed);
    if kind != PUT {
        encode_varint(item.sub.into(), packed);
    }
}

fn whole(bytes: &mut &[u8]) -> Option<Item> {
    let mut number = || Some(decode_varint(bytes).ok()?.cast_signed());
    let (main, create, version) = (number()?, number()?, number()?);
    Some(Item {
        main,
        create,
        version,
        sub: place(bytes)?,
    })
}

fn place(bytes: &mut &[u8]) -> Option<u32> {
    decode_varint(bytes).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What stores write, and what only an imported database may hold.
    fn items() -> impl Strategy<Value = Vec<Item>> {
        let number = prop_oneof![1..4_i64, any::<i64>()];
        let any_item = (number.clone(), number.clone(), number, any::<u32>());
        let step = (
            0..300_i64,
            prop_oneof![4 => Just(0), 1 => any::<u32>()],
            0..8,
        );
        let change = prop_oneof![
            30 => step.prop_map(Ok),
            1 => any_item.prop_map(Err),
        ];
        prop::collection::vec(change, 0..200).prop_map(|changes| {
            let mut items: Vec<Item> = Vec::new();
            for change in changes {
                let last = items.last().copied();
                items.push(match (change, last) {
                    (Err((main, create, version, sub)), _) => Item {
                        main,
                        create,
                        version,
                        sub,
                    },
                    (Ok((step, sub, _)), None) => Item::first(step + 1, sub),
                    (Ok((step, sub, kind)), Some(last)) => {
                        last.then(last.main.saturating_add(step), sub, kind == 0)
                    }
                });
            }
            items
        })
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(items in items()) {
            let run = Run::push(None, items.clone());
            prop_assert_eq!(run.items().collect::<Vec<_>>(), items);
        }
    }

    #[test]
    fn the_newest_early_one_is_found() {
        for len in 1..100 {
            let items: Vec<Item> = (1..=len).map(|i| Item::first(2 * i, 0)).collect();
            let run = Run::push(None, items.clone());
            for main in 0..2 * len + 2 {
                let found = run.last(|item| item.main <= main);
                let expected = items.iter().rfind(|item| item.main <= main);
                assert_eq!(found.as_ref(), expected, "length {len}, revision {main}");
            }
        }
    }

    #[test]
    fn a_change_costs_few_bytes() {
        let mut items = vec![Item::first(5, 0)];
        for i in 1..1000 {
            items.push(items[i - 1].put(5 + 100_000 * i64::try_from(i).unwrap(), 0));
        }
        let run = Run::push(None, items);
        assert!(run.bytes.len() <= 4_000, "{}", run.bytes.len());
    }
}
