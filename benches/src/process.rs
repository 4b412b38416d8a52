//! What processes have used: CPU and memory, from `/proc`.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// The unit of CPU time in `/proc/PID/stat`; the kernel's USER_HZ is 100 wherever we run.
const TICK: Duration = Duration::from_millis(10);

/// The servers that a run watches.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pids: Vec<u32>,
}

/// CPU used up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// The moment.
    pub(crate) at: Instant,
    /// By all servers.
    pub(crate) servers: Duration,
    /// By this process, the generator.
    pub(crate) own: Duration,
}

/// CPU used between two samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    /// The time between them.
    pub(crate) time: Duration,
    /// By all servers.
    pub(crate) servers: Duration,
    /// By the generator.
    pub(crate) own: Duration,
}

impl Servers {
    /// The servers of these process ids.
    pub(crate) fn new(pids: Vec<u32>) -> Self {
        Self { pids }
    }

    /// CPU used until now.
    pub(crate) fn sample(&self) -> Result<Sample> {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        let own = Duration::new(own.tv_sec.try_into()?, own.tv_nsec.try_into()?);
        let servers = self.pids.iter().map(|pid| cpu(*pid)).sum::<Result<_>>()?;
        Ok(Sample {
            at: Instant::now(),
            servers,
            own,
        })
    }

    /// Resident memory of all servers, in bytes.
    pub(crate) fn rss_bytes(&self) -> Result<u64> {
        self.pids.iter().map(|pid| rss_bytes(*pid)).sum()
    }
}

/// For a profiler to attach to.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {:?}", self.pids)
    }
}

impl Sample {
    /// What was used from here to a later sample.
    pub(crate) fn until(&self, later: &Sample) -> Used {
        Used {
            time: later.at - self.at,
            servers: later.servers.saturating_sub(self.servers),
            own: later.own.saturating_sub(self.own),
        }
    }
}

fn cpu(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).context(path)?;
    let ticks = ticks(&stat).context("a stat line of another form")?;
    Ok(TICK * u32::try_from(ticks)?)
}

/// User and system time. They are the 12th and 13th field behind the program's name, which stands in brackets and may contain any.
fn ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

fn rss_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).context(path)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS")?.trim().parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 1 0 9";
        assert_eq!(ticks(stat), Some(12));
    }

    #[test]
    fn this_process_has_memory() {
        let own = Servers::new(vec![std::process::id()]);
        assert!(own.rss_bytes().unwrap() > 100 * 1024);
    }
}
