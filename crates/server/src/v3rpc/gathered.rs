//! Large answers in their encoding, as the parts that they are sent in.
//!
//! A long value is not copied into its answer: it is a part of its own, which shares the bytes of the record. What is short is copied
//! together. So an answer takes no more memory than what was read for it, and no buffer grows while it is made.

use std::{collections::VecDeque, mem};

use bytes::{BufMut, Bytes, BytesMut};
use catena_api::etcd::etcdserverpb::{self as pb, response_op::Response as Answer};
use prost::{
    Message,
    encoding::{self, WireType},
};
use tonic::Status;

use super::frames;

/// Bytes of what is copied together, at most.
const TOGETHER_BYTES_MAX: usize = 64 << 10;

/// A value with so many bytes is a part of its own.
const APART_BYTES_MIN: usize = 16 << 10;

/// A field's tag and length, at most.
const FIELD_HEAD_LEN_MAX: usize = 2 * 10;

// Numbers of fields, as in etcd's rpc.proto.
const RANGE_KVS: u32 = 2;
const TXN_RESPONSES: u32 = 3;
const OP_RANGE: u32 = 1;
const OP_TXN: u32 = 4;

/// The parts of an answer.
#[derive(Default)]
pub(super) struct Gathered {
    parts: VecDeque<Bytes>,
    together: BytesMut,
}

/// An answer that can be gathered.
pub(super) trait Gather: Message + Default {
    /// Puts the encoding of the message into parts.
    fn gather(self, parts: &mut Gathered);
}

impl Gathered {
    /// `answer` as a message of gRPC.
    pub(super) fn message(answer: impl Gather) -> Result<Self, Status> {
        let head = frames::head(answer.encoded_len())?;
        let mut parts = Self::default();
        parts.reserve(head.len());
        parts.together.put_slice(&head);
        answer.gather(&mut parts);
        parts.close();
        Ok(parts)
    }

    /// The next part, of at most `bytes`; none after the last.
    pub(super) fn next(&mut self, bytes: usize) -> Option<Bytes> {
        let part = self.parts.front_mut()?;
        if part.len() > bytes {
            return Some(part.split_to(bytes));
        }
        self.parts.pop_front()
    }

    /// Makes room for so many bytes beside what stands together.
    fn reserve(&mut self, bytes: usize) {
        if self.together.capacity() - self.together.len() < bytes {
            self.close();
            self.together = BytesMut::with_capacity(TOGETHER_BYTES_MAX.max(bytes));
        }
    }

    /// Makes what stands together a part.
    fn close(&mut self) {
        if !self.together.is_empty() {
            self.parts.push_back(self.together.split().freeze());
        }
    }

    fn put(&mut self, message: &impl Message) {
        self.reserve(message.encoded_len());
        message.encode_raw(&mut self.together);
    }

    /// The head of a field whose `length` bytes follow.
    fn put_head(&mut self, field: u32, length: usize) {
        self.reserve(FIELD_HEAD_LEN_MAX);
        encoding::encode_key(field, WireType::LengthDelimited, &mut self.together);
        encoding::encode_varint(length as u64, &mut self.together);
    }

    fn put_bytes(&mut self, field: u32, bytes: &Bytes) {
        self.put_head(field, bytes.len());
        if bytes.len() < APART_BYTES_MIN {
            self.reserve(bytes.len());
            self.together.put_slice(bytes);
        } else {
            self.close();
            self.parts.push_back(bytes.clone());
        }
    }

    fn put_nested(&mut self, field: u32, message: impl Gather) {
        self.put_head(field, message.encoded_len());
        message.gather(self);
    }
}

// Encodings one after the other are that of all their fields.

impl Gather for pb::RangeResponse {
    fn gather(mut self, parts: &mut Gathered) {
        let kvs = mem::take(&mut self.kvs);
        let end = Self {
            more: mem::take(&mut self.more),
            count: mem::take(&mut self.count),
            ..Self::default()
        };
        parts.put(&self);
        for kv in kvs {
            parts.put_bytes(RANGE_KVS, kv.as_encoded());
        }
        parts.put(&end);
    }
}

impl Gather for pb::TxnResponse {
    fn gather(mut self, parts: &mut Gathered) {
        let responses = mem::take(&mut self.responses);
        parts.put(&self);
        for op in responses {
            parts.put_head(TXN_RESPONSES, op.encoded_len());
            match op.response {
                Some(Answer::ResponseRange(range)) => parts.put_nested(OP_RANGE, range),
                Some(Answer::ResponseTxn(txn)) => parts.put_nested(OP_TXN, txn),
                response => parts.put(&pb::ResponseOp { response }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use catena_api::KeyValueView;

    use super::*;

    fn range(lengths: &[usize]) -> pb::RangeResponse {
        let kvs = lengths.iter().enumerate().map(|(number, length)| {
            KeyValueView {
                key: Bytes::from(format!("key/{number}")),
                mod_revision: number as i64,
                value: Bytes::from(vec![b'v'; *length]),
                ..KeyValueView::default()
            }
            .encode()
        });
        pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                revision: 300,
                ..Default::default()
            }),
            kvs: kvs.collect(),
            more: true,
            count: 1 << 20,
        }
    }

    fn taken(mut gathered: Gathered, bytes: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(part) = gathered.next(bytes) {
            assert!((1..=bytes).contains(&part.len()));
            all.extend(part);
        }
        all
    }

    fn check(answer: impl Gather + Clone) {
        let encoded = answer.encode_to_vec();
        for bytes in [1000, 64 << 10, usize::MAX] {
            let all = taken(Gathered::message(answer.clone()).unwrap(), bytes);
            let (head, message) = all.split_at(frames::HEAD_LEN);
            assert_eq!(head, frames::head(encoded.len()).unwrap());
            assert!(message == encoded, "not what prost makes of it");
        }
    }

    #[test]
    fn parts_are_what_prost_makes_of_the_answer() {
        let long = APART_BYTES_MIN;
        let lengths: [&[usize]; 5] = [
            &[],
            &[10; 2000],
            &[long, 1, long - 50, 3 * long, TOGETHER_BYTES_MAX],
            &[1 << 20],
            &[TOGETHER_BYTES_MAX - 60, 1, 2, 3],
        ];
        for lengths in lengths {
            check(range(lengths));
        }
        check(pb::RangeResponse::default());
        let op = |response| pb::ResponseOp {
            response: Some(response),
        };
        let inner = pb::TxnResponse {
            header: None,
            succeeded: false,
            responses: vec![op(Answer::ResponseRange(range(&[5, 100_000])))],
        };
        check(pb::TxnResponse {
            header: range(&[]).header,
            succeeded: true,
            responses: vec![
                op(Answer::ResponseRange(range(&[long; 3]))),
                op(Answer::ResponsePut(pb::PutResponse::default())),
                op(Answer::ResponseTxn(inner)),
                op(Answer::ResponseRange(pb::RangeResponse::default())),
            ],
        });
    }

    #[test]
    fn long_value_is_not_copied() {
        let answer = range(&[1 << 20]);
        let record = answer.kvs[0].as_encoded().clone();
        let mut gathered = Gathered::message(answer).unwrap();
        let parts: Vec<_> = std::iter::from_fn(|| gathered.next(usize::MAX)).collect();
        assert!(parts.iter().any(|part| part.as_ptr() == record.as_ptr()));
    }
}
