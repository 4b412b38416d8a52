//! Large values.

use anyhow::Result;

use super::{
    Stage,
    cost::{self, Cost},
    mib,
    place::{ends, need},
};
use crate::load::{Dataset, Keys, Load, Op, Stop};

/// Of 1 MiB.
const DATASET: Dataset = Dataset {
    keys: Keys {
        prefix: "large/",
        count: 32,
    },
    value_bytes: 1 << 20,
};
/// Clients, each on a connection of its own.
const CLIENTS: usize = 8;

/// Puts, then linearizable reads.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.sizes.values;
    // In the log and in the engine, which copies pages.
    need(count * 4 * DATASET.value_bytes as u64)?;
    let cluster = stage.start(1, &[])?;
    let (addresses, servers) = ends(&cluster.members[0])?;
    DATASET.lay(&addresses, &servers)?;
    for (op, what) in [(Op::Put, "put of 1 MiB"), (Op::Get, "get of 1 MiB")] {
        servers.settle()?;
        stage.progress(what);
        servers.forget_peak()?;
        let mut workload = op.workload(&DATASET, CLIENTS, &addresses, &servers)?;
        let mut load = Load::closed(CLIENTS, Stop::Answers(count));
        load.connections = CLIENTS;
        let outcome = cost::good(load.run(&mut *workload, &addresses, &servers)?)?;
        cost::found(stage, what, &[Cost::of(&outcome)]);
        let peak = mib(servers.peak_bytes()?);
        stage.found(&format!("{what}: RSS peak"), "MiB", peak);
    }
    stage.remark(format!("{CLIENTS} clients, {count} requests of each kind"));
    Ok(())
}
