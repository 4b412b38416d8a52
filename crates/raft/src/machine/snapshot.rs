//! Snapshots: taken by a flush, copied only when a follower needs one.

use std::{io, sync::Arc};

use catena_store::{
    Prepared, Snapshot as Frozen, Store,
    backend::{Dump, Load, Staged},
};
use openraft::storage::{RaftSnapshotBuilder, Snapshot};

use super::{Machine, log_id, stored_membership};
use crate::{
    blocking::blocking,
    types::{CommittedLeaderId, Peer, SnapshotMeta, Types},
};

/// What a snapshot consists of.
pub(crate) enum SnapshotData {
    /// A frozen picture of our own state, to be sent.
    Local(Arc<Frozen>),
    /// One that was received and lies in an engine of its own, durable and verified.
    Received(Box<Ready>),
}

/// A received snapshot with which everything slow is done: it needs but to be swapped in.
pub(crate) struct Ready {
    pub(super) staged: Staged,
    pub(super) prepared: Prepared,
}

type Taken = Snapshot<CommittedLeaderId, u64, Peer, SnapshotData>;

impl Machine {
    /// A frozen picture of what is applied now; none while nothing is.
    pub(super) fn current_snapshot(&self) -> io::Result<Option<Taken>> {
        let frozen = self.reader.snapshot();
        let Some(last) = frozen.position() else {
            return Ok(None);
        };
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(last)),
            last_membership: stored_membership(frozen.membership())?,
        };
        Ok(Some(Snapshot {
            meta,
            snapshot: SnapshotData::Local(Arc::new(frozen)),
        }))
    }

    /// Copies a picture into a new engine aside.
    pub(super) async fn copy_local(&self, frozen: Arc<Frozen>) -> io::Result<Box<Ready>> {
        let staged = self.stage().await?;
        let backend = staged.backend().clone();
        blocking(&self.runtime, "copy snapshot", move || {
            let mut dump = Dump::new(frozen, bytes::Bytes::new());
            let mut load = Load::new(backend);
            while let Some(frame) = dump.next_frame().map_err(io::Error::other)? {
                load.push(&frame).map_err(io::Error::other)?;
            }
            load.finish().map_err(io::Error::other)
        })
        .await?;
        self.prepare(staged).await
    }

    /// Rebuilds the state that lies in an engine aside.
    pub(crate) async fn prepare(&self, staged: Staged) -> io::Result<Box<Ready>> {
        let backend = staged.backend().clone();
        let prepared = blocking(&self.runtime, "prepare snapshot", move || {
            Store::prepare(backend)
        });
        let prepared = prepared.await.map_err(io::Error::other)?;
        Ok(Box::new(Ready { staged, prepared }))
    }

    /// An empty engine aside, for a snapshot to be received.
    pub(crate) async fn stage(&self) -> io::Result<Staged> {
        let (engine, disk, dir) = (
            self.engine,
            self.runtime.disk.clone(),
            self.snap_dir.clone(),
        );
        blocking(&self.runtime, "stage snapshot", move || {
            Staged::begin(engine, &disk, &dir).map_err(io::Error::other)
        })
        .await
    }
}

/// Takes snapshots beside apply.
pub(crate) struct Builder {
    machine: Arc<Machine>,
}

impl Builder {
    pub(super) fn new(machine: Arc<Machine>) -> Self {
        Self { machine }
    }
}

impl<C: Types> RaftSnapshotBuilder<C> for Builder {
    type SnapshotData = SnapshotData;

    /// Brings what is applied into the engine and says how far that is. What is reported may be purged from the log right after.
    async fn build_snapshot(&mut self) -> io::Result<Taken> {
        let durable = self.machine.flush().await?;
        Ok(Snapshot {
            meta: SnapshotMeta {
                last_log_id: durable.last,
                last_membership: durable.membership,
            },
            snapshot: SnapshotData::Local(Arc::new(self.machine.reader.snapshot())),
        })
    }
}
