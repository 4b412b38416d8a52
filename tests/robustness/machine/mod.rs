//! What a run takes from the machine: disks that lose power, a network of its own, system calls that are slowed or fail.
//!
//! Each thing that is made is a value whose drop takes it away again, also while a test panics; [`leftovers`] looks whether
//! anything stayed. The two scripts in `tools/` do the mounting and the name spaces, and can be run by hand.

mod command;
mod disk;
mod leftovers;
mod net;
mod trace;

use std::{
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};
use framework::peers::Missing;
use tempfile::TempDir;

use command::run;
pub(crate) use disk::Disk;
pub(crate) use leftovers::{leftovers, sweep};
pub(crate) use net::Net;
pub(crate) use trace::Trace;

/// Programs that faults need, with Debian's package of each.
const PROGRAMS: [(&str, &str); 10] = [
    ("mkfs.xfs", "xfsprogs"),
    ("xfs_io", "xfsprogs"),
    ("iptables", "iptables"),
    ("faketime", "faketime"),
    ("strace", "strace"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("fallocate", "util-linux"),
];
/// Where the programs of root stand, whatever the caller's `PATH`.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The name that marks everything that test processes make on this machine.
pub(crate) const MARK: &str = "catena-fire-";

/// What is missing on this machine, if anything: root, or a program.
pub(crate) fn missing() -> Option<Missing> {
    if !rustix::process::geteuid().is_root() {
        return Some(Missing::new("mounts and name spaces", "it needs root"));
    }
    let there = |name: &str| FOLDERS.iter().any(|dir| Path::new(dir).join(name).exists());
    let (name, package) = PROGRAMS.iter().find(|(name, _)| !there(name))?;
    Some(Missing::new(
        name,
        format!("it needs apt-get install {package}"),
    ))
}

/// The directory of one run; removed with the value.
pub(crate) fn work_dir() -> Result<TempDir> {
    let prefix = format!("{MARK}{}-", process::id());
    let dir = tempfile::Builder::new().prefix(&prefix).tempdir();
    dir.context("no directory for the run")
}

/// A number that no other run of this process has.
fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// One of the scripts.
fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("robustness/tools")
        .join(name)
}
