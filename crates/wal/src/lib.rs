//! A segmented, checksummed, group-committing log. It knows nothing of Raft beyond the words.
//!
//! One ordered stream of [`Record`]s holds entries, votes, truncations, purges and commit marks. That order is the whole point:
//! after a crash the log is a prefix of what was appended, so an entry never outlives the vote or the truncation before it.
//!
//! ```text
//!  append ──► queue (bounded in bytes) ──► writer: encode all that waits, one write, one sync ──► callbacks, in order
//!     │                                        │ rotates                   ▲ takes the prepared file
//!     ▼                                        ▼                           │
//!  view + cache (read at once)            segment n, n+1, …            keeper: zeroes the next segment, removes purged ones
//! ```
//!
//! [`Wal::open`] recovers a directory and starts the writer; [`Wal::append`] returns when the records are readable by every
//! handle, and calls back when they are durable; [`Wal::append_here`] is the writer itself, where that has nothing to do. Old entries are read from the segments through an index of one position per
//! 64 KiB, so memory does not grow with the number of entries.
//!
//! # On disk
//!
//! A segment is a header (see `segment.rs`) and then records, each `length u32 | kind u8 | crc u32 | body`, little endian, where the
//! checksum continues that of the record before. Behind the last record the file is zero. Every write starts with a batch record,
//! which names its own position and the *watermark*: the position before which everything was durable when it was written.
//!
//! # Torn or damaged
//!
//! Recovery stops at the first record that does not check. If a batch record behind it claims a watermark beyond it, or a later
//! segment exists, the record was durable once, may have been acknowledged, and is damaged: the log refuses to open. Otherwise it
//! belongs to a write that never completed, and is cut off. What follows the last watermark is written and synced again before the
//! log opens: a sync that failed may have left pages that read well and are on no disk.
//!
//! # Failure
//!
//! The first failed write or sync is final. It is never tried again, every later call gets the same error, [`Wal::failed`]
//! resolves, and the process is expected to exit.
//!
//! What is deliberately absent: retries, compression, and any reading of what an entry means.

mod cache;
mod desk;
mod error;
mod index;
mod keeper;
mod record;
mod recover;
mod scan;
mod segment;
mod shared;
mod view;
mod wal;
mod window;
mod writer;

pub use error::Error;
pub use record::Record;
pub use wal::{Observer, Options, Recovered, Torn, Wal};
