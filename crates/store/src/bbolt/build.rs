//! Building trees of pages from sorted elements, bottom up, as a stream.
//!
//! A page is finished when the next element does not fit; then it gets the next number, is handed out, and its parent learns its
//! first key and its number. So nothing is kept but one unfinished page per level, and numbers follow the order in the file:
//!
//! ```text
//!   level 1 (branch)            [ k0:2 k3:3 ........ ]          parents come after their children
//!   level 0 (leaf)      2:[k0 k1 k2]  3:[k3 k4]  4:[k5 ...
//! ```
//!
//! A branch page must have two children. So of each branch level the page before the last waits until the last one has enough, and
//! else gives it one or takes its only one in.

use bytes::Bytes;

use super::{
    PAGE_BYTES,
    page::{BRANCH, ELEMENT_BYTES, HEAD_BYTES, Head, LEAF},
};

/// Largest image of a bucket that stands in the root tree instead of on pages of its own, as in bbolt.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;

/// Takes finished pages: numbers them and, on the second pass, keeps their bytes until they are fetched.
#[derive(Debug)]
pub(super) struct Pages {
    next: u64,
    out: Option<Vec<u8>>,
}

impl Pages {
    /// That only counts.
    pub(super) fn counted() -> Self {
        Self { next: 2, out: None }
    }

    /// Whose bytes are wanted.
    pub(super) fn written() -> Self {
        Self {
            next: 2,
            out: Some(Vec::new()),
        }
    }

    /// Pages so far, with the two meta pages.
    pub(super) fn count(&self) -> u64 {
        self.next
    }

    /// The bytes of the pages since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.out.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn add(&mut self, bytes: usize, write: impl FnOnce(Place, &mut Vec<u8>)) -> u64 {
        let pages = bytes.div_ceil(PAGE_BYTES);
        let place = Place {
            id: self.next,
            overflow: pages as u32 - 1,
        };
        self.next += pages as u64;
        if let Some(out) = &mut self.out {
            let end = out.len() + pages * PAGE_BYTES;
            write(place, out);
            out.resize(end, 0);
        }
        place.id
    }
}

/// Where a page comes to lie.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    id: u64,
    overflow: u32,
}

/// A pair, or a bucket, of a leaf page.
#[derive(Debug)]
struct LeafElement {
    flags: u32,
    key: Bytes,
    value: Bytes,
}

/// The child with the first key of a branch page's element.
#[derive(Clone, Debug)]
struct Child {
    key: Bytes,
    id: u64,
}

/// Where a tree's root is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// A page.
    Page(u64),
    /// So small that it has none: the image of its only leaf page.
    Inline(Vec<u8>),
}

/// A tree that is being built.
#[derive(Debug)]
pub(super) struct Tree {
    leaf: Vec<LeafElement>,
    leaf_bytes: usize,
    levels: Vec<Level>,
}

/// The unfinished pages of a branch level.
#[derive(Debug, Default)]
struct Level {
    current: Vec<Child>,
    current_bytes: usize,
    /// Full, and waiting until the one after it has two children.
    before: Vec<Child>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            leaf: Vec::new(),
            leaf_bytes: HEAD_BYTES,
            levels: Vec::new(),
        }
    }

    /// Adds an element; its key is above all before it.
    pub(super) fn push(&mut self, flags: u32, key: Bytes, value: Bytes, pages: &mut Pages) {
        let bytes = ELEMENT_BYTES + key.len() + value.len();
        if !self.leaf.is_empty() && self.leaf_bytes + bytes > PAGE_BYTES {
            self.finish_leaf(pages);
        }
        self.leaf_bytes += bytes;
        self.leaf.push(LeafElement { flags, key, value });
    }

    /// Finishes all pages. `may_inline` if the tree may do without any.
    pub(super) fn finish(mut self, may_inline: bool, pages: &mut Pages) -> Root {
        if may_inline && self.levels.is_empty() && self.leaf_bytes <= INLINE_BYTES_MAX {
            let mut image = Vec::with_capacity(self.leaf_bytes);
            write_leaf(Place::default(), &self.leaf, &mut image);
            return Root::Inline(image);
        }
        if !self.leaf.is_empty() || self.levels.is_empty() {
            self.finish_leaf(pages);
        }
        for height in 0.. {
            let mut last = std::mem::take(&mut self.levels[height].current);
            let mut before = std::mem::take(&mut self.levels[height].before);
            if before.is_empty() {
                if let [only] = &last[..] {
                    return Root::Page(only.id);
                }
                return Root::Page(add_branch(&last, pages));
            }
            if last.len() == 1 && before.len() > 2 {
                last.splice(0..0, before.pop());
            } else if last.len() == 1 {
                before.append(&mut last);
            }
            for page in [before, last] {
                if !page.is_empty() {
                    self.finish_branch(height, page, pages);
                }
            }
        }
        unreachable!("a level with one page is the last")
    }

    fn finish_leaf(&mut self, pages: &mut Pages) {
        let leaf = std::mem::take(&mut self.leaf);
        let bytes = std::mem::replace(&mut self.leaf_bytes, HEAD_BYTES);
        let id = pages.add(bytes, |place, out| write_leaf(place, &leaf, out));
        let key = leaf
            .into_iter()
            .next()
            .map_or(Bytes::new(), |first| first.key);
        self.add_child(0, Child { key, id }, pages);
    }

    fn finish_branch(&mut self, height: usize, page: Vec<Child>, pages: &mut Pages) {
        let id = add_branch(&page, pages);
        let key = page
            .into_iter()
            .next()
            .map_or(Bytes::new(), |first| first.key);
        self.add_child(height + 1, Child { key, id }, pages);
    }

    fn add_child(&mut self, height: usize, child: Child, pages: &mut Pages) {
        if self.levels.len() == height {
            self.levels.push(Level::default());
        }
        let level = &mut self.levels[height];
        let bytes = ELEMENT_BYTES + child.key.len();
        let full = HEAD_BYTES + level.current_bytes + bytes > PAGE_BYTES;
        let finished = if full && level.current.len() >= 2 {
            level.current_bytes = 0;
            let current = std::mem::take(&mut level.current);
            std::mem::replace(&mut level.before, current)
        } else {
            Vec::new()
        };
        level.current_bytes += bytes;
        level.current.push(child);
        if !finished.is_empty() {
            self.finish_branch(height, finished, pages);
        }
    }
}

fn add_branch(page: &[Child], pages: &mut Pages) -> u64 {
    let bytes: usize = page
        .iter()
        .map(|child| ELEMENT_BYTES + child.key.len())
        .sum();
    pages.add(HEAD_BYTES + bytes, |place, out| {
        write_branch(place, page, out)
    })
}

fn write_leaf(place: Place, elements: &[LeafElement], out: &mut Vec<u8>) {
    head(place, LEAF, elements.len()).encode(out);
    let mut data = elements.len() * ELEMENT_BYTES;
    for LeafElement { flags, key, value } in elements {
        for field in [*flags, data as u32, key.len() as u32, value.len() as u32] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        // The next element starts later, so what it counts from does too.
        data = data - ELEMENT_BYTES + key.len() + value.len();
    }
    for LeafElement { key, value, .. } in elements {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
}

fn write_branch(place: Place, children: &[Child], out: &mut Vec<u8>) {
    head(place, BRANCH, children.len()).encode(out);
    let mut data = children.len() * ELEMENT_BYTES;
    for Child { key, id } in children {
        out.extend_from_slice(&(data as u32).to_le_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
        data = data - ELEMENT_BYTES + key.len();
    }
    for Child { key, .. } in children {
        out.extend_from_slice(key);
    }
}

fn head(place: Place, kind: u16, count: usize) -> Head {
    Head {
        id: place.id,
        kind,
        count: count as u16,
        overflow: place.overflow,
    }
}
