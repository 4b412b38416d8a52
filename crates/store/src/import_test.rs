//! What comes over from a file, and what does not.

use std::sync::Arc;

use catena_api::etcd::etcdserverpb as pb;
use catena_runtime::{Disk, OpenMode, SystemDisk};

use super::*;
use crate::{
    Command, Entry, Options, Request, Store,
    backend::{Engine, View},
    bbolt::{Digest, Reader, Writer},
};

fn memory() -> Arc<dyn Backend> {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    crate::backend::open(Engine::Memory, &disk, std::path::Path::new("unused")).unwrap()
}

fn put(key: &str, lease: i64) -> Request {
    Request::Put(pb::PutRequest {
        key: key.to_owned().into(),
        value: "value".into(),
        lease,
        ..Default::default()
    })
}

/// A store with three writes, a deletion and a lease: revision 5.
fn filled() -> Store {
    let mut store = Store::open(memory(), Options::default()).unwrap();
    let delete = pb::DeleteRangeRequest {
        key: "b".into(),
        ..Default::default()
    };
    let grant = pb::LeaseGrantRequest { id: 7, ttl: 100 };
    let requests = [
        Request::LeaseGrant(grant),
        put("a", 7),
        put("b", 0),
        put("a", 7),
        Request::DeleteRange(delete),
    ];
    let outcomes = store
        .apply(Entry {
            position: Position { term: 9, index: 99 },
            membership: Some("the old one".into()),
            commands: requests.into_iter().map(Command::internal).collect(),
        })
        .unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    store
}

fn file_of(view: Arc<dyn View>) -> Reader {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("snapshot");
    let mut file = std::fs::File::create(&path).unwrap();
    Writer::plan(view).unwrap().write_to(&mut file).unwrap();
    Reader::open(
        SystemDisk.open(&path, OpenMode::Read).unwrap(),
        Digest::Required,
    )
    .unwrap()
}

fn founding(revision_bump: i64) -> Founding {
    let member = |id| Member {
        id,
        name: format!("m{id}"),
        peer_urls: vec![format!("http://m{id}:2380")],
        ..Member::default()
    };
    Founding {
        cluster_id: 42,
        members: vec![member(1), member(2)],
        position: Position { term: 1, index: 2 },
        membership: "the new one".into(),
        revision_bump,
    }
}

fn imported(bump: i64) -> Store {
    let file = file_of(Arc::new(filled().reader().snapshot()));
    let backend = memory();
    import(&file, backend.as_ref(), &founding(bump)).unwrap();
    Store::open(backend, Options::default()).unwrap()
}

#[test]
fn data_and_leases_come_over_and_the_cluster_is_the_new_one() {
    let (old, new) = (filled(), imported(0));
    let (before, after) = (
        old.reader().hash_kv(0).unwrap(),
        new.reader().hash_kv(0).unwrap(),
    );
    assert_eq!(after, before);
    assert_eq!(new.reader().lease(7).unwrap().keys, ["a"]);
    assert_eq!(new.applied(), Some(founding(0).position));
    let membership = (Some(founding(0).position), Bytes::from("the new one"));
    assert_eq!(new.membership(), Some(membership));
    let members = new.reader().members();
    assert_eq!(members.cluster_id, Some(42));
    assert_eq!(members.present.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert_eq!(members.present[&2].name, "m2");
}

#[test]
fn a_raised_revision_leaves_the_old_history_compacted() {
    let store = imported(1000);
    let reader = store.reader();
    assert_eq!((reader.revision(), reader.compacted()), (1005, 1005));
    let request = |revision| pb::RangeRequest {
        key: "a".into(),
        revision,
        ..Default::default()
    };
    assert_eq!(reader.range(&request(0)).unwrap().0.kvs.len(), 1);
    assert!(reader.range(&request(5)).is_err());
}

#[test]
fn a_file_with_authentication_is_refused() {
    let backend = memory();
    let key = Bytes::from_static(b"authEnabled");
    let enabled = Change::Put(Bucket::Auth, key, Bytes::from_static(&[1]));
    backend.write(&[enabled]).unwrap();
    let file = file_of(Arc::from(backend.view().unwrap()));
    let result = import(&file, memory().as_ref(), &founding(0));
    assert!(matches!(result, Err(Error::Authentication)));
}

#[test]
fn a_revision_beyond_the_numbers_is_refused() {
    let file = file_of(Arc::new(filled().reader().snapshot()));
    let result = import(&file, memory().as_ref(), &founding(i64::MAX));
    assert!(matches!(result, Err(Error::Bump(5, i64::MAX))));
}
