//! Where a run took place, and what its disk costs.

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// The machine of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) cpu: String,
    /// How many cores servers and generator share.
    pub(crate) cores: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// What was measured.
    pub(crate) commit: String,
    /// The median of an appended block and its `fdatasync`.
    pub(crate) fdatasync_us: f64,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn look() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let cpu = cpus
            .lines()
            .find_map(|line| line.strip_prefix("model name"));
        let cpu = cpu
            .unwrap_or("unknown")
            .trim_start_matches(['\t', ':', ' ']);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            cpu: cpu.to_owned(),
            cores: thread::available_parallelism()?.get(),
            kernel: kernel.trim().to_owned(),
            commit: git(&["describe", "--always", "--dirty"])?,
            fdatasync_us: fdatasync()?.as_secs_f64() * 1e6,
        })
    }
}

/// What git says in this repository.
pub(crate) fn git(args: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("git cannot be run")?;
    anyhow::ensure!(
        output.status.success(),
        "git {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Blocks appended to find the disk's cost.
const BLOCKS: usize = 500;

fn fdatasync() -> Result<Duration> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("blocks"))?;
    let mut taken = Histogram::default();
    for _ in 0..BLOCKS {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        taken.record(began.elapsed());
    }
    Ok(taken.quantile(0.5))
}
