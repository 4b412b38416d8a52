//! Commands of the log, one after another, and what two stores make of them.
//!
//! An input is a byte that is not used and the commands as [pieces](crate::joined).

use bytes::Bytes;
use catena_store::{Command, Entry, Fatal, Options, Position, Request, Store, check};

use crate::{
    memory::{Bound, bounded},
    pieces, refused, split,
    state::engine,
};

/// Two stores; and each byte of a command as a message, a record, an event and an item of the index, in both.
const BOUND: Bound = Bound {
    fixed: 16 << 20,
    per_byte: 1024,
};

/// Most operations in a list of a txn, as a member checks it before it proposes.
const OPS_MAX: usize = 128;

/// One input.
pub fn check(input: &[u8]) {
    let (_, rest) = split(input);
    bounded(BOUND, input, || {
        let commands: Vec<Command> = pieces(rest).into_iter().filter_map(read).collect();
        let (mut one, mut other) = (store(), store());
        for (index, command) in commands.iter().enumerate() {
            let index = index as u64;
            let (here, there) = (
                apply(&mut one, index, command),
                apply(&mut other, index, command),
            );
            assert_eq!(here, there, "{command:?}");
            // As after a restart: the second one lives on what the engine has.
            seal(&mut other);
            maintain(&mut one);
            maintain(&mut other);
        }
        equal(&one, &other);
    });
}

/// Decodes a command; encoded again it must be the same. Gives it if a member would have proposed it.
fn read(piece: &[u8]) -> Option<Command> {
    let command = match Command::decode(&Bytes::copy_from_slice(piece)) {
        Ok(command) => command,
        Err(error) => {
            refused(error);
            return None;
        }
    };
    let encoded = command.encode();
    let again = Command::decode(&encoded).expect("what was encoded can be decoded");
    assert_eq!(again, command);
    assert_eq!(again.encode(), encoded);
    let checked = match &command.request {
        Request::Put(put) => check::put(put),
        Request::DeleteRange(delete) => check::delete_range(delete),
        Request::Txn(txn) => check::txn(txn, OPS_MAX),
        Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseCheckpoint(_)
        | Request::Alarm(_)
        | Request::Member(_)
        | Request::ClusterVersion(_) => Ok(()),
    };
    if let Err(error) = &checked {
        refused(error);
    }
    checked.ok().map(|()| command)
}

fn store() -> Store {
    Store::open(engine(), Options::default()).expect("an empty store opens")
}

/// Applies one command; gives its outcome as text.
fn apply(store: &mut Store, index: u64, command: &Command) -> String {
    let entry = Entry {
        position: Position { term: 1, index },
        membership: None,
        commands: vec![command.clone()],
    };
    let outcomes = store.apply(entry);
    format!(
        "{:?}",
        outcomes.expect("a command that was checked does not stop a member")
    )
}

fn seal(store: &mut Store) {
    if let Some(sealed) = store.seal() {
        let committed: Result<(), Fatal> = store.committer().commit(sealed);
        committed.expect("memory has room");
    }
}

fn maintain(store: &mut Store) {
    while store.maintain().expect("memory can be read") {}
}

fn equal(one: &Store, other: &Store) {
    let (one, other) = (one.reader(), other.reader());
    assert_eq!(one.revision(), other.revision());
    assert_eq!(one.hash_kv(0).ok(), other.hash_kv(0).ok());
    assert_eq!(one.hash().ok(), other.hash().ok());
}
