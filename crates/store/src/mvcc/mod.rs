//! Keys in many versions.
//!
//! Every change of a key is a *record* under its [`Revision`]: the key-value pair after the change, or a tombstone. Records are
//! never altered, only appended and, by compaction, deleted. Two structures lead to them:
//!
//! - the [`Index`] knows, for each key, the revisions of its changes. It lies in memory whole and is copy-on-write;
//! - [`Records`] finds the record of a revision: in the overlay of what the engine does not have yet, else in a view of the engine,
//!   or among those that were read from it before.
//!
//! ```text
//!   Index   "a" ─▶ 2.0 (create 2, version 1), 5.0 (create 2, version 2), 7.0 tombstone, 9.1 (create 9, version 1)
//!           "b" ─▶ 9.0 (create 9, version 1)                └──── ends the first generation
//!
//!   Records │ engine view: 2.0 … 6.0 │ sealed layer: 7.0 │ open layer: 9.0, 9.1 │   ascending, never overlapping
//! ```

mod cache;
mod compaction;
mod hash;
mod history;
mod index;
mod interval;
mod item;
mod log;
mod range;
mod records;
mod revision;
mod run;
mod txn;
mod write;

pub(crate) use compaction::{Compaction, Slice};
pub(crate) use hash::hash_history;
pub(crate) use index::{Gathered, Index, Key};
pub(crate) use interval::{End, Interval};
pub(crate) use item::Item;
pub(crate) use range::{ReadView, StreamCursor, has_filters};
pub(crate) use records::{Base, Layer, Records, Stored};
pub(crate) use revision::Revision;
pub(crate) use txn::read_only;
pub(crate) use write::{Change, Writer};
