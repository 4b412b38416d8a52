//! A share of the processor for some processes.
//!
//! The group is a new one and is removed; groups of both versions of Linux's interface are known.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

/// The time in which a share is given out, in microseconds: Linux's default.
const PERIOD_MICROS: u64 = 100_000;

/// Where groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// How the names of our groups begin.
const MARK: &str = "catena-fire-";

/// A group of processes that share a quota; dropping it sets them free.
#[derive(Debug)]
pub struct CpuShare {
    dir: PathBuf,
    /// The group that they came from.
    parent: PathBuf,
    pids: Vec<u32>,
}

impl CpuShare {
    /// Puts processes into a new group that together may use `percent` of one processor.
    pub fn new(pids: &[u32], percent: u64) -> io::Result<Self> {
        let root = Path::new(ROOT);
        let unified = root.join("cgroup.controllers").exists();
        let parent = if unified {
            root.to_owned()
        } else {
            root.join("cpu")
        };
        if unified {
            fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{MARK}{}-{number}", process::id()));
        fs::create_dir(&dir)?;
        let mut share = Self {
            dir,
            parent,
            pids: Vec::new(),
        };
        let quota = PERIOD_MICROS * percent / 100;
        if unified {
            share.set("cpu.max", &format!("{quota} {PERIOD_MICROS}"))?;
        } else {
            share.set("cpu.cfs_period_us", &PERIOD_MICROS.to_string())?;
            share.set("cpu.cfs_quota_us", &quota.to_string())?;
        }
        for pid in pids {
            share.set("cgroup.procs", &pid.to_string())?;
            share.pids.push(*pid);
        }
        Ok(share)
    }

    /// How many periods ended with the quota used up: proof that the share is felt.
    pub fn throttled(&self) -> io::Result<u64> {
        let stat = fs::read_to_string(self.dir.join("cpu.stat"))?;
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "));
        Ok(line.and_then(|count| count.parse().ok()).unwrap_or(0))
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.dir.join(file), value)
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        for pid in &self.pids {
            // It may have ended.
            let _gone = fs::write(self.parent.join("cgroup.procs"), pid.to_string());
        }
        // A process that has just ended is counted for a moment longer.
        for _ in 0..100 {
            if fs::remove_dir(&self.dir).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        eprintln!("{} cannot be removed", self.dir.display());
    }
}
