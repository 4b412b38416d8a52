//! A file that the disk refused to sync.
//!
//! What such a sync should have written reads well until the system is started again, and is on no disk: the system counts it as
//! written, so no later sync writes it either. A commit that builds on it would be lost with it at the next loss of power. So the
//! refusal is noted beside the file, and who opens the file next writes all that it reads to a new one first. The note need not be
//! durable: without power it is lost together with what it warns of.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use catena_runtime::{Disk, File, OpenMode};

use super::{create_new, locked};
use crate::{backend::directory, error::Fatal};

/// The note.
const NOTE: &str = "db.redb.unsynced";

/// Bytes that are copied at once.
const PIECE_BYTES: usize = 1 << 20;

fn note(dir: &Path) -> PathBuf {
    dir.join(NOTE)
}

/// Notes that a sync of the file in `dir` failed.
pub(super) fn refused(disk: &dyn Disk, dir: &Path) {
    let path = note(dir);
    if let Err(error) = disk.open(&path, OpenMode::Create) {
        tracing::error!(path = %path.display(), %error, "cannot note that the store's file was not synced");
    }
}

/// The file at `path`, which is open as `file`; written anew if it was left unsynced.
pub(super) fn settled(
    disk: &Arc<dyn Disk>,
    path: &Path,
    file: Arc<dyn File>,
) -> Result<Arc<dyn File>, Fatal> {
    let dir = path.parent().unwrap_or(path);
    let note = note(dir);
    if !disk.exists(&note) {
        return Ok(file);
    }
    let failed = |error| directory::io_error(path, error);
    // Who has it open may be about to write to it.
    if !file.try_lock().map_err(failed)? {
        return Err(locked(path));
    }
    tracing::warn!(path = %path.display(), "the disk refused to sync the store's file: it is written anew");
    let (new, new_path) = create_new(disk, dir)?;
    copy(&*file, &*new).map_err(|error| directory::io_error(&new_path, error))?;
    directory::replace(disk.as_ref(), &new_path, path)?;
    disk.remove(&note)
        .map_err(|error| directory::io_error(&note, error))?;
    Ok(new)
}

/// Copies a file durably; what is zero stays a hole.
fn copy(from: &dyn File, to: &dyn File) -> io::Result<()> {
    let len = from.len()?;
    to.set_len(len)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    while offset < len {
        let bytes = (len - offset).min(PIECE_BYTES as u64);
        let piece = &mut piece[..bytes as usize];
        from.read_exact_at(piece, offset)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, offset)?;
        }
        offset += bytes;
    }
    to.sync()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use catena_runtime::SystemDisk;

    use super::*;
    use crate::backend::{
        Bucket, Change,
        redb::{FILE, Redb},
        rewrite::Files,
    };

    fn put(key: &'static str, bytes: usize) -> Change {
        Change::Put(Bucket::Key, key.into(), vec![7; bytes].into())
    }

    #[test]
    fn an_unsynced_file_is_written_anew_and_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let inode = || std::fs::metadata(dir.path().join(FILE)).unwrap().ino();
        let redb = Redb::open(&disk, dir.path()).unwrap();
        // More than one piece, not a whole number of them.
        Files::write(&redb, &[put("a", 3 << 20), put("b", 5)]).unwrap();
        drop(redb);
        let before = inode();
        drop(Redb::open(&disk, dir.path()).unwrap());
        assert_eq!(inode(), before, "nothing was refused");

        refused(&*disk, dir.path());
        // Two notes say no more than one.
        refused(&*disk, dir.path());
        let redb = Arc::new(Redb::open(&disk, dir.path()).unwrap());
        assert_ne!(inode(), before);
        assert!(!note(dir.path()).exists());
        let other = Redb::open(&disk, dir.path());
        assert!(matches!(other, Err(Fatal::Locked { .. })), "it is locked");
        let view = Files::view(&redb).unwrap();
        for (key, bytes) in [(&b"a"[..], 3 << 20), (b"b", 5)] {
            let value = view.get(Bucket::Key, key).unwrap();
            assert_eq!(value.unwrap().len(), bytes);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_another_process_has_open_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let redb = Redb::open(&disk, dir.path()).unwrap();
        refused(&*disk, dir.path());
        let other = Redb::open(&disk, dir.path());
        assert!(matches!(other, Err(Fatal::Locked { .. })));
        assert!(note(dir.path()).exists());
        drop(redb);
    }
}
