//! A member's address, process and disk.

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use framework::Member;
use rustix::fs::{Advice, fadvise, statvfs};

use crate::process::Servers;

/// What stays free beside what a measurement writes: others use the disk too.
const SPARE_BYTES: u64 = 4 << 30;

/// Where a member's clients connect, and its process.
pub(super) fn ends(member: &Member) -> Result<(Vec<SocketAddr>, Servers)> {
    let pid = member.pid().context("the member runs")?;
    Ok((vec![member.address().parse()?], Servers::new(vec![pid])))
}

/// Whether the disk that takes the members' data has room for so much.
pub(super) fn need(bytes: u64) -> Result<()> {
    let dir = tempfile::env::temp_dir();
    let disk = statvfs(&dir).with_context(|| dir.display().to_string())?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= bytes + SPARE_BYTES,
        "{} GiB are free below {}; up to {} are written here, and {} stay free",
        free >> 30,
        dir.display(),
        bytes >> 30,
        SPARE_BYTES >> 30
    );
    Ok(())
}

/// Bytes that the files below a directory take on the disk. Members remove files while it is read.
pub(super) fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    each_file(dir, &mut |path| {
        if let Some(metadata) = gone(fs::metadata(path))? {
            bytes += metadata.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Has the kernel forget what it keeps in memory of the files below a directory, as after a restart of the machine.
pub(super) fn make_cold(dir: &Path) -> Result<()> {
    each_file(dir, &mut |path| {
        if let Some(file) = gone(File::open(path))? {
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
        Ok(())
    })
}

fn each_file(dir: &Path, act: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    let Some(entries) = gone(fs::read_dir(dir)).with_context(|| dir.display().to_string())? else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            each_file(&path, act)?;
        } else {
            act(&path)?;
        }
    }
    Ok(())
}

/// Nothing, of what was removed in the meantime.
fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_through_all_folders() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(disk_bytes(dir.path()).unwrap(), 0);
        fs::create_dir(dir.path().join("inner")).unwrap();
        for name in ["a", "inner/b"] {
            fs::write(dir.path().join(name), vec![7; 64 << 10]).unwrap();
        }
        make_cold(dir.path()).unwrap();
        assert!(disk_bytes(dir.path()).unwrap() >= 128 << 10);
        assert_eq!(disk_bytes(&dir.path().join("absent")).unwrap(), 0);
    }

    #[test]
    fn more_than_the_disk_has_is_refused() {
        assert!(need(1 << 60).is_err());
    }
}
