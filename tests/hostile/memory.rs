//! A process's resident memory, as Linux counts it.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory now.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    field(pid, "VmRSS:")
}

/// The most that it was, since the start or since [`forget_peak`].
pub(crate) fn peak_kib(pid: u32) -> Result<u64> {
    field(pid, "VmHWM:")
}

/// Lets the peak begin anew. Where that is not allowed the peak since the start counts, which only makes a bound stricter.
pub(crate) fn forget_peak(pid: u32) {
    let _not_allowed = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

fn field(pid: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| name.to_owned())?.parse()?)
}
