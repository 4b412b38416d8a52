//! A long log.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use framework::{Cluster, Member};

use super::{
    Stage, cost, mib,
    place::{disk_bytes, ends, make_cold, need},
};
use crate::{
    load::{Dataset, Keys, Load, Op, Stop},
    subject::Subject,
};

const DATASET: Dataset = Dataset {
    keys: Keys {
        prefix: "log/",
        count: 1000,
    },
    value_bytes: 16 << 10,
};
const CLIENTS: usize = 64;
/// A member that is not ready by then will not be.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// No log of this run comes to so many entries. Catena's also has a bound in bytes, which no flag moves.
const KEEP_FLAGS: [&str; 2] = [
    "--snapshot-count=1000000000",
    "--snapshot-catchup-entries=1000000000",
];

/// Once as the store keeps its log, and once as long as flags can have it kept.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let bytes = stage.sizes.log_mib << 20;
    // In the log and in the engine, which copies pages.
    need(bytes * 3)?;
    start_again(stage, "cut by default", &[], bytes)?;
    if stage.subject() == Subject::Catena || stage.sizes.short {
        start_again(stage, "kept by flags", &KEEP_FLAGS, bytes)?;
    } else {
        stage.remark("a log kept by flags was not tried: this store reads all of it into memory when it starts");
    }
    stage.remark(format!(
        "{} MiB of values of 16 KiB are written to 1,000 keys; the log is cut by default, or kept by flags ({}; Catena cuts it at 256 MiB all the same); what the kernel has of the files in memory is dropped before the start",
        bytes >> 20,
        KEEP_FLAGS.join(" ")
    ));
    Ok(())
}

fn start_again(stage: &mut Stage<'_>, what: &str, flags: &[&str], bytes: u64) -> Result<()> {
    stage.progress(&format!("a log that is {what}"));
    let mut cluster = stage.start(1, flags)?;
    let (addresses, servers) = ends(&cluster.members[0])?;
    let count = bytes / DATASET.value_bytes as u64;
    let mut puts = Op::Put.workload(&DATASET, CLIENTS, &addresses, &servers)?;
    let load = Load::closed(CLIENTS, Stop::Answers(count));
    let outcome = cost::good(load.run(&mut *puts, &addresses, &servers)?)?;
    let rate = mib(bytes) / outcome.used.time.as_secs_f64();
    stage.found(&format!("{what}: written"), "MiB/s", rate);
    let peak = mib(servers.peak_bytes()?);
    stage.found(
        &format!("{what}: RSS peak while it is written"),
        "MiB",
        peak,
    );
    servers.settle()?;
    let revision = revision(stage, &cluster)?;

    stage.progress(&format!("a member with a log that is {what} starts again"));
    let member = cluster.members.first_mut().context("there is one")?;
    member.stop()?;
    let data = member.data_dir().join("member");
    for (name, folder) in [("log", "wal"), ("engine and snapshots", "snap")] {
        let used = mib(disk_bytes(&data.join(folder))?);
        stage.found(&format!("{what}: {name} on the disk"), "MiB", used);
    }
    make_cold(&data)?;
    let began = Instant::now();
    member.start()?;
    wait_ready(stage, member)?;
    stage.found(
        &format!("{what}: start to ready"),
        "s",
        began.elapsed().as_secs_f64(),
    );
    let (_, servers) = ends(member)?;
    stage.found(
        &format!("{what}: RSS peak of the start"),
        "MiB",
        mib(servers.peak_bytes()?),
    );
    servers.settle()?;
    stage.found(
        &format!("{what}: RSS after it"),
        "MiB",
        mib(servers.rss_bytes()?),
    );
    let found = self::revision(stage, &cluster)?;
    ensure!(found == revision, "revision {revision} has become {found}");
    Ok(())
}

/// Longer than the framework waits.
fn wait_ready(stage: &Stage<'_>, member: &mut Member) -> Result<()> {
    let end = Instant::now() + READY_WITHIN;
    loop {
        match stage.runtime.block_on(member.ready()) {
            Err(_) if member.pid().is_some() && Instant::now() < end => {}
            ready => return ready,
        }
    }
}

fn revision(stage: &Stage<'_>, cluster: &Cluster) -> Result<i64> {
    // The client's connection lives on the runtime from within which it is made.
    let _entered = stage.runtime.enter();
    let client = cluster.client(0)?;
    Ok(stage.runtime.block_on(client.revision())?)
}
