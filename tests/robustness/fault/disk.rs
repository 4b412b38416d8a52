//! Disks that are full, slow or frozen, and a sync that fails once.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::{Fault, fault};
use crate::{ground::Ground, machine::Trace};

pub(super) const FAULTS: &[Fault] = &[
    fault!("disk-full", Disks, full),
    fault!("disk-slow", Plain, slow),
    fault!("disk-stall", Disks, stall),
    fault!("fsync-fails", Plain, fsync_fails),
];

/// How long a disk stays full, unless its member stops before.
const FULL_MS: u64 = 8_000;
const LOOK_MS: u64 = 100;
/// Blocks of 64 KiB that a disk must not be able to take: more than a file system gives back when it finds itself full.
const PROBE_BLOCKS: usize = 1024;
/// How long a disk stays slow, and by how much each sync is late.
const SLOW_MS: u64 = 5_000;
const SLOW_BY_MS: u64 = 200;
/// How long a disk stands still.
const STALL_SECONDS: u32 = 4;
/// Every call that a disk answers.
const SYNCS: &str = "fsync,fdatasync";
/// Slowed calls are seen by then.
const BITES_WITHIN: Duration = Duration::from_secs(30);

/// The member may stop; with the space it must come back and have lost nothing.
async fn full(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let going = g.begin("disk-full", &[place], &[("ms", json!(FULL_MS))]);
    let mut stopped = None;
    for _ in 0..FULL_MS / LOOK_MS {
        g.disks[place].fill().await?;
        g.rest(LOOK_MS).await;
        stopped = g.stopped(place).await?;
        if stopped.is_some() {
            break;
        }
    }
    let refused = no_space(&g.disks[place].mounted())?;
    g.disks[place].empty()?;
    if stopped.is_some() {
        g.restart(place).await?;
    }
    let state = stopped.unwrap_or_else(|| "it ran on".to_owned());
    g.end(
        going,
        "a write of the test; the member",
        format!("{refused}; {state}"),
    )
}

/// Writes more than is left, and gives the system's words for that.
fn no_space(dir: &Path) -> Result<String> {
    let path = dir.join("probe");
    let mut file = fs::File::create(&path).or_else(|error| match error.kind() {
        ErrorKind::StorageFull => fs::File::options().write(true).open("/dev/full"),
        _ => Err(error),
    })?;
    let block = [1_u8; 64 << 10];
    let written = (0..PROBE_BLOCKS).try_for_each(|_| file.write_all(&block));
    // It is not there if even the name found no space.
    let _ = fs::remove_file(path);
    match written {
        Err(error) if error.kind() == ErrorKind::StorageFull => Ok(error.to_string()),
        Err(error) => Err(error).context("another error than a full disk's"),
        Ok(()) => bail!("the disk is not full"),
    }
}

async fn slow(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let args = [
        ("ms", json!(SLOW_MS)),
        ("fsync_delay_ms", json!(SLOW_BY_MS)),
    ];
    let going = g.begin("disk-slow", &[place], &args);
    let delay = format!("delay_enter={}", SLOW_BY_MS * 1000);
    let trace = Trace::attach(g.work.path(), g.pid(place)?, SYNCS, &delay).await?;
    g.rest(SLOW_MS).await;
    trace.bites(1, BITES_WITHIN).await?;
    let changed = trace.detach().await?;
    g.end(going, "delayed syncs", changed)
}

async fn stall(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let pid = g.pid(place)?;
    let going = g.begin("disk-stall", &[place], &[("s", json!(STALL_SECONDS))]);
    let blocked = blocked_while(g, place, pid).await?;
    g.end(going, "looks at which a thread was in state D", blocked)
}

/// Stalls the disk; gives at how many looks a thread of the member waited for it.
async fn blocked_while(g: &Ground, place: usize, pid: u32) -> Result<u64> {
    let mut blocked = 0;
    let stalled = g.disks[place].stall(STALL_SECONDS);
    tokio::pin!(stalled);
    loop {
        tokio::select! {
            ended = &mut stalled => return ended.map(|()| blocked),
            () = g.rest(50) => blocked += u64::from(has_blocked_thread(pid)),
        }
    }
}

/// Whether a thread of the process waits for the disk and cannot be disturbed.
fn has_blocked_thread(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"));
    tasks.into_iter().flatten().flatten().any(|task| {
        fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| stat.contains(") D "))
    })
}

/// After one failed sync a member must acknowledge nothing more and end: what the kernel has kept of the data is anybody's guess.
async fn fsync_fails(g: &mut Ground) -> Result<()> {
    let place = match g.draw(0..2) {
        0 => g.leader().await?,
        _ => g.follower().await?,
    };
    let going = g.begin("fsync-fails", &[place], &[("error", json!("EIO"))]);
    let what = "error=EIO:when=1";
    let trace = Trace::attach(g.work.path(), g.pid(place)?, SYNCS, what).await?;
    let status = g
        .reap(place)
        .await
        .context("a member went on after a sync had failed")?;
    let changed = trace.detach().await?;
    g.restart(place).await?;
    g.end(
        going,
        "failed syncs; exit status",
        format!("{changed}; {status}"),
    )
}
