//! Writing a snapshot file as a stream.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::{
    DIGEST_BYTES, Error, KEY_BYTES_MAX, PAGE_BYTES, Source,
    build::{Pages, Root, Tree},
    page::{IS_BUCKET, Meta, NO_FREELIST},
};
use crate::backend::{Bucket, Visit};

/// Bytes read from the source at a time.
const SLICE_BYTES: usize = 256 << 10;

/// The number of the file's last transaction: any above 0.
const TRANSACTION: u64 = 2;

/// The stream of a snapshot file: it knows the size ahead, from a first walk over the source that counts pages, and makes the bytes
/// in a second one. Memory holds one slice of the source and one page of each level of a tree.
pub struct Writer<S> {
    source: S,
    /// What the first walk found.
    plan: Meta,
    walk: Walk,
    pages: Pages,
    ready: BytesMut,
    started: bool,
    sha: Sha256,
}

impl<S: Source> Writer<S> {
    /// Walks over the source once.
    pub fn plan(source: S) -> Result<Self, Error> {
        let mut walk = Walk::new();
        let mut pages = Pages::counted();
        let root = loop {
            if let Some(root) = walk.step(&source, &mut pages)? {
                break root;
            }
        };
        let plan = Meta {
            page_bytes: PAGE_BYTES as u32,
            root,
            freelist: NO_FREELIST,
            high_water: pages.count(),
            transaction: TRANSACTION,
        };
        Ok(Self {
            source,
            plan,
            walk: Walk::new(),
            pages: Pages::written(),
            ready: BytesMut::new(),
            started: false,
            sha: Sha256::new(),
        })
    }

    /// Bytes of the file, without the digest behind it.
    pub fn file_bytes(&self) -> u64 {
        self.plan.high_water * PAGE_BYTES as u64
    }

    /// The next bytes of the file, at most `bytes_max`; none at its end. Reads a bounded part of the source.
    pub fn next_chunk(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Error> {
        while self.ready.len() < bytes_max && self.fill()? {}
        if self.ready.is_empty() {
            return Ok(None);
        }
        let chunk = self
            .ready
            .split_to(self.ready.len().min(bytes_max))
            .freeze();
        self.sha.update(&chunk);
        Ok(Some(chunk))
    }

    /// The SHA-256 of the file: what follows after the last chunk.
    pub fn digest(self) -> [u8; DIGEST_BYTES] {
        self.sha.finalize().into()
    }

    /// Writes all of it, with the digest; the bytes written.
    pub fn write_to(mut self, out: &mut dyn Write) -> Result<u64, Error> {
        let bytes = self.file_bytes() + DIGEST_BYTES as u64;
        while let Some(chunk) = self.next_chunk(SLICE_BYTES)? {
            out.write_all(&chunk)?;
        }
        out.write_all(&self.digest())?;
        Ok(bytes)
    }

    /// Makes more bytes ready; false if there are no more.
    fn fill(&mut self) -> Result<bool, Error> {
        if !self.started {
            self.started = true;
            let mut metas = Vec::with_capacity(2 * PAGE_BYTES);
            self.plan.encode(0, &mut metas);
            let older = Meta {
                transaction: TRANSACTION - 1,
                ..self.plan
            };
            older.encode(1, &mut metas);
            self.ready.extend_from_slice(&metas);
            return Ok(true);
        }
        if self.walk.is_done() {
            return Ok(false);
        }
        let root = self.walk.step(&self.source, &mut self.pages)?;
        self.ready.extend_from_slice(&self.pages.take());
        let planned = (self.plan.root, self.plan.high_water);
        if root.is_some_and(|root| (root, self.pages.count()) != planned) {
            return Err(Error::Malformed(
                "the source changed between the two walks".to_owned(),
            ));
        }
        Ok(true)
    }
}

/// A walk over all buckets that builds their trees and the root tree.
struct Walk {
    bucket: usize,
    from: Vec<u8>,
    tree: Tree,
    root: Option<Tree>,
}

impl Walk {
    fn new() -> Self {
        Self {
            bucket: 0,
            from: Vec::new(),
            tree: Tree::new(),
            root: Some(Tree::new()),
        }
    }

    fn is_done(&self) -> bool {
        self.root.is_none()
    }

    /// Takes a slice of the source; the id of the root page at the end.
    fn step(&mut self, source: &dyn Source, pages: &mut Pages) -> Result<Option<u64>, Error> {
        let Some(&bucket) = Bucket::ALL.get(self.bucket) else {
            let root = self.root.take().unwrap_or_else(Tree::new);
            return match root.finish(false, pages) {
                Root::Page(id) => Ok(Some(id)),
                Root::Inline(_) => unreachable!("was not allowed"),
            };
        };
        if !self.slice(bucket, source, pages)? {
            self.bucket += 1;
            self.from.clear();
            let tree = std::mem::replace(&mut self.tree, Tree::new());
            let value = bucket_value(tree.finish(true, pages));
            if let Some(root) = &mut self.root {
                let name = Bytes::from_static(bucket.name().as_bytes());
                root.push(IS_BUCKET, name, value, pages);
            }
        }
        Ok(None)
    }

    /// Takes pairs of a bucket; whether there may be more.
    fn slice(
        &mut self,
        bucket: Bucket,
        source: &dyn Source,
        pages: &mut Pages,
    ) -> Result<bool, Error> {
        let mut bytes = 0;
        let mut last = Bytes::new();
        let mut wrong = None;
        let from = std::mem::take(&mut self.from);
        source.scan(bucket, &from, &mut |key, value| {
            if let Err(what) = check(key, value, &from, &last) {
                wrong = Some(what);
                return Visit::Stop;
            }
            last = Bytes::copy_from_slice(key);
            self.tree
                .push(0, last.clone(), Bytes::copy_from_slice(value), pages);
            bytes += key.len() + value.len();
            if bytes < SLICE_BYTES {
                Visit::Continue
            } else {
                Visit::Stop
            }
        })?;
        if let Some(what) = wrong {
            let bucket = bucket.name();
            return Err(Error::Unwritable { bucket, what });
        }
        if bytes < SLICE_BYTES {
            return Ok(false);
        }
        self.from.extend_from_slice(&last);
        self.from.push(0);
        Ok(true)
    }
}

fn check(key: &[u8], value: &[u8], from: &[u8], last: &[u8]) -> Result<(), String> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(format!("it has a key of {} bytes", key.len()));
    }
    if value.len() > u32::MAX as usize / 2 {
        return Err(format!("it has a value of {} bytes", value.len()));
    }
    if key < from || key <= last {
        return Err("its keys do not ascend".to_owned());
    }
    Ok(())
}

/// The value of a bucket in the root tree: the id of its root page, or 0 and its image, and a sequence that etcd does not use.
fn bucket_value(root: Root) -> Bytes {
    let (id, image) = match root {
        Root::Page(id) => (id, Vec::new()),
        Root::Inline(image) => (0, image),
    };
    let sequence = 0u64;
    [&id.to_le_bytes()[..], &sequence.to_le_bytes(), &image]
        .concat()
        .into()
}
