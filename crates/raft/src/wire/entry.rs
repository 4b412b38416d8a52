//! An entry, as it lies in the log and in a request to append.
//!
//! ```text
//! format: u8 │ term: u64 │ membership length: u32 │ membership │ commands     (integers little endian)
//! ```
//! The index is not in it: the log and the request know it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{BadBytes, decode, encode, log_id, take, take_sized};
use crate::types::{Commands, Entry, Payload};

/// Format written today. A reader refuses every other.
const FORMAT: u8 = 1;

/// Bytes before membership and commands.
const HEAD_BYTES: usize = 1 + 8 + 4;

/// Encodes an entry.
pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let membership = match &entry.payload.membership {
        Some(membership) => encode(membership.as_ref()),
        None => Bytes::new(),
    };
    let commands = &entry.payload.commands.0;
    let mut out = BytesMut::with_capacity(HEAD_BYTES + membership.len() + commands.len());
    out.put_u8(FORMAT);
    out.put_u64_le(entry.log_id.leader_id.term);
    out.put_u32_le(membership.len() as u32);
    out.put_slice(&membership);
    out.put_slice(commands);
    out.freeze()
}

/// Decodes an entry; the commands in it stay encoded and share `bytes`.
pub(crate) fn decode_entry(index: u64, mut bytes: Bytes) -> Result<Entry, BadBytes> {
    match take(&mut bytes, 1)?.get_u8() {
        FORMAT => {}
        other => return Err(BadBytes::Format(other)),
    }
    let term = take(&mut bytes, 8)?.get_u64_le();
    let membership = take_sized(&mut bytes)?;
    let membership = match membership.is_empty() {
        true => None,
        false => Some(Arc::new(decode(&membership)?)),
    };
    Ok(Entry {
        log_id: log_id(term, index),
        payload: Payload {
            commands: Commands(bytes),
            membership,
        },
    })
}
