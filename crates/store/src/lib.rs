//! The replicated state machine: mvcc, lease, watch, members and alarms behind one `apply`.
//!
//! - [`Store`] is the one writer. It applies the entries of the log in order, and nothing else changes the state.
//! - [`Reader`] is what everybody else holds: reads, watches, hashes and snapshots, none of which a writer waits for.
//! - [`Committer`] carries what was applied to the engine, behind the log, in atomic batches that hold the applied position too.
//! - [`backend`] is where the applied state lies.
//!
//! ```text
//!             entry                       Sealed
//!   raft ──────────────▶ Store::apply ──────────────▶ Committer ──▶ Backend
//!                           │  publishes                 │ publishes
//!                           ▼                            ▼
//!                    State = index + leases + members + … + records (overlay over a view of the engine)
//!                           ▲ holds                      ▲ wakes
//!                        Reader                      WatchStream
//! ```
//!
//! A published state is immutable. It has the whole key index, which is copy-on-write, and finds a value by its revision: in the
//! overlay if the engine does not have it yet, else in a view of the engine that belongs to the same state. So a reader needs no
//! lock, sees one moment, and compaction takes nothing from under it.
//!
//! What is deliberately absent: clock, randomness, tasks and sockets. Two stores that applied the same entries are equal.

mod alarm;
pub mod backend;
pub mod bbolt;
pub mod check;
pub mod codec;
mod command;
mod committer;
mod error;
pub mod import;
mod lease;
mod member;
mod meta;
mod mvcc;
pub mod quota;
mod reader;
mod replay;
mod restore;
mod snapshot;
mod state;
mod store;
mod watch;

pub use command::{
    Command, Identity, LeaseCheckpoint, Member, MemberChange, Outcome, Position, Request, Response,
};
pub use committer::{Committer, Sealed};
pub use error::{Error, Fatal, ReadError};
pub use lease::{LeaseChange, LeaseFeed, LeaseView};
pub use member::Members;
pub use reader::{KvHash, RangeStream, Reader};
pub use snapshot::Snapshot;
pub use store::{Entry, Options, Prepared, Replaced, Store};
pub use watch::{Delivery, DeliveryKind, InboxLoad, Ready, WatchLoad, WatchStream};
