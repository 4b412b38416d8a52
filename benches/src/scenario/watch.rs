//! Events to many watchers.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Scene, good, millis};
use crate::load::{Fan, Keys, Load, Pace, Stop};

/// Watchers, each on a stream of its own.
const WATCHERS: usize = 1000;
/// Connections that the streams share.
const CONNECTIONS: usize = 100;
/// Clients that put.
const CLIENTS: usize = 16;
/// While the watches are created.
const WARM_UP: Duration = Duration::from_secs(2);
const LENGTH: Duration = Duration::from_secs(5);

/// Puts at a fixed pace: 20 in a second to one key that all watch, 4,000 to 1,000 keys with one watcher each.
pub(super) fn run(scene: &mut Scene<'_>) -> Result<()> {
    fan(scene, ("1,000 watchers of one key", "event"), 1, 20.0)?;
    let what = ("1,000 watched keys", "put with its event");
    fan(scene, what, WATCHERS, 4000.0)
}

fn fan(scene: &mut Scene<'_>, (what, each): (&str, &str), keys: usize, per_sec: f64) -> Result<()> {
    let running = scene.start()?;
    let keys = Keys {
        prefix: "watched/",
        count: keys,
    };
    let load = Load {
        clients: CLIENTS,
        connections: CONNECTIONS,
        pace: Pace::Open { per_sec },
        warm_up: WARM_UP,
        stop: Stop::After(LENGTH),
    };
    let mut fan = Fan::new(keys, WATCHERS, CONNECTIONS, WARM_UP);
    let outcome = load.run(&mut fan, &running.addresses()?, &running.servers()?);
    let outcome = good(outcome?)?;
    let watchers = (WATCHERS / keys.count) as u64;
    let (events, due) = (fan.delays.len(), outcome.answers * watchers);
    // The last put's events may be on their way when the load ends.
    ensure!(events * 100 >= due * 90, "{events} of {due} events came");
    let cpu = outcome.used.servers.as_secs_f64() * 1e6;
    scene.found(
        &format!("{what}: server CPU per {each}"),
        cpu / events as f64,
        "µs",
    );
    for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
        let delay = millis(fan.delays.quantile(share));
        scene.found(&format!("{what}: put to event, {name}"), delay, "ms");
    }
    Ok(())
}
