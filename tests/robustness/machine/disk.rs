//! A disk of one member that can lose its power, stand still or be full.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{command::at_end, next_number, run, tool};

/// Size of a disk; the file behind it is sparse.
const MIB: &str = "512";
/// What is left when the disk is filled: less than a log or an engine wants to grow by at a time.
const LEFT_BYTES: u64 = 64 << 10;

/// What the system says when there is not that much.
const NO_SPACE: &str = "No space left on device";

/// How the names of files begin that only take space.
const BALLAST: &str = "ballast";

/// A loop-mounted XFS, made by `tools/powercut.sh`; dropping it unmounts and removes it.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
}

impl Disk {
    /// Makes and mounts a disk in a directory that is not there yet.
    pub(crate) async fn make(dir: &Path) -> Result<Self> {
        let disk = Self {
            dir: dir.to_owned(),
        };
        disk.tool("make", &[MIB]).await?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn mounted(&self) -> PathBuf {
        self.dir.join("mnt")
    }

    /// Cuts the power, then kills the process: nothing reaches the disk in between.
    pub(crate) async fn cut(&self, pid: u32) -> Result<()> {
        self.tool("cut", &[&pid.to_string()]).await?;
        Ok(())
    }

    /// The power is back: whatever was not synced is gone.
    pub(crate) async fn remount(&self) -> Result<()> {
        self.tool("remount", &[]).await?;
        Ok(())
    }

    /// Freezes all writes for some seconds; returns when they go on.
    pub(crate) async fn stall(&self, seconds: u32) -> Result<()> {
        self.tool("stall", &[&seconds.to_string()]).await?;
        Ok(())
    }

    /// `mounted`, `cut` or another word of the tool.
    pub(crate) async fn status(&self) -> Result<String> {
        Ok(self.tool("status", &[]).await?.trim().to_owned())
    }

    /// Takes almost all of the space that is left. The file system gives back what it had set aside once it is full, so this is to
    /// be repeated as long as the disk is to be full.
    pub(crate) async fn fill(&self) -> Result<()> {
        let bytes = self.free_bytes().await?.saturating_sub(LEFT_BYTES);
        if bytes > 0 {
            let ballast = self.mounted().join(format!("{BALLAST}{}", next_number()));
            let args = ["fallocate", "-l", &bytes.to_string()].map(OsString::from);
            let taken = run(&[&args, &[ballast.into_os_string()][..]].concat()).await;
            // The member may have taken it first: then less is left than was seen, and the next time takes that.
            if let Err(error) = taken
                && !error.to_string().contains(NO_SPACE)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives back what [`Disk::fill`] took.
    pub(crate) fn empty(&self) -> Result<()> {
        for entry in fs::read_dir(self.mounted())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(BALLAST) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Bytes that a member could still write.
    pub(crate) async fn free_bytes(&self) -> Result<u64> {
        let mount = self.mounted();
        let args = ["stat", "-f", "-c", "%a %S"].map(AsRef::as_ref);
        let printed = run(&[&args, &[mount.as_os_str()][..]].concat()).await?;
        let (blocks, size) = printed.trim().split_once(' ').context("two numbers")?;
        Ok(blocks.parse::<u64>()? * size.parse::<u64>()?)
    }

    async fn tool(&self, verb: &str, rest: &[&str]) -> Result<String> {
        let script = tool("powercut.sh");
        let mut args = vec![script.as_os_str(), verb.as_ref(), self.dir.as_os_str()];
        args.extend(rest.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
        run(&args).await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let script = tool("powercut.sh");
        at_end(&[script.as_os_str(), "remove".as_ref(), self.dir.as_os_str()]);
    }
}
