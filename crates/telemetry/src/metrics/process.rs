//! The process' own series, read from `/proc`. Where there is no `/proc` they stay at zero.

use std::fs;

use prometheus::{Error, Gauge, Registry};

use super::decimal_gauge;

/// Clock ticks in a second, as `/proc` counts: a constant of Linux' user interface on every architecture.
const TICKS_PER_SEC: f64 = 100.0;

/// The series of `process_*` and `os_fd_*`.
pub(super) struct Process {
    cpu_seconds: Gauge,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    start_time: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    fd_used: Gauge,
    fd_limit: Gauge,
}

impl Process {
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let gauge = |name, help| decimal_gauge(registry, name, help);
        Ok(Self {
            cpu_seconds: gauge(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
            resident_bytes: gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes.",
            )?,
            virtual_bytes: gauge(
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes.",
            )?,
            start_time: gauge(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
            open_fds: gauge("process_open_fds", "Number of open file descriptors.")?,
            max_fds: gauge(
                "process_max_fds",
                "Maximum number of open file descriptors.",
            )?,
            fd_used: gauge("os_fd_used", "The number of used file descriptors.")?,
            fd_limit: gauge("os_fd_limit", "The file descriptor limit.")?,
        })
    }

    pub(super) fn refresh(&self) {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        self.resident_bytes.set(kibibytes(&status, "VmRSS:"));
        self.virtual_bytes.set(kibibytes(&status, "VmSize:"));
        let times = Times::parse(&read("/proc/self/stat"));
        self.cpu_seconds.set(times.cpu_secs);
        let boot = word_after(&read("/proc/stat"), "btime");
        self.start_time.set(boot + times.started_secs);
        let used = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count());
        let limit = word_after(&read("/proc/self/limits"), "Max open files");
        for gauge in [&self.open_fds, &self.fd_used] {
            gauge.set(used as f64);
        }
        for gauge in [&self.max_fds, &self.fd_limit] {
            gauge.set(limit);
        }
    }
}

/// The first word after `label`, which begins a line; 0 if there is no such number.
fn word_after(text: &str, label: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(label))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

fn kibibytes(status: &str, label: &str) -> f64 {
    word_after(status, label) * 1024.0
}

#[derive(Debug, Default, PartialEq)]
struct Times {
    cpu_secs: f64,
    started_secs: f64,
}

impl Times {
    /// Reads `/proc/self/stat`: user and system time are the 14th and 15th field, the start is the 22nd; the second one, the
    /// command, is in parentheses and may hold anything.
    fn parse(stat: &str) -> Self {
        let Some((_, after_command)) = stat.rsplit_once(')') else {
            return Self::default();
        };
        let fields: Vec<&str> = after_command.split_whitespace().collect();
        let secs = |number: usize| -> f64 {
            let ticks = fields
                .get(number - 3)
                .and_then(|field| field.parse::<f64>().ok());
            ticks.unwrap_or_default() / TICKS_PER_SEC
        };
        Self {
            cpu_secs: secs(14) + secs(15),
            started_secs: secs(22),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_wild_command_name() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 1234 0 0";
        let expected = Times {
            cpu_secs: 2.0,
            started_secs: 12.34,
        };
        assert_eq!(Times::parse(stat), expected);
        assert_eq!(Times::parse("nonsense"), Times::default());
    }

    #[test]
    fn this_process_is_measured() {
        let registry = super::super::Registry::new().unwrap();
        let text = registry.render().unwrap();
        let value = |name: &str| word_after(&text, &format!("{name} "));
        assert!(value("process_resident_memory_bytes") > 1e6);
        assert!(value("process_open_fds") > 2.0);
        assert!(value("process_start_time_seconds") > 1e9);
    }
}
