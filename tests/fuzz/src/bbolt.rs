//! A snapshot file, of etcd or of our own.
//!
//! An input is a byte of options and the file.

use std::collections::BTreeMap;

use bytes::Bytes;
use catena_store::{
    Member, Position,
    backend::{Bucket, Visit},
    bbolt::{Digest, Error, Reader, Source, Writer},
    import::{Founding, import},
};

use crate::{
    MENDED, disk,
    memory::{Bound, bounded},
    number, refused, split,
    state::{engine, opens},
};

/// Set in the first byte: the file must have its SHA-256.
pub const WITH_DIGEST: u8 = 2;

/// The store's fixed parts and what is read at a time; and the file, its pairs, in the engine, in the index, written again.
const BOUND: Bound = Bound {
    fixed: 16 << 20,
    per_byte: 256,
};

/// Where a meta page says the size of pages, and its body and the sum over it.
const META: usize = 16;
const META_PAGE_BYTES: usize = META + 8;
const META_SUM: usize = META + 56;

/// The pairs of a file, by bucket.
type Pairs = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

/// One input.
pub fn check(input: &[u8]) {
    let (first, rest) = split(input);
    let mut file = rest.to_vec();
    if first & MENDED != 0 {
        mend(&mut file);
    }
    let digest = match first & WITH_DIGEST {
        0 => Digest::Skipped,
        _ => Digest::Required,
    };
    bounded(BOUND, input, || {
        match Reader::open(disk::Bytes::new(&file), digest) {
            Ok(reader) => whole(&reader),
            Err(Error::Read(error)) => panic!("read beyond the file: {error}"),
            Err(error) => refused(error),
        }
    });
}

/// A file that was opened can be read to its end, its status told, and its state imported or refused; and written again it holds
/// what it held.
fn whole(reader: &Reader) {
    let before = pairs(reader);
    if let Err(error) = reader.status() {
        refused(error);
    }
    let engine = engine();
    match import(reader, engine.as_ref(), &founding()) {
        Ok(()) => opens(engine),
        Err(error) => refused(error),
    }
    let known = |name: &[u8]| {
        Bucket::ALL
            .iter()
            .any(|bucket| bucket.name().as_bytes() == name)
    };
    let kept: Pairs = before.into_iter().filter(|(name, _)| known(name)).collect();
    match write(&kept) {
        Ok(file) => {
            let again = Reader::open(disk::Bytes::new(&file), Digest::Required);
            let mut again = pairs(&again.expect("a file of our own is right"));
            again.retain(|name, pairs| kept.contains_key(name) || !pairs.is_empty());
            assert!(again == kept, "pairs changed on the way");
        }
        Err(error) => refused(error),
    }
}

fn pairs(reader: &Reader) -> Pairs {
    let mut all = Pairs::new();
    let names: Vec<Vec<u8>> = reader.buckets().map(<[u8]>::to_vec).collect();
    for name in names {
        let mut pairs = BTreeMap::new();
        let scanned = reader.scan(&name, &mut |key, value| {
            pairs.insert(key.to_vec(), value.to_vec());
            Visit::Continue
        });
        scanned.expect("what was checked at the start can be read");
        all.insert(name, pairs);
    }
    all
}

/// The pairs as a source of a file.
struct Held<'a>(&'a Pairs);

impl Source for Held<'_> {
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), catena_store::Fatal> {
        let Some(pairs) = self.0.get(bucket.name().as_bytes()) else {
            return Ok(());
        };
        for (key, value) in pairs.range(from.to_vec()..) {
            if visit(key, value) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }
}

fn write(pairs: &Pairs) -> Result<Vec<u8>, Error> {
    let mut file = Vec::new();
    Writer::plan(Held(pairs))?.write_to(&mut file)?;
    Ok(file)
}

fn founding() -> Founding {
    let member = Member {
        id: 1,
        name: "a".to_owned(),
        peer_urls: vec!["http://127.0.0.1:1".to_owned()],
        ..Member::default()
    };
    Founding {
        cluster_id: 2,
        members: vec![member],
        position: Position { term: 1, index: 1 },
        membership: Bytes::from_static(b"opaque"),
        revision_bump: 3,
    }
}

/// Writes the right sums into both meta pages.
fn mend(file: &mut [u8]) {
    let page_bytes = number(file, META_PAGE_BYTES).unwrap_or(0);
    for start in [Some(0), Some(page_bytes)].into_iter().flatten() {
        let Some(page) = file.get_mut(start..) else {
            continue;
        };
        if page.len() >= META_SUM + 8 {
            let sum = fnv1a(&page[META..META_SUM]);
            page[META_SUM..META_SUM + 8].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
