//! What each request pays, piece by piece, through the crates' public interfaces.
//!
//! - [`Piece`]: work of the CPU alone: apply, reads over the key index, event hub, encoding; timed, and counted in instructions by
//!   callgrind where valgrind is installed, since a count does not depend on what else the machine does;
//! - [`wal`]: the log beside a bare loop of append and `fdatasync`, and its reopening.

mod encode;
mod instructions;
mod store;
pub(crate) mod wal;

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;

pub(crate) use instructions::instructions;

/// A piece of work that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Piece {
    /// A put of one of 10,000 keys, applied in entries of 64.
    Apply,
    /// The same beside 10,000 watchers of other keys.
    ApplyBesideWatchers,
    /// A read of one of 100,000 keys.
    Get,
    /// A key of a range of 1000.
    Range,
    /// An event to one of 1000 watchers of a key, from the hub to the response.
    Event,
    /// The encoding of an answer to a put.
    EncodePut,
    /// The encoding of a key of an answer with 1000.
    EncodeRange,
    /// The encoding of a watch response with one event.
    EncodeEvent,
}

impl Piece {
    /// The name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Piece::Apply => "apply: a put, in entries of 64",
            Piece::ApplyBesideWatchers => "apply: the same beside 10,000 watchers of other keys",
            Piece::Get => "key index: a get among 100,000 keys",
            Piece::Range => "key index: a key of a range of 1000",
            Piece::Event => "event hub: an event to one of 1000 watchers",
            Piece::EncodePut => "encode: an answer to a put",
            Piece::EncodeRange => "encode: a key of an answer with 1000",
            Piece::EncodeEvent => "encode: a watch response with one event",
        }
    }

    /// Does it about so often; gives how often, and how long it took.
    pub(crate) fn run(self, times: u64) -> Result<(u64, Duration)> {
        match self {
            Piece::Apply => store::apply(times, 0),
            Piece::ApplyBesideWatchers => store::apply(times, 10_000),
            Piece::Get => store::get(times),
            Piece::Range => store::range(times),
            Piece::Event => store::event(times),
            Piece::EncodePut => encode::put(times),
            Piece::EncodeRange => encode::range(times),
            Piece::EncodeEvent => encode::event(times),
        }
    }
}

/// The part of a piece that counts. Callgrind knows it by its name.
#[inline(never)]
fn measured(work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}
