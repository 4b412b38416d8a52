//! Where applied state lies: an ordered map in buckets.
//!
//! The contract, which one conformance suite checks for every engine:
//! - [`Backend::write`] is atomic, durable when it returns, and called by one thread at a time;
//! - [`Backend::view`] is a consistent snapshot that neither blocks nor is changed by later writes;
//! - keys ascend bytewise within a bucket;
//! - after a crash, kill or loss of power exactly the batches whose write had returned are there, and perhaps the last one whose
//!   write had not, whole;
//! - memory use does not grow with the data.
//!
//! The Raft log never lies here, and no batch is written before the log has made it durable.
//!
//! [`open`] finds or makes an engine in a directory, [`Staged`] makes one aside and puts it in the place of the one that is there,
//! [`Dump`] and [`Load`] carry the contents from one member to another, whatever their engines. Two engines keep files: redb and
//! sled. What is alike in both, the rewriting beside the traffic, is in `rewrite`; what stands in the directory and how it is found
//! after a crash, in `directory`.

mod directory;
mod dump;
mod memory;
mod redb;
mod rewrite;
mod sled;
mod slice;
mod staged;

#[cfg(test)]
mod conformance;

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use catena_runtime::Disk;

pub use dump::{Dump, FRAME_BYTES_MAX, Load, LoadError, Loaded};
pub use staged::Staged;

use crate::error::Fatal;

/// Opens the engine in `dir`, which is made if it does not exist. What an interrupted defragmentation or installation left is
/// removed.
///
/// Refused, with what to do: a directory made by another engine, one that another process has open, one of etcd itself, and damaged
/// files.
pub fn open(engine: Engine, disk: &Arc<dyn Disk>, dir: &Path) -> Result<Arc<dyn Backend>, Fatal> {
    directory::claim(engine, disk.as_ref(), dir)?;
    Ok(match engine {
        Engine::Redb => Arc::new(rewrite::Rewrite::new(redb::Redb::open(disk, dir)?)),
        Engine::Sled => Arc::new(rewrite::Rewrite::new(sled::Sled::open(disk, dir)?)),
        Engine::Memory => Arc::new(memory::Memory::default()),
    })
}

/// The buckets, named as in etcd's own database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(
    missing_docs,
    reason = "the names are etcd's; etcd-behaviour, chapter 15.7, says what each holds"
)]
pub enum Bucket {
    Alarm,
    Auth,
    AuthRoles,
    AuthUsers,
    Cluster,
    Key,
    Lease,
    Members,
    MembersRemoved,
    Meta,
}

impl Bucket {
    /// All buckets, in bytewise order of their names.
    pub const ALL: [Bucket; 10] = [
        Bucket::Alarm,
        Bucket::Auth,
        Bucket::AuthRoles,
        Bucket::AuthUsers,
        Bucket::Cluster,
        Bucket::Key,
        Bucket::Lease,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Meta,
    ];

    /// The bucket's number in files: its place in [`Bucket::ALL`]. Never changes.
    pub(crate) fn tag(self) -> u8 {
        self as u8
    }

    /// The bucket of a number in a file.
    pub(crate) fn from_tag(tag: u8) -> Option<Bucket> {
        Bucket::ALL.get(usize::from(tag)).copied()
    }

    /// The bucket's name in files.
    pub fn name(self) -> &'static str {
        match self {
            Bucket::Alarm => "alarm",
            Bucket::Auth => "auth",
            Bucket::AuthRoles => "authRoles",
            Bucket::AuthUsers => "authUsers",
            Bucket::Cluster => "cluster",
            Bucket::Key => "key",
            Bucket::Lease => "lease",
            Bucket::Members => "members",
            Bucket::MembersRemoved => "members_removed",
            Bucket::Meta => "meta",
        }
    }
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put(Bucket, Bytes, Bytes),
    /// Removes a key; a missing one is no error.
    Delete(Bucket, Bytes),
}

impl Change {
    /// The bucket and key that it changes.
    pub fn key(&self) -> (Bucket, &Bytes) {
        match self {
            Change::Put(bucket, key, _) | Change::Delete(bucket, key) => (*bucket, key),
        }
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        match self {
            Change::Put(_, key, value) => key.len() + value.len(),
            Change::Delete(_, key) => key.len(),
        }
    }
}

/// Bytes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What the files take on disk.
    pub physical: u64,
    /// The part of it that holds data: computed from the pairs and each engine's overhead, so an estimate.
    pub in_use: u64,
}

/// A storage engine.
pub trait Backend: Send + Sync + 'static {
    /// Makes the changes, in order, as one unit, and durable.
    fn write(&self, changes: &[Change]) -> Result<(), Fatal>;

    /// A consistent snapshot of what is written.
    fn view(&self) -> Result<Box<dyn View>, Fatal>;

    /// Sizes, cheap enough to ask for with every request.
    fn sizes(&self) -> Sizes;

    /// Gives space back to the file system, while reads and writes go on. An error leaves the old files in use and, unless writing
    /// then fails too, nothing is lost.
    fn defragment(&self) -> Result<(), Fatal>;

    /// Ends writing and defragmenting, because another engine takes the place of this one. Views stay.
    fn retire(&self) {}
}

/// A consistent snapshot. Long-lived views cost space: what they show cannot be reused meanwhile.
pub trait View: Send + Sync {
    /// The value of a key.
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal>;

    /// Calls `visit` for the pairs with `from <= key < to` (to the end of the bucket if `to` is `None`), ascending, until it
    /// answers [`Visit::Stop`].
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal>;
}

/// Whether a scan goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// To the next pair.
    Continue,
    /// No further.
    Stop,
}

/// Which engine keeps the applied state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// redb, the default.
    #[default]
    Redb,
    /// sled 0.34.7.
    Sled,
    /// Memory only: for tests.
    Memory,
}

impl Engine {
    /// The name in flags, messages and the directory's marker.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Redb => "redb",
            Engine::Sled => "sled",
            Engine::Memory => "memory",
        }
    }

    /// The engine of a name.
    pub fn from_name(name: &str) -> Option<Engine> {
        [Engine::Redb, Engine::Sled, Engine::Memory]
            .into_iter()
            .find(|engine| engine.name() == name)
    }
}
