//! Fuzzers for everything that reads bytes from a disk, a peer or an operator.
//!
//! | target | reads | and demands |
//! |---|---|---|
//! | [`wal`] | a directory of segments | refused by name and untouched, or: all entries there, more can be appended, all is read again |
//! | [`snapshot`] | the stream of a snapshot between members | refused, or: dumped again it is the same stream, and a store opens or refuses it |
//! | [`bbolt`] | a snapshot file of etcd's | refused, or: written again and read again it holds the same; it is imported or refused |
//! | [`command`] | commands of the log | refused, or: encoded again the same; two stores that apply them are equal |
//! | [`peer`] | what members send one another and keep in the log | refused, or: encoded again it is the same message |
//! | [`config`] | arguments, variables, a configuration file | refused in words, or: the same settings from the flags that say the same |
//!
//! Each also demands that memory stays under a bound that follows from the length of the input ([`memory`]): a length that is only
//! claimed must not be allocated for.
//!
//! Most of these formats carry checksums, which random changes never get right. So the first byte of an input may ask to have them
//! *mended* before it is read: then what stands behind the checksums is fuzzed too.

pub mod bbolt;
pub mod command;
pub mod config;
pub mod disk;
pub mod memory;
pub mod peer;
pub mod snapshot;
mod state;
pub mod wal;

/// Set in the first byte: checksums are mended.
pub const MENDED: u8 = 1;

/// The first byte, and what follows.
fn split(input: &[u8]) -> (u8, &[u8]) {
    input
        .split_first()
        .map_or((0, input), |(first, rest)| (*first, rest))
}

/// Pieces of an input, each behind a length of four bytes; the last one takes what is left.
fn pieces(mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk() {
        let length = (u32::from_le_bytes(*length) as usize).min(rest.len());
        let (piece, rest) = rest.split_at(length);
        pieces.push(piece);
        input = rest;
    }
    pieces
}

/// Puts pieces into an input.
pub fn joined<'a>(first: u8, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut input = vec![first];
    for piece in pieces {
        let length = u32::try_from(piece.len()).expect("a seed is small");
        input.extend_from_slice(&length.to_le_bytes());
        input.extend_from_slice(piece);
    }
    input
}

/// Demands that a refusal says something.
fn refused(error: impl std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.trim().is_empty(), "refused without a word");
}

/// A number in the input, if it reaches that far.
fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
}
