//! Files written are read back; etcdutl's view of them is taken by the suite that has the real etcd.

use std::{collections::BTreeMap, io, sync::Arc};

use catena_api::{KeyValue, KeyValueView};
use catena_runtime::File;
use proptest::prelude::*;

use super::{page::Meta, *};
use crate::backend::{self, Change, Engine};

type Pairs = BTreeMap<(Bucket, Vec<u8>), Vec<u8>>;

impl Source for Pairs {
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        for ((found, key), value) in self.range((bucket, from.to_vec())..) {
            if *found != bucket || visit(key, value) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }
}

/// Bytes as a file.
struct Memory(Vec<u8>);

impl File for Memory {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset as usize + buf.len();
        let found = self.0.get(offset as usize..end);
        buf.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }
}

fn write(pairs: &Pairs) -> Vec<u8> {
    let mut out = Vec::new();
    let writer = Writer::plan(pairs.clone()).unwrap();
    let planned = writer.file_bytes() as usize;
    let written = writer.write_to(&mut out).unwrap();
    assert_eq!(written as usize, out.len());
    assert_eq!(planned + DIGEST_BYTES, out.len());
    out
}

fn open(file: &[u8], digest: Digest) -> Result<Reader, Error> {
    Reader::open(Arc::new(Memory(file.to_vec())), digest)
}

fn contents(reader: &Reader) -> Result<Pairs, Error> {
    let mut found = Pairs::new();
    for bucket in Bucket::ALL {
        reader.scan(bucket.name().as_bytes(), &mut |key, value| {
            found.insert((bucket, key.to_vec()), value.to_vec());
            Visit::Continue
        })?;
    }
    Ok(found)
}

fn assert_comes_back(pairs: &Pairs) {
    let file = write(pairs);
    let reader = open(&file, Digest::Required).unwrap();
    let names: Vec<_> = reader.buckets().collect();
    assert_eq!(names, Bucket::ALL.map(|bucket| bucket.name().as_bytes()));
    assert!(contents(&reader).unwrap() == *pairs);
    assert_eq!(reader.file_bytes() as usize + DIGEST_BYTES, file.len());
}

fn of_bucket(bucket: Bucket, pairs: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Pairs {
    pairs
        .into_iter()
        .map(|(key, value)| ((bucket, key), value))
        .collect()
}

/// Revisions as etcd keys them, with values of the given length.
fn revisions(count: u64, value_len: impl Fn(u64) -> usize) -> Pairs {
    let key = |n: u64| [&n.to_be_bytes()[..], b"_", &0u64.to_be_bytes()].concat();
    of_bucket(
        Bucket::Key,
        (0..count).map(|n| (key(n), vec![n as u8; value_len(n)])),
    )
}

#[test]
fn empty_buckets_come_back() {
    assert_comes_back(&Pairs::new());
    assert_eq!(write(&Pairs::new()).len(), 3 * PAGE_BYTES + DIGEST_BYTES);
}

#[test]
fn buckets_around_the_inline_limit_come_back() {
    for len in 900..1100 {
        assert_comes_back(&of_bucket(Bucket::Meta, [(b"k".to_vec(), vec![1; len])]));
    }
}

#[test]
fn pages_around_their_limit_come_back() {
    for len in (PAGE_BYTES - 80..PAGE_BYTES + 10).chain(2 * PAGE_BYTES - 60..2 * PAGE_BYTES) {
        assert_comes_back(&revisions(3, |_| len));
    }
}

#[test]
fn every_number_of_leaf_pages_comes_back() {
    // One pair a page, about 100 children a branch page: trees of one to three levels, and each way they can end.
    for count in (1..320).chain([12_000, 12_001, 14_998]) {
        assert_comes_back(&revisions(count, |_| 3_000));
    }
}

#[test]
fn branch_pages_of_long_keys_come_back() {
    for count in 1..40u8 {
        let key = |n: u8| vec![n; 1_000 + 7_000 * usize::from(n % 5)];
        assert_comes_back(&of_bucket(
            Bucket::AuthUsers,
            (1..=count).map(|n| (key(n), vec![n])),
        ));
    }
}

#[test]
fn large_and_small_values_come_back() {
    assert_comes_back(&revisions(2_000, |n| match n % 50 {
        0 => 100_000,
        1 => 0,
        n => n as usize * 10,
    }));
}

#[test]
fn all_buckets_inline_make_a_root_of_several_pages() {
    let mut pairs = Pairs::new();
    for bucket in Bucket::ALL {
        pairs.extend(of_bucket(bucket, [(b"k".to_vec(), vec![1; 950])]));
    }
    assert_comes_back(&pairs);
}

#[test]
fn view_of_an_engine_is_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn catena_runtime::Disk> = Arc::new(catena_runtime::SystemDisk);
    let backend = backend::open(Engine::Redb, &disk, dir.path()).unwrap();
    let pairs = revisions(20_000, |n| (n % 300) as usize);
    let changes: Vec<_> = pairs
        .iter()
        .map(|((bucket, key), value)| {
            Change::Put(*bucket, key.clone().into(), value.clone().into())
        })
        .collect();
    backend.write(&changes).unwrap();
    let view: Arc<dyn View> = backend.view().unwrap().into();
    backend
        .write(&[Change::Delete(Bucket::Key, changes[0].key().1.clone())])
        .unwrap();
    let mut file = Vec::new();
    let mut writer = Writer::plan(view).unwrap();
    while let Some(chunk) = writer.next_chunk(32 << 10).unwrap() {
        assert!(chunk.len() <= 32 << 10);
        file.extend_from_slice(&chunk);
    }
    file.extend_from_slice(&writer.digest());
    assert!(contents(&open(&file, Digest::Required).unwrap()).unwrap() == pairs);
}

#[test]
fn keys_that_bbolt_cannot_hold_are_refused() {
    for key in [vec![], vec![1; KEY_BYTES_MAX + 1]] {
        let pairs = of_bucket(Bucket::Lease, [(key, vec![])]);
        let error = Writer::plan(pairs).err().unwrap().to_string();
        assert!(error.contains("bucket lease cannot be written"), "{error}");
    }
}

#[test]
fn digest_is_required_unless_skipped() {
    let mut file = write(&revisions(10, |_| 10));
    file[PAGE_BYTES * 2 - 1] ^= 1;
    assert!(matches!(
        open(&file, Digest::Required),
        Err(Error::Digest { .. })
    ));
    open(&file, Digest::Skipped).unwrap();
    file.truncate(file.len() - DIGEST_BYTES);
    assert!(matches!(
        open(&file, Digest::Required),
        Err(Error::NoDigest)
    ));
    open(&file, Digest::Skipped).unwrap();
}

#[test]
fn second_meta_page_serves_when_the_first_is_damaged() {
    let pairs = revisions(300, |_| 100);
    let mut file = write(&pairs);
    file[20] ^= 0xff;
    let reader = open(&file, Digest::Skipped).unwrap();
    assert!(contents(&reader).unwrap() == pairs);
    file[PAGE_BYTES + 20] ^= 0xff;
    assert!(matches!(
        open(&file, Digest::Skipped),
        Err(Error::Malformed(_))
    ));
}

#[test]
fn newer_meta_page_is_the_one_that_counts() {
    let file = write(&revisions(5, |_| 10));
    let metas = [0, PAGE_BYTES].map(|at| Meta::decode(&file[at..]).unwrap());
    assert_eq!(metas[0].transaction, metas[1].transaction + 1);
    assert_eq!(metas[0].root, metas[1].root);
}

#[test]
fn cut_files_are_refused() {
    let file = write(&revisions(300, |_| 100));
    for len in (0..file.len() - DIGEST_BYTES).step_by(511) {
        assert!(open(&file[..len], Digest::Skipped).is_err(), "{len}");
    }
}

/// A reader meets any bytes with an answer: an error, or pairs in order.
fn assert_answers(file: &[u8]) {
    if let Ok(reader) = open(file, Digest::Skipped) {
        contents(&reader).unwrap();
    }
}

#[test]
fn any_damaged_byte_has_an_answer() {
    let mut pairs = revisions(400, |n| if n == 7 { 9_000 } else { 50 });
    pairs.extend(of_bucket(Bucket::Meta, [(b"term".to_vec(), vec![1; 8])]));
    let file = write(&pairs);
    // Each byte of heads and first elements, and some of the rest.
    for at in (0..file.len()).filter(|at| at % PAGE_BYTES < 100 || at % 101 == 0) {
        let mut damaged = file.clone();
        damaged[at] ^= [0x01, 0x80, 0xff][at % 3];
        assert_answers(&damaged);
    }
}

/// The file of which etcdutl 3.7.1 says: hash c3f1f02b, revision 4, 3 keys, version 3.6.0.
fn known() -> Pairs {
    let mut pairs = Pairs::new();
    for n in 0..3u64 {
        let revision = n as i64 + 2;
        let record = KeyValueView {
            key: format!("key{n:08}").into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: vec![b'a' + n as u8; 20 + n as usize].into(),
            lease: 0,
        };
        let key = [&revision.to_be_bytes()[..], b"_", &[0; 8]].concat();
        pairs.insert((Bucket::Key, key), record.encode().as_encoded().to_vec());
    }
    for (key, value) in [
        (
            "confState",
            br#"{"voters":[1],"auto_leave":false}"#.to_vec(),
        ),
        ("consistent_index", 10u64.to_be_bytes().to_vec()),
        ("storageVersion", b"3.6.0".to_vec()),
        ("term", 2u64.to_be_bytes().to_vec()),
    ] {
        pairs.insert((Bucket::Meta, key.into()), value);
    }
    pairs.insert((Bucket::Cluster, "clusterVersion".into()), "3.7.0".into());
    pairs
}

#[test]
fn status_is_that_of_etcdutl() {
    let mut pairs = known();
    let status = |pairs: &Pairs| open(&write(pairs), Digest::Required).unwrap().status();
    let expected = Status {
        hash: 0xc3f1_f02b,
        revision: 4,
        total_keys: 3,
        total_bytes: 3 * PAGE_BYTES as u64,
        version: "3.6.0".to_owned(),
    };
    assert_eq!(status(&pairs).unwrap(), expected);
    let tombstone = [&9u64.to_be_bytes()[..], b"_", &[0; 8], b"t"].concat();
    let gone = KeyValue::tombstone("key00000001".into());
    pairs.insert((Bucket::Key, tombstone), gone.as_encoded().to_vec());
    let found = status(&pairs).unwrap();
    assert_eq!((found.revision, found.total_keys), (9, 2));
    pairs.insert((Bucket::Key, b"no revision".to_vec()), vec![]);
    assert!(
        status(&pairs)
            .unwrap_err()
            .to_string()
            .contains("cannot parse revision key")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_pairs_come_back(
        pairs in proptest::collection::btree_map(
            (0..Bucket::ALL.len(), proptest::collection::vec(any::<u8>(), 1..40)),
            prop_oneof![
                9 => proptest::collection::vec(any::<u8>(), 0..200),
                1 => proptest::collection::vec(any::<u8>(), 0..20_000),
            ],
            0..300,
        ),
    ) {
        let pairs = pairs.into_iter().map(|((b, key), value)| ((Bucket::ALL[b], key), value));
        assert_comes_back(&pairs.collect());
    }

    #[test]
    fn any_bytes_in_a_page_have_an_answer(
        page in 0..12usize,
        at in 0..PAGE_BYTES - 8,
        bytes in any::<[u8; 8]>(),
    ) {
        let mut file = write(&revisions(500, |n| if n == 7 { 9_000 } else { 50 }));
        let at = page * PAGE_BYTES + at;
        if at + 8 <= file.len() {
            file[at..at + 8].copy_from_slice(&bytes);
        }
        assert_answers(&file);
    }
}
