//! Reading a snapshot file of any etcd.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Buf;
use catena_runtime::File;
use sha2::{Digest as _, Sha256};

use super::{
    DIGEST_BYTES, Error, KEY_BYTES_MAX,
    page::{
        self, BRANCH, FREELIST, HEAD_BYTES, Head, IS_BUCKET, LEAF, LeafElement, Meta, NO_FREELIST,
    },
};
use crate::backend::Visit;

/// Depth of trees, far above what any size of file needs; ends walks over pages that refer to one another.
const DEPTH_MAX: usize = 64;

/// Largest run of pages that is read as one: far above the largest request that any etcd takes.
const RUN_BYTES_MAX: u64 = 256 << 20;

/// Page sizes of any machine.
const PAGE_BYTES_MIN: u32 = 512;
const PAGE_BYTES_MAX: u32 = 64 << 10;

/// Where etcd looks for the second meta page when the first is damaged.
const META_OFFSETS: std::ops::Range<u32> = 0..15;

/// Bytes hashed at a time.
const HASH_BYTES: usize = 256 << 10;

/// The digest comes in blocks of pages, so a file with one is this long modulo the smallest page.
const SECTOR_BYTES: u64 = 512;

/// What to do about the SHA-256 behind the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// It must be there and right.
    Required,
    /// It may be missing, as in the file of a stopped etcd, and is not looked at.
    Skipped,
}

/// A snapshot file all of which was checked.
pub struct Reader {
    pages: Pages,
    buckets: BTreeMap<Vec<u8>, Root>,
}

/// Where the pairs of a bucket are.
enum Root {
    Page(u64),
    Inline(Vec<u8>),
}

impl Reader {
    /// Opens `file` and checks all of it: the digest, that every page is reached once or free, the order of keys, and that nothing
    /// runs past its page.
    pub fn open(file: Arc<dyn File>, digest: Digest) -> Result<Self, Error> {
        let len = file.len()?;
        let has_digest = len % SECTOR_BYTES == DIGEST_BYTES as u64;
        if digest == Digest::Required {
            if !has_digest {
                return Err(Error::NoDigest);
            }
            check_digest(file.as_ref(), len)?;
        }
        let len = if has_digest {
            len - DIGEST_BYTES as u64
        } else {
            len
        };
        let meta = find_meta(file.as_ref(), len)?;
        let pages = Pages { file, meta };
        let mut seen = Seen::new(meta.high_water);
        let mut buckets = BTreeMap::new();
        pages.walk(meta.root, &mut Some(&mut seen), &mut |element| {
            buckets.insert(element.key.to_vec(), Root::of(element)?);
            Ok(Visit::Continue)
        })?;
        let reader = Self { pages, buckets };
        for root in reader.buckets.values() {
            reader
                .pages
                .bucket(root, &mut Some(&mut seen), &mut |_, _| Visit::Continue)?;
        }
        reader.pages.check_freelist(&mut seen)?;
        Ok(reader)
    }

    /// The names of the buckets, ascending.
    pub fn buckets(&self) -> impl Iterator<Item = &[u8]> {
        self.buckets.keys().map(Vec::as_slice)
    }

    /// Calls `visit` for the pairs of a bucket, ascending, until it answers [`Visit::Stop`]; none if there is no such bucket.
    pub fn scan(
        &self,
        bucket: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Error> {
        match self.buckets.get(bucket) {
            Some(root) => self.pages.bucket(root, &mut None, visit),
            None => Ok(()),
        }
    }

    /// Bytes of the database in the file.
    pub fn file_bytes(&self) -> u64 {
        self.pages.meta.high_water * u64::from(self.pages.meta.page_bytes)
    }
}

impl Root {
    fn of(element: LeafElement<'_>) -> Result<Self, Error> {
        let mut value = element.value;
        if element.flags != IS_BUCKET || value.len() < 16 {
            return Err(malformed("the root tree has an element that is no bucket"));
        }
        let id = value.get_u64_le();
        value.advance(8);
        Ok(match id {
            0 => Self::Inline(value.to_vec()),
            id => Self::Page(id),
        })
    }
}

fn check_digest(file: &dyn File, len: u64) -> Result<(), Error> {
    let mut expected = [0; DIGEST_BYTES];
    let end = len - DIGEST_BYTES as u64;
    file.read_exact_at(&mut expected, end)?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; HASH_BYTES];
    let mut offset = 0;
    while offset < end {
        let piece = &mut buffer[..HASH_BYTES.min((end - offset) as usize)];
        file.read_exact_at(piece, offset)?;
        sha.update(&*piece);
        offset += piece.len() as u64;
    }
    let found: [u8; DIGEST_BYTES] = sha.finalize().into();
    if found != expected {
        return Err(Error::Digest { expected, found });
    }
    Ok(())
}

/// The valid meta page with the newest transaction.
fn find_meta(file: &dyn File, len: u64) -> Result<Meta, Error> {
    let at = |offset: u64| {
        let mut bytes = [0; Meta::NEEDS];
        let there = offset + Meta::NEEDS as u64 <= len;
        if there {
            file.read_exact_at(&mut bytes, offset)?;
        }
        Ok::<_, Error>(Meta::decode(&bytes).filter(|_| there))
    };
    let first = at(0)?;
    let second = match first {
        Some(meta) => at(u64::from(meta.page_bytes))?,
        None => {
            let mut found = None;
            for shift in META_OFFSETS {
                found = found.or(at(1024 << shift)?);
            }
            found
        }
    };
    let Some(meta) = first
        .into_iter()
        .chain(second)
        .max_by_key(|meta| meta.transaction)
    else {
        return Err(malformed("it has no valid meta page"));
    };
    let fits = (PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&meta.page_bytes)
        && meta.page_bytes.is_power_of_two();
    if !fits {
        return Err(malformed(format!(
            "it has pages of {} bytes",
            meta.page_bytes
        )));
    }
    if meta.high_water > len / u64::from(meta.page_bytes) {
        return Err(malformed(format!(
            "it should have {} pages of {} bytes, but is {len} bytes long",
            meta.high_water, meta.page_bytes
        )));
    }
    Ok(meta)
}

/// What a walk does with each element of a leaf page.
type OnElement<'a> = &'a mut dyn FnMut(LeafElement<'_>) -> Result<Visit, Error>;

/// The file by pages.
struct Pages {
    file: Arc<dyn File>,
    meta: Meta,
}

impl Pages {
    /// A page with those that continue it.
    fn read(&self, id: u64, seen: &mut Option<&mut Seen>) -> Result<(Head, Vec<u8>), Error> {
        if id < 2 || id >= self.meta.high_water {
            return Err(malformed(format!(
                "it refers to page {id}, which is not there"
            )));
        }
        let page_bytes = u64::from(self.meta.page_bytes);
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, id * page_bytes)?;
        let head = Head::decode(&head).ok_or_else(|| malformed("a page has no head"))?;
        let pages = u64::from(head.overflow) + 1;
        if head.id != id || pages > self.meta.high_water - id {
            return Err(malformed(format!("page {id} has a wrong head")));
        }
        if pages * page_bytes > RUN_BYTES_MAX {
            return Err(malformed(format!("page {id} goes on over {pages} pages")));
        }
        if let Some(seen) = seen {
            seen.mark(id, pages)?;
        }
        let mut bytes = vec![0; (pages * page_bytes) as usize];
        self.file.read_exact_at(&mut bytes, id * page_bytes)?;
        Ok((head, bytes))
    }

    /// Calls `visit` for the leaf elements of the tree below a page, in order.
    fn walk(
        &self,
        root: u64,
        seen: &mut Option<&mut Seen>,
        visit: OnElement<'_>,
    ) -> Result<(), Error> {
        self.walk_page(root, (&[], None), 0, seen, visit)
            .map(|_| ())
    }

    /// The same for a page whose keys must lie within `bounds`.
    fn walk_page(
        &self,
        id: u64,
        bounds: (&[u8], Option<&[u8]>),
        depth: usize,
        seen: &mut Option<&mut Seen>,
        visit: OnElement<'_>,
    ) -> Result<Visit, Error> {
        if depth == DEPTH_MAX {
            return Err(malformed(format!("page {id} is too deep in its tree")));
        }
        let (head, page) = self.read(id, seen)?;
        let count = usize::from(head.count);
        match head.kind {
            LEAF => walk_leaf(&page, count, bounds, visit),
            BRANCH if count > 0 => {
                let mut last = None;
                for index in 0..count {
                    let (key, child) = page::branch_element(&page, index)?;
                    check_key(key, bounds, last)?;
                    last = Some(key);
                    let next = match index + 1 {
                        next if next < count => Some(page::branch_element(&page, next)?.0),
                        _ => bounds.1,
                    };
                    if self.walk_page(child, (key, next), depth + 1, seen, visit)? == Visit::Stop {
                        return Ok(Visit::Stop);
                    }
                }
                Ok(Visit::Continue)
            }
            kind => Err(malformed(format!(
                "page {id} has kind {kind:#x} and {count} elements"
            ))),
        }
    }

    /// Calls `visit` for the pairs of a bucket.
    fn bucket(
        &self,
        root: &Root,
        seen: &mut Option<&mut Seen>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Error> {
        let mut pair = |element: LeafElement<'_>| match element.flags {
            0 => Ok(visit(element.key, element.value)),
            flags => Err(malformed(format!("a pair has the flags {flags:#x}"))),
        };
        match root {
            Root::Page(id) => self.walk(*id, seen, &mut pair),
            Root::Inline(image) => match Head::decode(image) {
                Some(head) if head.kind == LEAF && head.overflow == 0 => {
                    walk_leaf(image, usize::from(head.count), (&[], None), &mut pair).map(|_| ())
                }
                _ => Err(malformed("a bucket without pages has a wrong head")),
            },
        }
    }

    /// That every page which is not free was reached. If no list is stored, those that were not reached are free.
    fn check_freelist(&self, seen: &mut Seen) -> Result<(), Error> {
        if self.meta.freelist == NO_FREELIST {
            return Ok(());
        }
        let (head, page) = self.read(self.meta.freelist, &mut Some(seen))?;
        if head.kind != FREELIST {
            return Err(malformed("its list of free pages has another kind"));
        }
        let mut ids = &page[HEAD_BYTES..];
        let count = match head.count {
            0xFFFF if ids.len() >= 8 => ids.get_u64_le(),
            count => u64::from(count),
        };
        if count > ids.len() as u64 / 8 {
            return Err(malformed("its list of free pages is longer than its page"));
        }
        for _ in 0..count {
            seen.mark(ids.get_u64_le(), 1)?;
        }
        seen.all_marked()
    }
}

fn walk_leaf(
    page: &[u8],
    count: usize,
    bounds: (&[u8], Option<&[u8]>),
    visit: OnElement<'_>,
) -> Result<Visit, Error> {
    let mut last = None;
    for index in 0..count {
        let element = page::leaf_element(page, index)?;
        check_key(element.key, bounds, last)?;
        last = Some(element.key);
        if visit(element)? == Visit::Stop {
            return Ok(Visit::Stop);
        }
    }
    Ok(Visit::Continue)
}

fn check_key(
    key: &[u8],
    (from, to): (&[u8], Option<&[u8]>),
    last: Option<&[u8]>,
) -> Result<(), Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(malformed(format!("it has a key of {} bytes", key.len())));
    }
    if key < from || to.is_some_and(|to| key >= to) || last.is_some_and(|last| key <= last) {
        return Err(malformed("its keys are out of order"));
    }
    Ok(())
}

/// Which pages were reached: one bit per page of the file.
struct Seen {
    bits: Vec<u64>,
    pages: u64,
}

impl Seen {
    fn new(pages: u64) -> Self {
        Self {
            bits: vec![0; pages.div_ceil(64) as usize],
            pages,
        }
    }

    fn mark(&mut self, first: u64, count: u64) -> Result<(), Error> {
        for id in first..first.saturating_add(count) {
            if id < 2 || id >= self.pages {
                return Err(malformed(format!(
                    "it refers to page {id}, which is not there"
                )));
            }
            let (word, bit) = ((id / 64) as usize, 1 << (id % 64));
            if self.bits[word] & bit != 0 {
                return Err(malformed(format!("page {id} is used twice")));
            }
            self.bits[word] |= bit;
        }
        Ok(())
    }

    fn all_marked(&self) -> Result<(), Error> {
        let missing =
            (2..self.pages).find(|id| self.bits[(id / 64) as usize] & (1 << (id % 64)) == 0);
        match missing {
            Some(id) => Err(malformed(format!("page {id} is neither used nor free"))),
            None => Ok(()),
        }
    }
}

fn malformed(what: impl Into<String>) -> Error {
    Error::Malformed(what.into())
}
