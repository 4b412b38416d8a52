//! Power that goes, and takes with it whatever was not synced.
//!
//! With a slow sync the time between a write and its sync is long, so that a member that answers too early is caught. The disk that
//! lies is the control: nobody's writes survive it, and a judge that finds nothing then is no judge.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use serde_json::json;

use super::{Fault, fault};
use crate::{ground::Ground, machine::Trace};

pub(super) const FAULTS: &[Fault] = &[
    fault!("powercut-one", Disks, one).of_three(),
    fault!("powercut-all", Disks, all),
    fault!("powercut-slow-fsync", Disks, slow),
    fault!("lying-disk", Disks, lying).loses(),
];

/// The calls that make data durable.
const SYNCS: &str = "fsync,fdatasync";
/// Cuts in one run.
const CUTS: usize = 2;
/// Cuts with a slow sync: each hits the moment only by chance.
const SLOW_CUTS: usize = 3;
/// Slowed calls are seen by then.
const BITES_WITHIN: Duration = Duration::from_secs(30);

async fn one(g: &mut Ground) -> Result<()> {
    for round in 0..CUTS {
        let place = match round % 2 {
            0 => g.leader().await?,
            _ => g.follower().await?,
        };
        cut(g, "powercut-one", &[place], 0).await?;
        g.goes_on(100).await?;
    }
    Ok(())
}

async fn all(g: &mut Ground) -> Result<()> {
    let places: Vec<_> = (0..g.size()).collect();
    for _ in 0..CUTS {
        cut(g, "powercut-all", &places, 0).await?;
        g.goes_on(200).await?;
    }
    Ok(())
}

async fn slow(g: &mut Ground) -> Result<()> {
    let places: Vec<_> = (0..g.size()).collect();
    for _ in 0..SLOW_CUTS {
        let millis = [100, 300][g.draw(0..2) as usize];
        let traces = trace(g, &format!("delay_enter={}", millis * 1000)).await?;
        for trace in &traces {
            trace.bites(3, BITES_WITHIN).await?;
        }
        let rest = g.draw(500..1_500);
        g.rest(rest).await;
        cut(g, "powercut-slow-fsync", &places, millis).await?;
        drop(traces);
        g.goes_on(200).await?;
    }
    Ok(())
}

async fn lying(g: &mut Ground) -> Result<()> {
    let traces = trace(g, "retval=0").await?;
    g.goes_on(200).await?;
    for trace in &traces {
        trace.bites(1, BITES_WITHIN).await?;
    }
    let places: Vec<_> = (0..g.size()).collect();
    cut(g, "lying-disk", &places, 0).await?;
    drop(traces);
    // A member that has lost its votes or its log may rightly refuse to start; that is a conviction too, and the judges' part is
    // what was acknowledged before.
    g.goes_on(50).await
}

async fn trace(g: &Ground, what: &str) -> Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for place in 0..g.size() {
        traces.push(Trace::attach(g.work.path(), g.pid(place)?, SYNCS, what).await?);
    }
    Ok(traces)
}

/// Cuts the power of members within milliseconds, gives it back and starts them again.
///
/// An answer that is given in the moment between the loss of power and the end of the process counts: every sync fails then, so the
/// member can but have answered for what it held to be durable before.
async fn cut(g: &mut Ground, name: &'static str, places: &[usize], delay_ms: u64) -> Result<()> {
    let going = g.begin(name, places, &[("fsync_delay_ms", json!(delay_ms))]);
    let cuts = places.iter().map(async |place| {
        let pid = g.pid(*place)?;
        g.disks[*place].cut(pid).await
    });
    try_join_all(cuts).await?;
    let mut proof = Vec::new();
    for place in places {
        let status = g.reap(*place).await?;
        let disk = g.disks[*place].status().await?;
        ensure!(disk == "cut", "{name}: the disk is {disk}");
        proof.push(format!("{disk}; {status}"));
        g.disks[*place].remount().await?;
    }
    for place in places {
        g.launch(*place)?;
    }
    for place in places {
        g.ready(*place).await?;
    }
    g.end(going, "disk and exit status", proof)
}
