//! Processes that stand still, or almost: the kernel goes on taking connections and bytes for them.

use std::fs;

use anyhow::{Context, Result, ensure};
use framework::CpuShare;
use serde_json::json;

use super::{Fault, fault};
use crate::ground::Ground;

pub(super) const FAULTS: &[Fault] = &[
    fault!("pause-leader", Plain, pause_leader),
    fault!("pause-follower", Plain, pause_follower).of_three(),
    fault!("pause-short", Plain, pause_short),
    fault!("cpu-share", Plain, cpu_share),
];

/// Short pauses in a row.
const SHORT: usize = 6;
/// How long a member has but a share of a processor, and how much of it.
const SHARE_MS: u64 = 6_000;
const SHARE_PERCENT: u64 = 20;

/// Longer than an election, so that another leads when it wakes and believes that it still does.
async fn pause_leader(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let millis = g.draw(2_000..10_000);
    pause(g, "pause-leader", place, millis).await
}

async fn pause_follower(g: &mut Ground) -> Result<()> {
    let place = g.follower().await?;
    let millis = g.draw(1_000..10_000);
    pause(g, "pause-follower", place, millis).await
}

/// The leader is let run for a fifth of the time of one processor: it stands still again and again, for up to a tenth of a second.
async fn cpu_share(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let args = [("ms", json!(SHARE_MS)), ("percent", json!(SHARE_PERCENT))];
    let going = g.begin("cpu-share", &[place], &args);
    let share = CpuShare::new(&[g.pid(place)?], SHARE_PERCENT).context("no group of processes")?;
    g.rest(SHARE_MS).await;
    let throttled = share.throttled()?;
    drop(share);
    g.end(going, "times that it was held back", throttled)
}

/// About as long as an election timeout, of one member after another.
async fn pause_short(g: &mut Ground) -> Result<()> {
    for _ in 0..SHORT {
        let place = g.draw(0..g.size() as u64) as usize;
        let millis = g.draw(100..1_200);
        pause(g, "pause-short", place, millis).await?;
        g.rest(300).await;
    }
    Ok(())
}

async fn pause(g: &mut Ground, name: &'static str, place: usize, millis: u64) -> Result<()> {
    let going = g.begin(name, &[place], &[("ms", json!(millis))]);
    let pid = g.pid(place)?;
    g.cluster.members[place].pause()?;
    g.rest(millis).await;
    let state = state(pid)?;
    g.cluster.members[place].resume()?;
    ensure!(state == "T", "{name}: the process is in state {state}");
    g.end(going, "process state", state)
}

/// The letter of a process's state.
fn state(pid: u32) -> Result<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a state")?;
    Ok(rest.chars().take(1).collect())
}
