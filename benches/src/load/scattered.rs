//! Puts of more keys than requests could be encoded ahead for.

use catena_api::etcd::etcdserverpb as pb;
use pb::request_op::Request;

use super::{Keys, PUT, Workload, put, requests::put_message, value, workload::TXN};
use crate::wire::{Connection, More};

/// Stands in a message where a place is written.
const MARK: &str = "########";
/// Puts of a transaction. etcd takes 128 at most.
const TXN_PUTS: usize = 100;
/// A prime above any number of keys: its multiples, counted round, are all keys once, far from one another.
const STRIDE: u64 = 2_654_435_761;

/// Puts of each key in turn, in an order that takes no memory. One message is kept, in which the keys change.
#[derive(Debug)]
pub(crate) struct Scattered {
    path: &'static str,
    message: Vec<u8>,
    /// Where the keys' digits stand.
    marks: Vec<usize>,
    count: u64,
    next: u64,
}

impl Scattered {
    /// Puts of one key each.
    pub(crate) fn puts(keys: Keys, value_bytes: usize) -> Self {
        let mut message = Vec::new();
        put_message(&marked(keys, value_bytes), &mut message);
        Self::new(PUT, message, keys)
    }

    /// Transactions that put all keys once, and how many there are. Of keys in a number that is no multiple of a transaction's, the last
    /// one puts some again.
    pub(crate) fn laying(keys: Keys, value_bytes: usize) -> (Self, u64) {
        let put = pb::RequestOp {
            request: Some(Request::RequestPut(marked(keys, value_bytes))),
        };
        // A transaction puts no key twice.
        let puts = TXN_PUTS.min(keys.count);
        let txn = pb::TxnRequest {
            success: vec![put; puts],
            ..Default::default()
        };
        let mut message = Vec::new();
        put_message(&txn, &mut message);
        let txns = keys.count.div_ceil(puts) as u64;
        (Self::new(TXN, message, keys), txns)
    }

    fn new(path: &'static str, message: Vec<u8>, keys: Keys) -> Self {
        let windows = message.windows(MARK.len()).enumerate();
        let marks = windows.filter(|(_, part)| *part == MARK.as_bytes());
        Self {
            path,
            marks: marks.map(|(place, _)| place).collect(),
            message,
            count: keys.count as u64,
            next: 0,
        }
    }

    /// Writes the next keys into the message.
    fn turn(&mut self) {
        for mark in &self.marks {
            let mut rest = self.next * STRIDE % self.count;
            self.next += 1;
            for digit in self.message[*mark..*mark + MARK.len()].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
    }
}

fn marked(keys: Keys, value_bytes: usize) -> pb::PutRequest {
    let key = format!("{}{MARK}", keys.prefix);
    put(key.into(), value(value_bytes))
}

impl Workload for Scattered {
    fn send(&mut self, _client: usize, connection: &mut Connection, _open: Option<u32>) -> u32 {
        self.turn();
        connection.call(self.path, &self.message, More::Ends)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use prost::Message;

    use super::*;

    const KEYS: Keys = Keys {
        prefix: "k/",
        count: 1234,
    };

    fn all() -> BTreeSet<Bytes> {
        (0..KEYS.count).map(|place| KEYS.key(place)).collect()
    }

    #[test]
    fn each_key_is_put_once_in_a_round() {
        let mut puts = Scattered::puts(KEYS, 256);
        for _ in 0..2 {
            let mut found = BTreeSet::new();
            for _ in 0..KEYS.count {
                puts.turn();
                let request = pb::PutRequest::decode(&puts.message[5..]).unwrap();
                assert_eq!(request.value, value(256));
                assert!(found.insert(request.key));
            }
            assert_eq!(found, all());
        }
    }

    #[test]
    fn transactions_put_all_keys_and_none_twice() {
        let (mut laying, txns) = Scattered::laying(KEYS, 256);
        assert_eq!(txns, 13);
        let mut found = BTreeSet::new();
        for _ in 0..txns {
            laying.turn();
            let txn = pb::TxnRequest::decode(&laying.message[5..]).unwrap();
            let keys = txn.success.into_iter().map(|op| match op.request {
                Some(Request::RequestPut(put)) => put.key,
                other => panic!("{other:?}"),
            });
            let keys: BTreeSet<_> = keys.collect();
            assert_eq!(keys.len(), TXN_PUTS);
            found.extend(keys);
        }
        assert_eq!(found, all());
    }
}
