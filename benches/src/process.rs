//! What processes have used: CPU and memory, from `/proc`.

use std::{
    fmt, fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::{
    process::{Resource, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};

/// The unit of CPU time in `/proc/PID/stat`; the kernel's USER_HZ is 100 wherever we run.
const TICK: Duration = Duration::from_millis(10);

/// Between two looks at servers that are to become quiet.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks in a row must find them quiet: background work comes in pieces.
const QUIET_LOOKS: u32 = 3;
/// Quiet is who uses so much of a core.
const QUIET_SHARE: f64 = 0.08;
/// What has not ended by then goes on beside what is measured.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

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
        self.memory_bytes("VmRSS:")
    }

    /// That of it which is no file's: a store that maps its file has less of its own than it seems.
    pub(crate) fn anonymous_bytes(&self) -> Result<u64> {
        self.memory_bytes("RssAnon:")
    }

    /// The most that has been resident since the start or the last [`Servers::forget_peak`].
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        self.memory_bytes("VmHWM:")
    }

    /// Begins a new peak.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        for pid in &self.pids {
            let path = format!("/proc/{pid}/clear_refs");
            fs::write(&path, "5").context(path)?;
        }
        Ok(())
    }

    /// Waits until the servers have little to do: what a load has left for later is done. Gives up after a while, as a store may
    /// always find something.
    pub(crate) fn settle(&self) -> Result<()> {
        let end = Instant::now() + SETTLED_WITHIN;
        let mut before = self.sample()?;
        let mut quiet = 0;
        while quiet < QUIET_LOOKS && Instant::now() < end {
            thread::sleep(LOOK);
            let now = self.sample()?;
            let share = before.until(&now).servers.as_secs_f64() / LOOK.as_secs_f64();
            quiet = if share <= QUIET_SHARE { quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    fn memory_bytes(&self, field: &str) -> Result<u64> {
        self.pids.iter().map(|pid| memory_bytes(*pid, field)).sum()
    }
}

/// Has this process, and those that it starts, open so many files.
pub(crate) fn allow_files(count: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|most| most >= count),
        "{count} files are to be open, and the hard limit is {}: raise it (ulimit -Hn) or ask for fewer connections",
        limit.maximum.unwrap_or_default()
    );
    limit.current = limit.maximum.or(Some(count));
    Ok(setrlimit(Resource::Nofile, limit)?)
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

fn memory_bytes(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).context(path)?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib = kib.with_context(|| format!("no {field}"))?;
    Ok(kib.trim().parse::<u64>()? * 1024)
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
        let mut block = vec![0_u8; 64 << 20];
        block.iter_mut().step_by(1024).for_each(|byte| *byte = 1);
        assert!(own.anonymous_bytes().unwrap() > 64 << 20);
        drop(std::hint::black_box(block));
        assert!(own.peak_bytes().unwrap() > 64 << 20);
    }

    #[test]
    fn more_files_than_the_hard_limit_are_refused() {
        let most = getrlimit(Resource::Nofile).maximum;
        if let Some(most) = most {
            let error = allow_files(most + 1).unwrap_err().to_string();
            assert!(error.contains(&most.to_string()), "{error}");
            allow_files(most).unwrap();
            assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
        }
    }
}
