//! A backup.

use anyhow::{Result, ensure};
use catena_api::etcd::etcdserverpb as pb;

use super::{Scene, good};
use crate::load::{Cycle, Dataset, Keys, Load, Op, Requests, Stop};

/// 1 GiB of values.
const DATASET: Dataset = Dataset {
    keys: Keys {
        prefix: "snapshot/",
        count: 87_382,
    },
    value_bytes: 12 * 1024,
};
/// Each on a connection of its own.
const WRITERS: usize = 16;

/// Writes 1 GiB and reads a snapshot of it.
pub(super) fn run(scene: &mut Scene<'_>) -> Result<()> {
    let running = scene.start()?;
    let (addresses, servers) = (running.addresses()?, running.servers()?);
    let mut load = Load::closed(WRITERS, Stop::Answers(DATASET.keys.count as u64));
    load.connections = WRITERS;
    let mut puts = Op::Put.workload(&DATASET, WRITERS, &addresses, &servers)?;
    good(load.run(&mut *puts, &addresses, &servers)?)?;
    let request = Requests::encode([pb::SnapshotRequest {}]);
    let mut snapshot = Cycle::new("/etcdserverpb.Maintenance/Snapshot", request);
    let load = Load::closed(1, Stop::Answers(1));
    let outcome = good(load.run(&mut snapshot, &addresses, &servers)?)?;
    ensure!(outcome.answers == 1, "one snapshot was asked for");
    scene.found(
        "time of a snapshot of 1 GiB",
        outcome.used.time.as_secs_f64(),
        "s",
    );
    let cpu = outcome.used.servers.as_secs_f64();
    scene.found("server CPU of a snapshot of 1 GiB", cpu, "s");
    Ok(())
}
