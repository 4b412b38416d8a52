//! sled's files: which are in use, and that they are durable.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use catena_runtime::{Disk, File, OpenMode};

use crate::{backend::directory, error::Fatal};

/// Names the generation in use.
pub(super) const CURRENT: &str = "CURRENT";

/// A set of sled's files.
pub(super) struct Generation {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) home: PathBuf,
    pub(super) number: u64,
}

impl Drop for Generation {
    fn drop(&mut self) {
        let replaced = match current_generation(self.disk.as_ref(), &self.home) {
            Ok(current) => current != self.number,
            Err(_) => false,
        };
        if replaced {
            // The next open tries again.
            let dir = self.home.join(self.number.to_string());
            let _left_for_next_open = self.disk.remove_dir_all(&dir);
        }
    }
}

/// sled's files, and which of them have durable names.
pub(super) struct SyncedFiles {
    dir: PathBuf,
    /// The log, which every batch is appended to.
    log: Arc<dyn File>,
    /// The others, which do not change once they are written.
    synced: BTreeSet<PathBuf>,
}

impl SyncedFiles {
    pub(super) fn open(disk: &Arc<dyn Disk>, dir: PathBuf) -> Result<Self, Fatal> {
        let log = dir.join("db");
        Ok(Self {
            log: disk
                .open(&log, OpenMode::Read)
                .map_err(|e| directory::io_error(&log, e))?,
            dir,
            synced: BTreeSet::new(),
        })
    }

    pub(super) fn sync(&mut self, disk: &dyn Disk) -> Result<(), Fatal> {
        // Blobs first: the log refers to them.
        let blobs = self.dir.join("blobs");
        let mut present = self.sync_new(disk, &blobs)?;
        self.log
            .sync()
            .map_err(|error| directory::io_error(&self.dir.join("db"), error))?;
        present.append(&mut self.sync_new(disk, &self.dir.clone())?);
        self.synced = present;
        Ok(())
    }

    /// Syncs the files of a directory that were not there before; all that are there.
    fn sync_new(&self, disk: &dyn Disk, dir: &Path) -> Result<BTreeSet<PathBuf>, Fatal> {
        let names = disk
            .list(dir)
            .map_err(|error| directory::io_error(dir, error))?;
        let present: BTreeSet<_> = names.iter().map(|name| dir.join(name)).collect();
        let mut any = false;
        for path in present.difference(&self.synced) {
            any = true;
            match disk.open(path, OpenMode::Read).and_then(|file| file.sync()) {
                // sled replaced it meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| directory::io_error(path, error))?,
            }
        }
        if any {
            disk.sync_dir(dir)
                .map_err(|error| directory::io_error(dir, error))?;
        }
        Ok(present)
    }
}

/// The number in the file [`CURRENT`].
pub(super) fn current_generation(disk: &dyn Disk, home: &Path) -> Result<u64, Fatal> {
    let path = home.join(CURRENT);
    let text = directory::read_small(disk, &path)?;
    text.trim().parse().map_err(|_| Fatal::Damaged {
        path,
        what: format!(
            "it should hold the number of a directory beside it, but says {text:?}: put the number back, or restore a backup"
        ),
    })
}
