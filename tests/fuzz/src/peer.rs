//! What members send one another and keep in the log.
//!
//! An input is a byte that says which message it is, and the message.

use bytes::Bytes;
use catena_raft::fuzzing::Message;

use crate::{
    memory::{Bound, bounded},
    refused, split,
};

/// Lists of entries, members and commands, decoded and encoded, each of which takes far more than the byte that it may be.
const BOUND: Bound = Bound {
    fixed: 1 << 20,
    per_byte: 1024,
};

/// One input.
pub fn check(input: &[u8]) {
    let (first, rest) = split(input);
    let message = Message::ALL[usize::from(first) % Message::ALL.len()];
    bounded(BOUND, input, || {
        match message.again(Bytes::copy_from_slice(rest)) {
            Ok(encoded) => {
                let again = message.again(encoded.clone());
                assert_eq!(again.as_ref(), Ok(&encoded), "{message:?}");
            }
            Err(error) => refused(error),
        }
    });
}
