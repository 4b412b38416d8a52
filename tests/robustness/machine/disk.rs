//! A disk of one member that can lose its power, stand still or be full.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{command::at_end, run, tool};

/// Size of a disk; the file behind it is sparse.
const MIB: &str = "512";
/// What is left when the disk is filled: less than a log or an engine wants to grow by at a time.
const LEFT_BYTES: u64 = 64 << 10;

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

    /// Takes almost all of the space that is left.
    pub(crate) async fn fill(&self) -> Result<()> {
        let free = self.free_bytes().await?;
        let bytes = free.saturating_sub(LEFT_BYTES).to_string();
        let ballast = self.ballast();
        run(&["fallocate".as_ref(), "-l".as_ref(), bytes.as_ref(), ballast.as_os_str()]).await?;
        Ok(())
    }

    /// Gives back what [`Disk::fill`] took.
    pub(crate) fn empty(&self) -> Result<()> {
        std::fs::remove_file(self.ballast()).context("the ballast is there")
    }

    /// Bytes that a member could still write.
    pub(crate) async fn free_bytes(&self) -> Result<u64> {
        let mount = self.mounted();
        let args = ["stat", "-f", "-c", "%a %S"].map(AsRef::as_ref);
        let printed = run(&[&args, &[mount.as_os_str()][..]].concat()).await?;
        let (blocks, size) = printed.trim().split_once(' ').context("two numbers")?;
        Ok(blocks.parse::<u64>()? * size.parse::<u64>()?)
    }

    fn ballast(&self) -> PathBuf {
        self.mounted().join("ballast")
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
