//! What can go wrong, by what the caller can do about it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why the log did not do what it was asked. Cheap to clone, because one failure answers everybody who waits.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused; final for this log. It opens again when the cause is gone.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// Something that was durable cannot be read any more.
    #[error(
        "{} is damaged at offset {offset}: {what}; entries that this member acknowledged may be lost, so it must not start from \
         this log",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the first unreadable record begins.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// The log was written by another version of this program.
    #[error("{} has log format {found}, this build reads format {known}: start it with the version that wrote it", path.display())]
    Format {
        /// The segment.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another process, or another handle in this one, has the directory.
    #[error("{} is locked: another process uses this data directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The caller asked for what cannot be: a hole between entries, an entry already purged, a record too large.
    #[error("{what}")]
    Invalid {
        /// What, exactly.
        what: String,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    /// Turns an I/O error on `path` into one of ours.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset,
            what: what.into(),
        }
    }

    /// Whether the disk is full: the log opens again once there is room.
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}
