//! What stands in an engine's directory.
//!
//! ```text
//! ENGINE            "redb 1": engine and format version; written first, never changed
//! db.redb           redb's file
//! db.redb.N.new     one that is being written: removed by the next open
//! db.redb.unsynced  the disk refused to sync redb's file: the next open writes it anew
//! sled/CURRENT      number of sled's directory in use
//! sled/N/           sled's files; any other number is left over and removed by the next open
//! ```
//!
//! Putting another engine in the place of the one in use is a single rename of a file (`db.redb` or `sled/CURRENT`) followed by a
//! sync of its directory, so a crash leaves the old or the new one.

use std::{
    io,
    path::{Path, PathBuf},
};

use catena_runtime::{Disk, OpenMode};

use super::Engine;
use crate::error::Fatal;

/// Names the engine that made the directory.
const MARKER: &str = "ENGINE";

/// Version of the layout, raised when an older one cannot be read any more.
const FORMAT: u32 = 1;

/// Largest small file that is read: markers are a few bytes.
const SMALL_BYTES_MAX: u64 = 1 << 10;

/// Files of engines, and what it means to find them without a marker.
const UNMARKED: [(&str, &str); 2] = [
    (
        "db.redb",
        "missing, although redb's file is there: put the line `redb 1` back",
    ),
    (
        "sled",
        "missing, although sled's files are there: put the line `sled 1` back",
    ),
];

/// etcd's own file.
const FOREIGN: &str = "db";

/// Makes `dir` the directory of `engine`, or checks that it is.
pub(super) fn claim(engine: Engine, disk: &dyn Disk, dir: &Path) -> Result<(), Fatal> {
    let path = dir.join(MARKER);
    if disk.exists(&path) {
        return check(engine, &path, &read_small(disk, &path)?);
    }
    for (name, what) in UNMARKED {
        if disk.exists(&dir.join(name)) {
            let what = what.to_owned();
            return Err(Fatal::Damaged { path, what });
        }
    }
    if disk.exists(&dir.join(FOREIGN)) {
        return Err(Fatal::Engine(format!(
            "{} is the directory of an etcd, which this program cannot open: take a snapshot with `etcdctl snapshot save` and \
             restore it with `catena restore`",
            dir.display()
        )));
    }
    if engine == Engine::Memory {
        return Ok(());
    }
    disk.create_dir_all(dir)
        .map_err(|error| io_error(dir, error))?;
    sync_parents(disk, dir)?;
    write_small(disk, &path, &format!("{} {FORMAT}\n", engine.name()))
}

fn check(engine: Engine, path: &Path, marker: &str) -> Result<(), Fatal> {
    let mut words = marker.split_whitespace();
    let made_with = words.next().and_then(Engine::from_name);
    let format = words.next().and_then(|word| word.parse::<u32>().ok());
    let (Some(made_with), Some(format)) = (made_with, format) else {
        return Err(Fatal::Damaged {
            path: path.to_owned(),
            what: format!(
                "it should name a storage engine and a format, such as `redb {FORMAT}`, but says {marker:?}: put the line back"
            ),
        });
    };
    if made_with != engine {
        let dir = path.parent().unwrap_or(path).display();
        return Err(Fatal::Engine(format!(
            "{dir} was made with the engine {0} and cannot be opened with {1}: start with --storage-engine {0}, or take a snapshot \
             with {0} and restore it into an empty directory with {1}",
            made_with.name(),
            engine.name(),
        )));
    }
    if format != FORMAT {
        return Err(Fatal::Format {
            path: path.to_owned(),
            found: format,
            known: FORMAT,
        });
    }
    Ok(())
}

/// Reads a small text file.
pub(super) fn read_small(disk: &dyn Disk, path: &Path) -> Result<String, Fatal> {
    let file = disk
        .open(path, OpenMode::Read)
        .map_err(|error| io_error(path, error))?;
    let len = file
        .len()
        .map_err(|error| io_error(path, error))?
        .min(SMALL_BYTES_MAX);
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|error| io_error(path, error))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a small text file so that after a crash it has the old contents or the new.
pub(super) fn write_small(disk: &dyn Disk, path: &Path, text: &str) -> Result<(), Fatal> {
    let aside = path.with_extension("new");
    if disk.exists(&aside) {
        disk.remove(&aside)
            .map_err(|error| io_error(&aside, error))?;
    }
    let file = disk
        .open(&aside, OpenMode::CreateNew)
        .map_err(|error| io_error(&aside, error))?;
    file.write_all_at(text.as_bytes(), 0)
        .map_err(|error| io_error(&aside, error))?;
    file.sync().map_err(|error| io_error(&aside, error))?;
    replace(disk, &aside, path)
}

/// Puts one file in the place of another, durably.
pub(super) fn replace(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), Fatal> {
    disk.rename(from, to).map_err(|error| io_error(to, error))?;
    sync_dir_of(disk, to)
}

/// Makes a file's name durable.
pub(super) fn sync_dir_of(disk: &dyn Disk, path: &Path) -> Result<(), Fatal> {
    let dir = path.parent().unwrap_or(path);
    disk.sync_dir(dir).map_err(|error| io_error(dir, error))
}

/// Makes the names of a directory and of the one above durable: with a new data directory both are new.
fn sync_parents(disk: &dyn Disk, dir: &Path) -> Result<(), Fatal> {
    for above in dir.ancestors().skip(1).take(2) {
        if !above.as_os_str().is_empty() {
            disk.sync_dir(above)
                .map_err(|error| io_error(above, error))?;
        }
    }
    Ok(())
}

/// Removes files in `dir` whose names `left_over` picks.
pub(super) fn sweep(
    disk: &dyn Disk,
    dir: &Path,
    left_over: impl Fn(&str) -> bool,
    remove: impl Fn(&Path) -> io::Result<()>,
) -> Result<(), Fatal> {
    for name in disk.list(dir).map_err(|error| io_error(dir, error))? {
        if left_over(&name) {
            let path = dir.join(name);
            tracing::info!(path = %path.display(), "removed what an interrupted rewrite left");
            remove(&path).map_err(|error| io_error(&path, error))?;
        }
    }
    Ok(())
}

/// An error of file access, with its path.
pub(super) fn io_error(path: &Path, error: io::Error) -> Fatal {
    Fatal::Io {
        path: PathBuf::from(path),
        error,
    }
}

#[cfg(test)]
mod tests {
    use catena_runtime::SystemDisk;

    use super::*;

    #[test]
    fn other_engine_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        claim(Engine::Redb, &SystemDisk, dir.path()).unwrap();
        claim(Engine::Redb, &SystemDisk, dir.path()).unwrap();
        let error = claim(Engine::Sled, &SystemDisk, dir.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("made with the engine redb"), "{error}");
        assert!(error.contains("cannot be opened with sled"), "{error}");
        assert!(error.contains("--storage-engine redb"), "{error}");
        assert!(claim(Engine::Memory, &SystemDisk, dir.path()).is_err());
    }

    #[test]
    fn other_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MARKER), "redb 2\n").unwrap();
        let error = claim(Engine::Redb, &SystemDisk, dir.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("has format 2"), "{error}");
    }

    #[test]
    fn damaged_marker_is_refused_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "redb", "lmdb 1", "redb one", "\0\0\0\0"] {
            std::fs::write(dir.path().join(MARKER), text).unwrap();
            let error = claim(Engine::Redb, &SystemDisk, dir.path())
                .unwrap_err()
                .to_string();
            assert!(error.contains("ENGINE"), "{error}");
        }
    }

    #[test]
    fn directory_of_etcd_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("db"), "bbolt").unwrap();
        let error = claim(Engine::Redb, &SystemDisk, dir.path())
            .unwrap_err()
            .to_string();
        assert!(error.contains("catena restore"), "{error}");
    }
}
