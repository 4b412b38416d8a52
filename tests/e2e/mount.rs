//! A small file system of a test's own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use framework::{Left, leave_out, peers::Missing};

/// A mounted tmpfs; dropping it unmounts it.
pub(crate) struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Mounts one of so many MiB on a directory that is made; nothing, after saying so, for a user who may not mount.
    pub(crate) fn tmpfs(at: &Path, mib: u32) -> Result<Option<Self>> {
        fs::create_dir_all(at)?;
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output()
            .context("mount")?;
        if !mounted.status.success() {
            let why = String::from_utf8_lossy(&mounted.stderr).trim().to_owned();
            let missing = Missing::new("a file system of limited size", why);
            return leave_out("the full disk", &missing).map(|Left::Out| None);
        }
        Ok(Some(Self { at: at.to_owned() }))
    }

    /// Fills it up to so many bytes; gives the file that does.
    pub(crate) fn fill(&self, left: u64) -> Result<PathBuf> {
        let path = self.at.join("ballast");
        File::create(&path)?;
        let free = Command::new("stat")
            .args(["-f", "-c", "%a %S"])
            .arg(&self.at)
            .output()?;
        let text = String::from_utf8(free.stdout)?;
        let (blocks, size) = text.trim().split_once(' ').context("two numbers")?;
        let free: u64 = blocks.parse::<u64>()? * size.parse::<u64>()?;
        ensure!(free > left, "only {free} bytes are free");
        let done = Command::new("fallocate")
            .args(["-l", &(free - left).to_string()])
            .arg(&path)
            .status()?;
        ensure!(done.success(), "fallocate failed");
        Ok(path)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, should somebody still have a file open there; a failure leaves a mount that the next reboot ends.
        let _unmounted = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
