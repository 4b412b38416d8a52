//! Whose data directory it is.
//!
//! ```text
//! <data-dir>/member/identity     cluster id, member id, incarnation, format
//! <data-dir>/member/wal/         the log
//! <data-dir>/member/snap/        the applied state
//! <data-dir>/member/peers        incarnations of the other members, as first met
//! ```
//!
//! The incarnation is drawn when the directory is made. The other members remember it, so that a member that lost its data, and
//! with it the votes and entries that it once promised to keep, cannot come back under its old id.

use std::path::{Path, PathBuf};

use catena_runtime::{Disk, OpenMode, Runtime};
use catena_store::codec::{self, Malformed};
use serde::{Deserialize, Serialize};

use crate::{Remedy, StartError, files};

/// Layout of the data directory written today. A newer one is refused.
const FORMAT: u32 = 1;

/// Most bytes of a small file: far above what identity or record of peers take, so that a damaged one cannot make us allocate.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Who a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The member's id.
    pub member_id: u64,
    /// Drawn when the data directory was made.
    pub incarnation: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    cluster_id: u64,
    member_id: u64,
    incarnation: u64,
}

/// Paths in a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    member: PathBuf,
}

impl Layout {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self {
            member: data_dir.join("member"),
        }
    }

    pub(crate) fn member(&self) -> &Path {
        &self.member
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.member.join("identity")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.member.join("wal")
    }

    pub(crate) fn snap(&self) -> PathBuf {
        self.member.join("snap")
    }

    pub(crate) fn peers(&self) -> PathBuf {
        self.member.join("peers")
    }
}

/// The identity that a data directory has, if it was ever used. One that was used and has none is refused.
pub fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Identity>, StartError> {
    let found = load(disk, data_dir)?;
    if found.is_none() {
        files::check_identity(disk, &Layout::new(data_dir))?;
    }
    Ok(found)
}

fn load(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Identity>, StartError> {
    let path = Layout::new(data_dir).identity();
    if !disk.exists(&path) {
        return Ok(None);
    }
    let refuse = |what: String, remedy: Remedy| StartError::DataDir {
        path: path.clone(),
        what,
        remedy,
    };
    let bytes = read_small(disk, &path)?;
    let record: Record = codec::decode(&bytes).map_err(|error| match error {
        Malformed::Format(_) => refuse(error.to_string(), Remedy::OtherVersion),
        damage => refuse(
            format!("the identity of the data directory is damaged: {damage}"),
            Remedy::Replace,
        ),
    })?;
    if record.format > FORMAT {
        let what = format!(
            "the data directory has format {}, this version reads up to {FORMAT}",
            record.format
        );
        return Err(refuse(what, Remedy::OtherVersion));
    }
    Ok(Some(Identity {
        cluster_id: record.cluster_id,
        member_id: record.member_id,
        incarnation: record.incarnation,
    }))
}

/// Reads the identity of a data directory, or makes a new one there. A directory of another member or cluster is refused.
pub fn open(
    runtime: &Runtime,
    data_dir: &Path,
    cluster_id: u64,
    member_id: u64,
) -> Result<Identity, StartError> {
    let Some(identity) = load(runtime.disk.as_ref(), data_dir)? else {
        let identity = Identity {
            cluster_id,
            member_id,
            incarnation: runtime.random.next_u64(),
        };
        write(runtime.disk.as_ref(), data_dir, &identity)?;
        return Ok(identity);
    };
    if (identity.cluster_id, identity.member_id) != (cluster_id, member_id) {
        return Err(StartError::DataDir {
            path: Layout::new(data_dir).identity(),
            what: format!(
                "the data directory belongs to member {:x} of cluster {:x}, not to member {member_id:x} of cluster {cluster_id:x}",
                identity.member_id, identity.cluster_id
            ),
            remedy: Remedy::OtherDirectory,
        });
    }
    Ok(identity)
}

pub(crate) fn write(
    disk: &dyn Disk,
    data_dir: &Path,
    identity: &Identity,
) -> Result<(), StartError> {
    let layout = Layout::new(data_dir);
    let record = codec::encode(&Record {
        format: FORMAT,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        incarnation: identity.incarnation,
    });
    disk.create_dir_all(layout.member())
        .map_err(|error| io(layout.member(), error))?;
    replace(disk, &layout.identity(), &record)?;
    disk.sync_dir(data_dir).map_err(|error| io(data_dir, error))
}

/// Reads a small file whole.
pub(crate) fn read_small(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, StartError> {
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
        let len = file.len()?.min(FILE_BYTES_MAX);
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    };
    read().map_err(|error| io(path, error))
}

/// Replaces a small file as one step that survives a crash.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), StartError> {
    let new = path.with_extension("new");
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        if disk.exists(&new) {
            disk.remove(&new)?;
        }
        let file = disk.open(&new, OpenMode::CreateNew)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        disk.rename(&new, path)?;
        disk.sync_dir(dir)
    };
    write().map_err(|error| io(path, error))
}

pub(crate) fn io(path: &Path, error: std::io::Error) -> StartError {
    StartError::Io {
        path: path.to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<impl std::fmt::Debug, StartError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn reopened_directory_keeps_its_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::system();
        let first = open(&runtime, dir.path(), 1, 2).unwrap();
        assert_eq!(open(&runtime, dir.path(), 1, 2).unwrap(), first);
        assert_eq!(
            read(runtime.disk.as_ref(), dir.path()).unwrap(),
            Some(first)
        );
    }

    #[test]
    fn directory_of_another_member_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::system();
        open(&runtime, dir.path(), 1, 2).unwrap();
        assert!(refusal(open(&runtime, dir.path(), 1, 3)).contains("belongs to member 2"));
        assert!(refusal(open(&runtime, dir.path(), 9, 2)).contains("of cluster 1"));
    }

    #[test]
    fn newer_format_and_damage_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = Runtime::system();
        open(&runtime, dir.path(), 1, 2).unwrap();
        let path = Layout::new(dir.path()).identity();
        let newer = Record {
            format: FORMAT + 1,
            cluster_id: 1,
            member_id: 2,
            incarnation: 3,
        };
        std::fs::write(&path, codec::encode(&newer)).unwrap();
        assert!(
            refusal(read(runtime.disk.as_ref(), dir.path())).contains("has format 2, this version")
        );
        std::fs::write(&path, b"\x01").unwrap();
        assert!(refusal(read(runtime.disk.as_ref(), dir.path())).contains("damaged"));
    }
}
