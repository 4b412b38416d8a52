//! The state in a snapshot file as the first state of a new cluster.
//!
//! What users stored is taken over as it is: records of keys, leases, alarms, the cluster's version. Who the members were is not:
//! the new cluster has members of its own, and all of them import the same file. Revisions can be raised, and everything before
//! declared compacted, so that no watcher or cache of the old cluster takes the new one's history for a continuation of its own.

use bytes::Bytes;

use crate::{
    Fatal, Member, Members, Position,
    backend::{Backend, Bucket, Change, Visit},
    bbolt, meta,
    mvcc::Revision,
};

/// Bytes written to the engine as one batch: enough to make its cost per batch small, little beside a member's memory.
const BATCH_BYTES: usize = 4 << 20;

/// The buckets that are taken over whole. Those of authentication are not: see [`Error::Authentication`].
const KEPT: [Bucket; 4] = [Bucket::Key, Bucket::Lease, Bucket::Alarm, Bucket::Cluster];

/// The records of `meta` that are about data and not about the old cluster's log.
const KEPT_META: [&[u8]; 2] = [meta::SCHEDULED, meta::FINISHED];

/// The new cluster.
#[derive(Clone, Debug)]
pub struct Founding {
    /// Its id.
    pub cluster_id: u64,
    /// All its members.
    pub members: Vec<Member>,
    /// The place in the log that the imported state counts as applied at.
    pub position: Position,
    /// Raft's membership there, opaque.
    pub membership: Bytes,
    /// By how much the revision is raised; 0 leaves history as it is.
    pub revision_bump: i64,
}

/// Why a file is not imported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] bbolt::Error),
    /// The engine.
    #[error(transparent)]
    Backend(#[from] Fatal),
    /// The file's data is behind users and passwords, which this version would not ask for.
    #[error(
        "the snapshot has authentication enabled, which is not built yet: its data would be open to everyone; disable authentication before the snapshot is taken"
    )]
    Authentication,
    /// Raising the revision would leave the numbers.
    #[error("the revision {0} cannot be raised by {1}")]
    Bump(i64, i64),
}

/// Copies `file` into `backend`, which is empty. If it fails, what is in the backend is of no use.
pub fn import(
    file: &bbolt::Reader,
    backend: &dyn Backend,
    founding: &Founding,
) -> Result<(), Error> {
    refuse_authentication(file)?;
    let mut copy = Copy {
        backend,
        changes: Vec::new(),
        bytes: 0,
    };
    let mut last = 0;
    for bucket in KEPT {
        copy.bucket(file, bucket, |key, _| {
            if bucket == Bucket::Key {
                let (revision, _) = Revision::parse(key).ok_or_else(|| Fatal::key(bucket, key))?;
                last = last.max(revision.main);
            }
            Ok(true)
        })?;
    }
    copy.bucket(file, Bucket::Meta, |key, _| Ok(KEPT_META.contains(&key)))?;
    if founding.revision_bump > 0 {
        for change in raise(last, founding.revision_bump)? {
            copy.push(change)?;
        }
    }
    for change in of_the_cluster(founding) {
        copy.push(change)?;
    }
    Ok(copy.write()?)
}

fn refuse_authentication(file: &bbolt::Reader) -> Result<(), Error> {
    let mut enabled = false;
    file.scan(Bucket::Auth.name().as_bytes(), &mut |key, value| {
        enabled |= key == b"authEnabled" && value == [1];
        Visit::Continue
    })?;
    match enabled {
        true => Err(Error::Authentication),
        false => Ok(()),
    }
}

/// As etcd: an empty record at the raised revision, and everything up to it counted as compacted.
fn raise(last: i64, bump: i64) -> Result<[Change; 2], Error> {
    let raised = last.checked_add(bump).ok_or(Error::Bump(last, bump))?;
    let key = Revision::first(raised).key(false).to_bytes();
    let (scheduled, revision) = meta::scheduled(raised);
    Ok([
        Change::Put(Bucket::Key, key, Bytes::new()),
        Change::Put(Bucket::Meta, scheduled, revision),
    ])
}

fn of_the_cluster(founding: &Founding) -> Vec<Change> {
    let members = Members {
        cluster_id: Some(founding.cluster_id),
        present: founding
            .members
            .iter()
            .map(|member| (member.id, member.clone()))
            .collect(),
        ..Members::default()
    };
    let records = members
        .records()
        .map(|(bucket, key, value)| Change::Put(bucket, key, value));
    let membership = (Some(founding.position), founding.membership.clone());
    let meta = [
        meta::cluster_id(founding.cluster_id),
        meta::membership(&membership),
    ];
    let meta = meta.into_iter().chain(meta::position(founding.position));
    records
        .chain(meta.map(|(key, value)| Change::Put(Bucket::Meta, key, value)))
        .collect()
}

/// Changes on their way to the engine.
struct Copy<'a> {
    backend: &'a dyn Backend,
    changes: Vec<Change>,
    bytes: usize,
}

impl Copy<'_> {
    /// Copies the pairs of a bucket that `keep` wants.
    fn bucket(
        &mut self,
        file: &bbolt::Reader,
        bucket: Bucket,
        mut keep: impl FnMut(&[u8], &[u8]) -> Result<bool, Fatal>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        file.scan(bucket.name().as_bytes(), &mut |key, value| {
            let owned = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
            result = match keep(key, value) {
                Ok(true) => self.push(Change::Put(bucket, owned.0, owned.1)),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => Visit::Continue,
                Err(_) => Visit::Stop,
            }
        })?;
        Ok(result?)
    }

    fn push(&mut self, change: Change) -> Result<(), Fatal> {
        self.bytes += change.bytes();
        self.changes.push(change);
        match self.bytes > BATCH_BYTES {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<(), Fatal> {
        self.backend.write(&self.changes)?;
        self.changes.clear();
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
#[path = "import_test.rs"]
mod tests;
