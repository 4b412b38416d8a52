//! A frozen picture is of one moment, whatever is applied while it is copied.

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_store::{
    Command, Entry, Options, Position, Reader, Request, Store,
    backend::{Bucket, View, Visit},
};

use crate::memory::Memory;

fn put(store: &mut Store, index: u64) {
    let put = pb::PutRequest {
        key: Bytes::from(format!("key {index}")),
        ..pb::PutRequest::default()
    };
    let entry = Entry {
        position: Position { term: 1, index },
        membership: None,
        commands: vec![Command::internal(Request::Put(put))],
    };
    store.apply(entry).unwrap();
}

fn records(view: &dyn View) -> usize {
    let mut count = 0;
    let mut visit = |_: &[u8], _: &[u8]| {
        count += 1;
        Visit::Continue
    };
    view.scan(Bucket::Key, b"", None, &mut visit).unwrap();
    count
}

#[test]
fn a_picture_holds_nothing_that_is_applied_after_it() {
    let backend = std::sync::Arc::new(Memory::default());
    let mut store = Store::open(backend, Options::default()).unwrap();
    let reader: Reader = store.reader();
    for index in 0..3 {
        put(&mut store, index);
    }
    let picture = reader.snapshot();
    put(&mut store, 3);
    assert_eq!(picture.position().map(|position| position.index), Some(2));
    assert_eq!(records(&picture), 3);
    assert_eq!(records(&reader.snapshot()), 4);
}
