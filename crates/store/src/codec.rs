//! The one place that names bincode: log commands and node-local records, behind a leading byte that says which format follows.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Format written today. A reader refuses every other.
const FORMAT: u8 = 1;

/// Most bytes that decoding may allocate for one value: above the largest request that a member accepts by far, and little enough
/// that a damaged length cannot exhaust memory.
const DECODED_BYTES_MAX: usize = 64 << 20;

/// How far bincode's account of a value may run ahead of the bytes that it is read from: a number of eight bytes may be written in
/// one. Twice that is allowed.
const DECODED_PER_BYTE: usize = 16;

/// The longest small and the longest medium record. bincode allocates what a length claims before it looks whether so much follows,
/// and takes its limit as a constant, so there is one for each of three sizes of records.
const SMALL_BYTES: usize = 1 << 10;
const MEDIUM_BYTES: usize = 64 << 10;

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

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(
    record: &[u8],
) -> Result<(T, usize), Malformed> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    Ok(bincode::serde::decode_from_slice(record, config)?)
}

/// Encodes `value` behind the format byte.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    encode_sized(value, 0)
}

/// Like [`encode`], in memory reserved for so many bytes.
pub fn encode_sized<T: Serialize>(value: &T, bytes: usize) -> Bytes {
    let mut out = Vec::with_capacity(bytes.max(1));
    out.push(FORMAT);
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
    let (value, read) = if record.len() <= SMALL_BYTES {
        decode_within::<T, { SMALL_BYTES * DECODED_PER_BYTE }>(record)?
    } else if record.len() <= MEDIUM_BYTES {
        decode_within::<T, { MEDIUM_BYTES * DECODED_PER_BYTE }>(record)?
    } else {
        decode_within::<T, DECODED_BYTES_MAX>(record)?
    };
    match record.len() - read {
        0 => Ok(value),
        left => Err(Malformed::Trailing(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_of_record_comes_back() {
        for bytes in [0, 1, 1000, 1 << 10, 1100, 64 << 10, 66_000, 8 << 20] {
            let value = ("name".to_owned(), Bytes::from(vec![7; bytes]), u64::MAX);
            let decoded: (String, Bytes, u64) = decode(&encode(&value)).unwrap();
            assert!(decoded == value, "{bytes}");
        }
        // The most that is accounted for each byte: numbers of eight bytes in one, and empty texts.
        for count in [1_000, 60_000, 1_000_000] {
            let numbers = vec![1_u64; count];
            assert_eq!(decode::<Vec<u64>>(&encode(&numbers)).unwrap(), numbers);
            let texts = vec![String::new(); count];
            assert_eq!(decode::<Vec<String>>(&encode(&texts)).unwrap(), texts);
        }
    }

    #[test]
    fn a_length_that_is_only_claimed_is_refused_by_the_limit() {
        // A text of 50 MiB, of which three bytes are there.
        let claim = (50_u32 << 20).to_le_bytes();
        let record = [&[FORMAT, 252][..], &claim, b"abc"].concat();
        let error = decode::<String>(&record).unwrap_err();
        assert!(
            matches!(
                error,
                Malformed::Record(bincode::error::DecodeError::LimitExceeded)
            ),
            "{error}"
        );
    }
}
