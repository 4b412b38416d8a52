//! A member's data directory from a snapshot file.
//!
//! The directory looks as if the cluster had been founded, the state of the file had been its first entries, and the log had been
//! purged behind them. Every member of the new cluster restores the same file with the same list of members, so all of them begin
//! with the same state at the same place of the log.
//!
//! ```text
//! snap/     the file's data, the members, the membership, applied = (term 1, index = number of members)
//! wal/      purged up to there; a vote in term 1, so that the first election is in term 2
//! identity  written last: a directory without it was not restored to the end, and is refused by the next restore
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use catena_runtime::Runtime;
use catena_store::{
    Member, Position,
    backend::{Engine, Staged},
    bbolt,
    import::{self, Founding, import},
};
use catena_wal::{Options, Record, Wal};

use crate::{
    StartError,
    blocking::blocking,
    identity::{self, Layout},
    types::{self, LogId, Peer, Vote},
    wire,
};

/// Term that the restored state counts as written in, as in etcd.
const TERM: u64 = 1;

/// What is to be restored, and for whom.
#[derive(Clone, Debug)]
pub struct Restore {
    /// Where; absent or empty.
    pub data_dir: PathBuf,
    /// The engine that will keep the applied state.
    pub engine: Engine,
    /// The new cluster's id.
    pub cluster_id: u64,
    /// The member whose directory it is, one of `members`.
    pub member_id: u64,
    /// All members of the new cluster.
    pub members: Vec<Member>,
    /// By how much the revision is raised; 0 leaves history as it is.
    pub revision_bump: i64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is something already.
    #[error("data-dir \"{0}\" not empty or could not be read")]
    NotEmpty(PathBuf),
    /// The list of members has no voter, or lacks this member.
    #[error("the list of members does not make a cluster with this member")]
    Members,
    /// The snapshot file or the engine.
    #[error(transparent)]
    Import(#[from] import::Error),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] StartError),
}

/// Restores `file`.
pub async fn restore(
    runtime: &Runtime,
    restore: Restore,
    file: bbolt::Reader,
) -> Result<(), RestoreError> {
    let dir = restore.data_dir.clone();
    let is_taken = |dir: &Path| {
        runtime
            .disk
            .list(dir)
            .map_or(true, |names| !names.is_empty())
    };
    if runtime.disk.exists(&dir) && is_taken(&dir) {
        return Err(RestoreError::NotEmpty(dir));
    }
    if !restore
        .members
        .iter()
        .any(|member| member.id == restore.member_id)
    {
        return Err(RestoreError::Members);
    }
    let layout = Layout::new(&dir);
    let position = Position {
        term: TERM,
        index: restore.members.len() as u64,
    };
    let founding = Founding {
        cluster_id: restore.cluster_id,
        membership: membership(&restore.members).ok_or(RestoreError::Members)?,
        members: restore.members,
        position,
        revision_bump: restore.revision_bump,
    };
    let first = founding.members.iter().map(|member| member.id).min();
    fill(runtime, restore.engine, &layout, file, founding).await?;
    write_log(
        runtime,
        &layout,
        position,
        first.unwrap_or(restore.member_id),
    )
    .await?;
    identity::open(runtime, &dir, restore.cluster_id, restore.member_id)?;
    Ok(())
}

/// The membership of a cluster whose members are all voters, as the store keeps it.
fn membership(members: &[Member]) -> Option<Bytes> {
    let voters: BTreeSet<u64> = members.iter().map(|member| member.id).collect();
    let peers: BTreeMap<u64, Peer> = members
        .iter()
        .map(|member| {
            let (name, peer_urls) = (member.name.clone(), member.peer_urls.clone());
            (member.id, Peer { name, peer_urls })
        })
        .collect();
    types::membership(voters, peers).as_ref().map(wire::encode)
}

async fn fill(
    runtime: &Runtime,
    engine: Engine,
    layout: &Layout,
    file: bbolt::Reader,
    founding: Founding,
) -> Result<(), RestoreError> {
    let (disk, dir) = (runtime.disk.clone(), layout.snap());
    let filled = blocking(runtime, "restore", move || {
        disk.create_dir_all(&dir)
            .map_err(|error| identity::io(&dir, error))?;
        let staged = Staged::begin(engine, &disk, &dir).map_err(StartError::from)?;
        import(&file, staged.backend().as_ref(), &founding)?;
        staged.commit().map_err(StartError::from)?;
        Ok(())
    });
    filled.await
}

async fn write_log(
    runtime: &Runtime,
    layout: &Layout,
    position: Position,
    voted_for: u64,
) -> Result<(), StartError> {
    let (runtime_of_wal, dir) = (runtime.clone(), layout.wal());
    let opened = blocking(runtime, "open log", move || {
        Wal::open(&runtime_of_wal, &dir, Options::default())
    });
    let (wal, _) = opened.await?;
    let upto: LogId = wire::log_id(position.term, position.index);
    let vote = Vote::new(TERM, voted_for);
    let records = vec![
        Record::Vote(wire::encode(&vote)),
        Record::Purge {
            upto: position.index,
            mark: wire::encode(&upto),
        },
    ];
    wal.write(records).await?;
    wal.close().await;
    Ok(())
}
