//! Many connections that say nothing.

use std::time::Instant;

use anyhow::Result;

use super::{
    Stage, allow_connections,
    beside::{With, beside},
    cost::Cost,
    grouped, kib,
    place::ends,
};
use crate::{
    load::{Idle, Op},
    rounds::DATASET,
};

/// Two members: one holds the connections all the time, since to open them for each round would use up the ports of a machine.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.sizes.connections;
    allow_connections(count)?;
    let clusters = [stage.start(1, &[])?, stage.start(1, &[])?];
    let mut members = Vec::new();
    let length = stage.sizes.length();
    for cluster in &clusters {
        let (addresses, servers) = ends(&cluster.members[0])?;
        DATASET.lay(&addresses, &servers)?;
        let mut puts = Op::Put.workload(&DATASET, 1, &addresses, &servers)?;
        // The first puts take memory of their own.
        Cost::measure(length, &mut *puts, &addresses, &servers)?;
        servers.settle()?;
        members.push((addresses, servers, puts));
    }
    let title = format!("{} idle connections", grouped(count));
    stage.progress(&title);
    let (addresses, servers, _) = &members[With::It as usize];
    let (before, began) = (servers.rss_bytes()?, Instant::now());
    let mut idle = Idle::connections(addresses, count)?;
    let each = began.elapsed().as_secs_f64() * 1e6 / count as f64;
    servers.settle()?;
    let memory = servers.rss_bytes()?.saturating_sub(before) as f64 / count as f64;
    stage.found("time to open a connection", "µs", each);
    stage.found("RSS per idle connection", "KiB", kib(memory));
    beside(stage, &title, |_, state| {
        let (addresses, servers, puts) = &mut members[state as usize];
        Cost::measure(length, &mut **puts, addresses, servers)
    })?;
    idle.check()?;
    stage.remark("puts with them go to one member, puts without to another of the same kind, which stands beside it");
    Ok(())
}
