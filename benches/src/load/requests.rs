//! Requests, encoded before a load begins.

use bytes::{Buf, Bytes};
use catena_api::etcd::etcdserverpb::{
    self as pb,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};
use prost::{Message, encoding};
use rand::{RngCore, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Messages of one kind with their gRPC prefixes, one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Requests {
    /// Encodes all of `messages`.
    pub(crate) fn encode<M: Message>(messages: impl IntoIterator<Item = M>) -> Self {
        let mut requests = Self::default();
        for message in messages {
            put_message(&message, &mut requests.bytes);
            requests.ends.push(requests.bytes.len());
        }
        requests
    }

    /// The request in a place, counted round.
    pub(crate) fn get(&self, place: usize) -> &[u8] {
        let place = place % self.ends.len();
        let begin = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..self.ends[place]]
    }
}

/// Appends a message with its gRPC prefix.
pub(crate) fn put_message(message: &impl Message, out: &mut Vec<u8>) {
    let length = u32::try_from(message.encoded_len()).expect("requests are short");
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
    message.encode(out).expect("a vector grows");
}

/// Keys of one prefix, in order: `prefix` and eight digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    /// What all begin with.
    pub(crate) prefix: &'static str,
    /// How many there are.
    pub(crate) count: usize,
}

impl Keys {
    /// The key in a place.
    pub(crate) fn key(self, place: usize) -> Bytes {
        format!("{}{place:08}", self.prefix).into()
    }

    /// The places in an order that is random and the same in each run.
    pub(crate) fn shuffled(self) -> Vec<usize> {
        let mut places: Vec<_> = (0..self.count).collect();
        places.shuffle(&mut StdRng::seed_from_u64(SEED));
        places
    }
}

const SEED: u64 = 0x00ca_7e9a;

/// A value that no compression shortens, the same in each run.
pub(crate) fn value(bytes: usize) -> Bytes {
    let mut value = vec![0; bytes];
    StdRng::seed_from_u64(SEED).fill_bytes(&mut value);
    value.into()
}

/// A put without options.
pub(crate) fn put(key: Bytes, value: Bytes) -> pb::PutRequest {
    pb::PutRequest {
        key,
        value,
        ..Default::default()
    }
}

/// A transaction of one put, without a condition.
pub(crate) fn txn(put: pb::PutRequest) -> pb::TxnRequest {
    pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(Request::RequestPut(put)),
        }],
        ..Default::default()
    }
}

/// A put on condition that the key is as it was at `mod_revision`; a read of the key otherwise.
fn swap(put: pb::PutRequest, mod_revision: i64) -> pb::TxnRequest {
    let get = pb::RangeRequest {
        key: put.key.clone(),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![pb::Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: put.key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::ModRevision(mod_revision)),
        }],
        failure: vec![pb::RequestOp {
            request: Some(Request::RequestRange(get)),
        }],
        ..txn(put)
    }
}

/// Compare-and-swap of one key, encoded ahead but for the revision, which is known only when the swap before was answered.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    message: Vec<u8>,
    /// Where the revision stands.
    revision: usize,
}

/// The revision's varint is always of this length: a varint may be longer than it must be. Revisions stay below 2^35.
const REVISION_BYTES: usize = 5;
/// A revision whose varint has that length, and bytes that stand nowhere else in the message.
const REVISION_MARK: i64 = (1 << 35) - 1;

impl Swap {
    /// A swap of a key that does not exist yet.
    pub(crate) fn new(key: Bytes, value: Bytes) -> Self {
        let mut message = Vec::new();
        put_message(&swap(put(key, value), REVISION_MARK), &mut message);
        let mut mark = Vec::new();
        encoding::encode_varint(REVISION_MARK as u64, &mut mark);
        let place = message.windows(mark.len()).position(|part| part == mark);
        let mut swap = Self {
            message,
            revision: place.expect("the compare comes first"),
        };
        swap.expect(0);
        swap
    }

    /// Sets the revision that the key has.
    pub(crate) fn expect(&mut self, mod_revision: i64) {
        let mut rest = mod_revision as u64;
        let place = self.revision..self.revision + REVISION_BYTES;
        for byte in &mut self.message[place.clone()] {
            *byte = 0x80 | (rest & 0x7f) as u8;
            rest >>= 7;
        }
        self.message[place.end - 1] &= 0x7f;
    }

    /// The message.
    pub(crate) fn message(&self) -> &[u8] {
        &self.message
    }
}

/// What an answer to a transaction tells: its revision, and whether the condition held. `None` if it is no such answer.
pub(crate) fn txn_answer(message: &[u8]) -> Option<(i64, bool)> {
    let (mut revision, mut succeeded) = (None, false);
    for (tag, value) in Fields(message) {
        match (tag, value) {
            (1, Value::Bytes(header)) => {
                let mut fields = Fields(header);
                revision = fields.find_map(|(tag, value)| match value {
                    Value::Number(number) if tag == 3 => Some(number as i64),
                    Value::Number(_) | Value::Bytes(_) => None,
                });
            }
            (2, Value::Number(number)) => succeeded = number == 1,
            _ => {}
        }
    }
    Some((revision?, succeeded))
}

/// The fields of an encoded message, until its end or the first that is neither a varint nor bytes.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A varint.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.0.has_remaining() {
            return None;
        }
        let key = encoding::decode_varint(&mut self.0).ok()?;
        let number = encoding::decode_varint(&mut self.0).ok()?;
        let value = match key & 7 {
            0 => Value::Number(number),
            2 => {
                let (bytes, rest) = self.0.split_at_checked(usize::try_from(number).ok()?)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode<M: Message + Default>(framed: &[u8]) -> M {
        let (prefix, message) = framed.split_at(5);
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        assert_eq!(prefix, [&[0][..], &length].concat());
        M::decode(message).unwrap()
    }

    #[test]
    fn requests_are_found_by_their_place_counted_round() {
        let keys = Keys {
            prefix: "k/",
            count: 3,
        };
        let all = (0..3).map(|place| put(keys.key(place), value(place)));
        let requests = Requests::encode(all);
        for place in 0..7 {
            let found: pb::PutRequest = decode(requests.get(place));
            assert_eq!(found.key, format!("k/{:08}", place % 3));
        }
    }

    #[test]
    fn a_swap_names_the_revision_that_it_was_told_last() {
        let mut swap = Swap::new("key".into(), value(256));
        for revision in [0, 1, 127, 128, 1 << 34] {
            swap.expect(revision);
            let found: pb::TxnRequest = decode(swap.message());
            let wanted = super::swap(put("key".into(), value(256)), revision);
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn an_answer_to_a_transaction_is_read() {
        let header = pb::ResponseHeader {
            cluster_id: u64::MAX,
            member_id: 1 << 63,
            revision: 300,
            raft_term: 2,
        };
        let answer = pb::TxnResponse {
            header: Some(header),
            succeeded: true,
            ..Default::default()
        };
        assert_eq!(txn_answer(&answer.encode_to_vec()), Some((300, true)));
        assert_eq!(txn_answer(&[]), None);
    }
}
