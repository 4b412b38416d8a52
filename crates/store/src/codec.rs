//! The one place that names bincode: log commands and node-local records, behind a leading byte that says which format follows.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Format written today. A reader refuses every other.
const FORMAT: u8 = 1;

/// Most bytes that decoding may allocate for one value: above the largest request that a member accepts by far, and little enough
/// that a damaged length cannot exhaust memory.
const DECODED_BYTES_MAX: usize = 64 << 20;

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// No format byte.
    #[error("record is empty")]
    Empty,
    /// Written by another version.
    #[error("record has format {0}, this version reads format {FORMAT}")]
    Format(u8),
    /// Damaged.
    #[error("record is malformed: {0}")]
    Record(#[from] bincode::error::DecodeError),
    /// Something follows the record.
    #[error("record is followed by {0} more bytes")]
    Trailing(usize),
    /// A protobuf message inside is damaged.
    #[error("message in record is malformed: {0}")]
    Message(#[from] prost::DecodeError),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<DECODED_BYTES_MAX>()
}

/// Encodes `value` behind the format byte.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut out = vec![FORMAT];
    bincode::serde::encode_into_std_write(value, &mut out, bincode::config::standard())
        .expect("writing to memory does not fail, and our types serialise");
    out.into()
}

/// Decodes what [`encode`] wrote.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let (&format, record) = bytes.split_first().ok_or(Malformed::Empty)?;
    if format != FORMAT {
        return Err(Malformed::Format(format));
    }
    let (value, read) = bincode::serde::decode_from_slice(record, config())?;
    match record.len() - read {
        0 => Ok(value),
        left => Err(Malformed::Trailing(left)),
    }
}
