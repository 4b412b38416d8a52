//! Where servers' data lie while a command runs, and what becomes of both if it is interrupted.

use std::{
    fs,
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use anyhow::{Context, Result};
use framework::peers::target_dir;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{self, SignalKind, signal};

/// Between two looks at children that were killed.
const LOOK: Duration = Duration::from_millis(20);
/// Looks; what has not ended then leaves files behind.
const LOOKS: usize = 250;

/// A directory of this process; dropping it removes it. Data of ten GiB would be missed on the disk, so that an interrupted command,
/// which drops nothing, ends its servers and removes it too.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
}

impl Scratch {
    /// On the disk of the build, wherever the system keeps its temporary files; made the place of all of this process.
    pub(crate) fn new() -> Result<Self> {
        let root = target_dir().join("benches");
        fs::create_dir_all(&root)?;
        let dir = root.canonicalize()?.join(format!("run-{}", process::id()));
        fs::create_dir_all(&dir)?;
        tempfile::env::override_temp_dir(&dir).map_err(|had| {
            anyhow::anyhow!("the temporary directory is {} already", had.display())
        })?;
        let scratch = Self { dir: dir.clone() };
        // Before any server is started, so that none outlives an interruption.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            let _entered = runtime.enter();
            let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
            kinds.map(|kind| signal(kind).map(|signal| (kind, signal)))
        };
        let [interrupt, terminate] = signals;
        let (interrupt, terminate) = (interrupt?, terminate?);
        thread::Builder::new()
            .name("interrupted".to_owned())
            .spawn(move || {
                let kind = runtime.block_on(first(interrupt, terminate));
                end_children();
                // What cannot be removed is left; the process ends in any case.
                let _ = fs::remove_dir_all(&dir);
                // As shells say it.
                process::exit(128 + kind.as_raw_value());
            })
            .context("a thread cannot be started")?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The servers have ended, and removed what is theirs; what else is there is no reason to fail.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Waits for the first of two signals.
async fn first(
    (one, mut of_one): (SignalKind, unix::Signal),
    (other, mut of_other): (SignalKind, unix::Signal),
) -> SignalKind {
    tokio::select! {
        _ = of_one.recv() => one,
        _ = of_other.recv() => other,
    }
}

/// Kills the processes that this one has started and waits until they have closed their files.
fn end_children() {
    for _ in 0..LOOKS {
        let children = running_children(process::id());
        if children.is_empty() {
            return;
        }
        for pid in children {
            // It fails only for one that has ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(LOOK);
    }
}

/// The children of a process that have not ended.
fn running_children(parent: u32) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| running_child(&entry.path(), parent))
        .collect()
}

/// The process of a directory in `/proc`, if it is a child of `parent` that has not ended.
fn running_child(dir: &Path, parent: u32) -> Option<Pid> {
    let pid = dir.file_name()?.to_str()?.parse().ok()?;
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace();
    let state = fields.next()?;
    let of_parent = fields.next()?.parse() == Ok(parent);
    Pid::from_raw(pid).filter(|_| of_parent && state != "Z")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_running_child_is_found_until_it_has_ended() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(running_children(process::id()).contains(&pid));
        kill_process(pid, Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!running_children(process::id()).contains(&pid));
    }
}
