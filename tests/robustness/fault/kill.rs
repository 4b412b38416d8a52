//! Processes that are killed, or asked to end.
//!
//! Want of memory is no fault of its own: the kernel ends its victim by SIGKILL too, which runs nothing of the process, and no
//! allocation fails before, since Linux overcommits. What is left to a store is the same as here: the files, as they are.

use anyhow::Result;
use serde_json::json;

use super::{Fault, fault};
use crate::ground::Ground;

pub(super) const FAULTS: &[Fault] = &[
    fault!("kill-leader", Plain, kill_leader).of_three(),
    fault!("kill-follower", Plain, kill_follower).of_three(),
    fault!("kill-all", Plain, kill_all),
    fault!("restart-loop", Plain, restart_loop),
    fault!("rolling-restart", Plain, rolling_restart),
];

/// Leaders killed in one run, for the figures on failover.
const LEADERS: usize = 3;
/// Restarts in a loop.
const RESTARTS: usize = 5;

async fn kill_leader(g: &mut Ground) -> Result<()> {
    for _ in 0..LEADERS {
        let place = g.leader().await?;
        let going = g.begin("kill-leader", &[place], &[]);
        g.leader_killed_ns.push(g.seats.now_ns());
        let status = g.kill(place).await?;
        g.goes_on(50).await?;
        g.restart(place).await?;
        g.end(going, "exit status", status)?;
        g.goes_on(100).await?;
    }
    Ok(())
}

async fn kill_follower(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let going = g.begin("kill-follower", &[place], &[]);
    let status = g.kill(place).await?;
    g.goes_on(300).await?;
    g.restart(place).await?;
    g.end(going, "exit status", status)
}

async fn kill_all(g: &mut Ground) -> Result<()> {
    let places: Vec<_> = (0..g.size()).collect();
    let going = g.begin("kill-all", &places, &[]);
    let mut statuses = Vec::new();
    for place in places {
        statuses.push(g.kill(place).await?);
    }
    g.start_stopped().await?;
    g.end(going, "exit status", statuses)
}

async fn restart_loop(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let going = g.begin("restart-loop", &[place], &[("times", json!(RESTARTS))]);
    let mut statuses = Vec::new();
    for _ in 0..RESTARTS {
        statuses.push(g.kill(place).await?);
        g.launch(place)?;
        // Killed at another moment of its start each time.
        let millis = g.draw(50..1500);
        g.rest(millis).await;
    }
    g.ready(place).await?;
    g.end(going, "exit status", statuses)
}

async fn rolling_restart(g: &mut Ground) -> Result<()> {
    for place in 0..g.size() {
        let going = g.begin("rolling-restart", &[place], &[]);
        g.cluster.members[place].terminate()?;
        let status = g.reap(place).await?;
        g.restart(place).await?;
        g.end(going, "exit status", status)?;
        g.goes_on(100).await?;
    }
    Ok(())
}
