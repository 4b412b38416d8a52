//! Many watchers with nothing to see.

use anyhow::Result;

use super::{
    Stage, allow_connections,
    beside::{With, beside},
    cost::Cost,
    grouped, kib,
    place::ends,
};
use crate::{
    load::{Idle, Keys, Op},
    rounds::DATASET,
};

/// Connections that the watchers share, each watcher on a stream of its own.
const CONNECTIONS: usize = 100;

/// Watchers are created before each round with them, and gone after it.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.sizes.watchers;
    allow_connections(CONNECTIONS)?;
    let cluster = stage.start(1, &[])?;
    let (addresses, servers) = ends(&cluster.members[0])?;
    DATASET.lay(&addresses, &servers)?;
    let mut puts = Op::Put.workload(&DATASET, 1, &addresses, &servers)?;
    let length = stage.sizes.length();
    // The first puts take memory of their own.
    Cost::measure(length, &mut *puts, &addresses, &servers)?;
    let keys = Keys {
        prefix: "idle/",
        count,
    };
    let mut memory = Vec::new();
    let title = format!("{} idle watchers", grouped(count));
    beside(stage, &title, |_, state| {
        servers.settle()?;
        let before = servers.rss_bytes()?;
        let mut idle = None;
        if state == With::It {
            idle = Some(Idle::watchers(&addresses, keys, CONNECTIONS)?);
            servers.settle()?;
            memory.push(kib(
                (servers.rss_bytes()?.saturating_sub(before)) as f64 / count as f64
            ));
        }
        let cost = Cost::measure(length, &mut *puts, &addresses, &servers)?;
        idle.as_mut().map_or(Ok(()), Idle::check)?;
        Ok(cost)
    })?;
    // Later rounds find memory that the first one has left.
    memory.truncate(1);
    stage.spread("RSS per idle watcher", "KiB", memory, None);
    stage.remark(format!(
        "watchers of a key each that is never touched, on streams of their own over {CONNECTIONS} connections"
    ));
    Ok(())
}
