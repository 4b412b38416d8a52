//! redb's storage on our disk, so that a simulation's disk can stand in its place.

use std::{ops::Bound, path::PathBuf, sync::Arc};

use ::redb::{BackendError, StorageBackend};
use catena_runtime::{Disk, File};

use super::unsynced;

/// A file as redb sees it.
pub(super) struct Storage {
    file: Arc<dyn File>,
    disk: Arc<dyn Disk>,
    /// Where the file lies.
    dir: PathBuf,
}

impl Storage {
    /// Of a file that this process holds the lock of.
    pub(super) fn new(file: Arc<dyn File>, disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { file, disk, dir }
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage").finish_non_exhaustive()
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let synced = self.file.sync();
        synced.inspect_err(|_| unsynced::refused(&*self.disk, &self.dir))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.file.write_all_at(data, offset)
    }

    // The file is locked as a whole by the one who opened it, until it is closed.
    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
