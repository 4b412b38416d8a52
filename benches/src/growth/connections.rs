//! Many connections that say nothing.

use std::time::Instant;

use anyhow::Result;

use super::{
    Stage, allow_connections,
    beside::{Putting, With, beside},
    grouped, kib,
};
use crate::load::Idle;

/// Two members: one holds the connections all the time, since to open them for each round would use up the ports of a machine.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.sizes.connections;
    allow_connections(count)?;
    let mut members = [Putting::start(stage)?, Putting::start(stage)?];
    let title = format!("{} idle connections", grouped(count));
    stage.progress(&title);
    let Putting {
        addresses, servers, ..
    } = &members[With::It as usize];
    let (before, began) = (servers.rss_bytes()?, Instant::now());
    let mut idle = Idle::connections(addresses, count)?;
    let each = began.elapsed().as_secs_f64() * 1e6 / count as f64;
    servers.settle()?;
    let memory = servers.rss_bytes()?.saturating_sub(before) as f64 / count as f64;
    stage.found("time to open a connection", "µs", each);
    stage.found("RSS per idle connection", "KiB", kib(memory));
    beside(stage, &title, |_, state| members[state as usize].cost())?;
    idle.check()?;
    stage.remark("puts with them go to one member, puts without to another of the same kind, which stands beside it");
    Ok(())
}
