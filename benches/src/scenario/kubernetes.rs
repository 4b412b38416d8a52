//! What a Kubernetes cluster asks for.

use std::time::Duration;

use anyhow::Result;

use super::{Scene, good, millis};
use crate::{
    load::{Load, Mix, Stop},
    rounds::DATASET,
};

const CLIENTS: usize = 64;
const LENGTH: Duration = Duration::from_secs(5);

/// 64 clients, each asking again when it is answered.
pub(super) fn run(scene: &mut Scene<'_>) -> Result<()> {
    let running = scene.start()?;
    let (addresses, servers) = (running.addresses()?, running.servers()?);
    DATASET.lay(&addresses, &servers)?;
    let mut load = Load::closed(CLIENTS, Stop::After(LENGTH));
    load.warm_up = Duration::from_millis(500);
    let mut mix = Mix::new(&DATASET, CLIENTS)?;
    let outcome = good(load.run(&mut mix, &addresses, &servers)?)?;
    let what = "Kubernetes mix, 64 clients";
    let each = 1e6 / outcome.per_sec();
    scene.found(&format!("{what}: time per request"), each, "µs");
    scene.found(
        &format!("{what}: server CPU per request"),
        outcome.server_micros(),
        "µs",
    );
    let p99 = millis(outcome.latencies.quantile(0.99));
    scene.found(&format!("{what}: p99"), p99, "ms");
    Ok(())
}
