//! An engine made aside, to be put in the place of the one in use.

use std::{path::Path, sync::Arc};

use catena_runtime::Disk;

use super::{
    Backend, Engine, directory,
    memory::Memory,
    redb::Redb,
    rewrite::{Files, Rewrite},
    sled::Sled,
};
use crate::error::Fatal;

/// A new, empty engine in the directory of another one, or in a new directory. It is filled through [`Staged::backend`], then
/// [`Staged::commit`] or [`Staged::replace`] makes it the one that [`super::open`] finds: a rename and a sync, however large it is.
///
/// A crash before that leaves the old one, and the next open removes what is left of this one; so does dropping it. The old engine
/// keeps its own files until it and the last of its views are dropped.
pub struct Staged {
    backend: Arc<dyn Backend>,
    promote: Box<dyn FnOnce() -> Result<(), Fatal> + Send>,
}

impl Staged {
    /// Begins with an empty engine.
    pub fn begin(engine: Engine, disk: &Arc<dyn Disk>, dir: &Path) -> Result<Self, Fatal> {
        directory::claim(engine, disk.as_ref(), dir)?;
        Ok(match engine {
            Engine::Redb => Self::of(Redb::create(disk, dir)?),
            Engine::Sled => Self::of(Sled::create(disk, dir)?),
            Engine::Memory => Self {
                backend: Arc::new(Memory::default()),
                promote: Box::new(|| Ok(())),
            },
        })
    }

    fn of<F: Files>(files: F) -> Self {
        let backend = Arc::new(Rewrite::new(files));
        let promoted = Arc::clone(&backend);
        Self {
            backend,
            promote: Box::new(move || promoted.promote()),
        }
    }

    /// The engine, for filling it.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Makes it the one that the next open finds, while no other is open. What was written to it is durable already.
    pub fn commit(self) -> Result<Arc<dyn Backend>, Fatal> {
        (self.promote)()?;
        Ok(self.backend)
    }

    /// The same in the place of `old`, which is open: it takes no more writes, and a defragmentation of it that runs gives up, since
    /// it would put its files in the place of these.
    pub fn replace(self, old: &dyn Backend) -> Result<Arc<dyn Backend>, Fatal> {
        old.retire();
        self.commit()
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staged").finish_non_exhaustive()
    }
}
