//! System calls of a running process that are slowed, fail or lie, by strace.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use framework::wait_until;
use rustix::process::{Pid, Signal, kill_process};

use super::next_number;

/// strace has attached to every thread by then.
const ATTACHED_WITHIN: Duration = Duration::from_secs(20);
/// What strace writes at the end of a call that it changed.
const CHANGED: [&str; 2] = ["(INJECTED)", "(DELAYED)"];

/// strace on a process; dropping it lets the process go on undisturbed.
#[derive(Debug)]
pub(crate) struct Trace {
    child: Child,
    output: PathBuf,
}

impl Trace {
    /// Attaches to all threads of a process. `what` is strace's expression behind `-e inject=CALLS:`.
    pub(crate) async fn attach(dir: &Path, pid: u32, calls: &str, what: &str) -> Result<Self> {
        let output = dir.join(format!("strace-{}", next_number()));
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o"])
            .arg(&output)
            .args(["-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{what}")])
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(output.with_extension("err"))?)
            .spawn()
            .context("strace")?;
        let trace = Self { child, output };
        wait_until("strace attaches", ATTACHED_WITHIN, async || {
            traced(pid).then_some(())
        })
        .await
        .with_context(|| {
            fs::read_to_string(trace.output.with_extension("err")).unwrap_or_default()
        })?;
        Ok(trace)
    }

    /// How many calls have been changed.
    pub(crate) fn changed(&self) -> usize {
        fs::read_to_string(&self.output).map_or(0, |text| {
            let changed = |line: &&str| CHANGED.iter().any(|mark| line.contains(mark));
            text.lines().filter(changed).count()
        })
    }

    /// Waits until calls have been changed.
    pub(crate) async fn bites(&self, calls: usize, within: Duration) -> Result<()> {
        wait_until("a system call is changed", within, async || {
            (self.changed() >= calls).then_some(())
        })
        .await
    }

    /// Lets the process go; gives how many calls were changed, of which there must be one.
    pub(crate) async fn detach(mut self) -> Result<usize> {
        self.interrupt();
        wait_until("strace ends", ATTACHED_WITHIN, async || {
            self.child.try_wait().transpose()
        })
        .await??;
        let changed = self.changed();
        ensure!(changed > 0, "no system call was changed");
        Ok(changed)
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // Fails only if strace has ended, as it does with its last process.
            let _ = kill_process(pid, Signal::INT);
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return;
        }
        self.interrupt();
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The kernel detaches a dead tracer's processes. Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether every thread of a process has a tracer.
fn traced(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        fs::read_to_string(thread.path().join("status"))
            .is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
    })
}
