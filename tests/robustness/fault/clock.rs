//! Wall clocks that jump while a member runs. The clock that measures intervals goes on, as it does on a machine whose date is set.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Fault, fault, upkeep::defragment_one};
use crate::ground::Ground;

pub(super) const FAULTS: &[Fault] = &[fault!("clock-jump", Plain, jump).ours()];

/// The library that Debian's package puts before the C library.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
/// Where the wall clock goes, one jump after another; at the end it is right again.
const JUMPS_SECONDS: [i64; 4] = [3600, -3600, 20, 0];
/// How long it stays there.
const STAYS_MS: u64 = 1_000;

async fn jump(g: &mut Ground) -> Result<()> {
    let place = g.leader().await?;
    let file = g.work.path().join("clock");
    fs::write(&file, "+0")?;
    g.cluster.members[place].terminate()?;
    g.reap(place).await?;
    let mut through = g.cluster.members[place].through().to_vec();
    through.extend([
        "env".to_owned(),
        format!("LD_PRELOAD={LIBRARY}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "DONT_FAKE_MONOTONIC=1".to_owned(),
    ]);
    g.cluster.members[place].set_through(through);
    g.restart(place).await?;
    lead(g, place).await?;
    let going = g.begin("clock-jump", &[place], &[("seconds", json!(JUMPS_SECONDS))]);
    let hours = hours_of_log(g, place).len();
    for seconds in JUMPS_SECONDS {
        fs::write(&file, format!("{seconds:+}"))?;
        g.rest(STAYS_MS).await;
        // It logs two lines, with the time it believes in.
        defragment_one(g, place).await?;
    }
    let hours = hours_of_log(g, place).split_off(hours);
    let different: std::collections::BTreeSet<_> = hours.iter().collect();
    ensure!(
        different.len() > 2,
        "the member's clock stayed at {different:?}"
    );
    g.end(going, "hours in the member's log", json!(different))
}

/// Moves leadership to the member: its clock is the one that ends leases.
async fn lead(g: &Ground, place: usize) -> Result<()> {
    use catena_api::etcd::etcdserverpb::MoveLeaderRequest;
    let from = g.leader().await?;
    if from == place {
        return Ok(());
    }
    let status = g.seat(place)?.client.status().await?;
    let target_id = status.header.unwrap_or_default().member_id;
    let mut service = g.seat(from)?.client.maintenance();
    service.move_leader(MoveLeaderRequest { target_id }).await?;
    Ok(())
}

/// Day and hour of each line of a member's log.
fn hours_of_log(g: &Ground, place: usize) -> Vec<String> {
    let log = g.cluster.members[place].log();
    let hour = |line: &str| {
        let (_, ts) = line.split_once("\"ts\":\"")?;
        ts.get(.."2000-01-01T00".len()).map(str::to_owned)
    };
    log.lines().filter_map(hour).collect()
}
