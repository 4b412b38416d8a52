//! Many keys.

use anyhow::{Context, Result};
use framework::Cluster;

use super::{
    Goal, Stage,
    cost::{self, Cost},
    grouped, mib,
    place::{ends, need},
};
use crate::{
    load::{Keys, Load, Scattered, Stop},
    process::Servers,
    subject::Subject,
};

const VALUE_BYTES: usize = 256;
/// What a key takes on the disk while it is laid down, log and free pages included.
const DISK_BYTES: u64 = 1200;
/// What Catena keeps in memory whatever the number of keys: 32 MiB of the engine's pages and 32 MiB of records.
const CACHE_BYTES: u64 = 64 << 20;
/// Clients that lay keys down, a hundred at a time.
const LAYING_CLIENTS: usize = 32;

const COST_GOAL: Goal = Goal::AtMost(1.3);
const MEMORY_GOAL: Goal = Goal::AtMost(200.0);

/// A member with so many keys.
struct Store {
    count: usize,
    /// Keeps it running.
    _cluster: Cluster,
    addresses: Vec<std::net::SocketAddr>,
    servers: Servers,
    puts: Scattered,
    costs: Vec<Cost>,
}

/// One member for each number of keys; all stand while puts to one after the other are measured, round by round.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let counts = stage.sizes.keys.clone();
    need(counts.iter().sum::<usize>() as u64 * DISK_BYTES)?;
    let stores = counts.into_iter().map(|count| lay(stage, count));
    let mut stores = stores.collect::<Result<Vec<_>>>()?;
    let length = stage.sizes.length();
    for round in 0..stage.sizes.rounds {
        stage.progress(&format!("round {} of {}", round + 1, stage.sizes.rounds));
        let first = round % stores.len();
        stores.rotate_left(first);
        for store in &mut stores {
            let cost = Cost::measure(length, &mut store.puts, &store.addresses, &store.servers);
            store.costs.push(cost?);
        }
    }
    stores.sort_by_key(|store| store.count);
    for store in &stores {
        let what = format!("put, {} keys", grouped(store.count));
        cost::found(stage, &what, &store.costs);
    }
    let (least, most) = stores
        .first()
        .zip(stores.last())
        .context("no number of keys was given")?;
    let what = format!(
        "put, {} keys to {}",
        grouped(most.count),
        grouped(least.count)
    );
    cost::ratios(stage, &what, &most.costs, &least.costs, Some(COST_GOAL));
    stage.remark("keys are laid down by transactions of 100 puts; each put then goes to a key far from the one before");
    Ok(())
}

fn lay(stage: &mut Stage<'_>, count: usize) -> Result<Store> {
    let title = grouped(count);
    stage.progress(&format!("{title} keys are laid down"));
    let cluster = stage.start(1, &[])?;
    let (addresses, servers) = ends(&cluster.members[0])?;
    servers.settle()?;
    let (empty, empty_anonymous) = (servers.rss_bytes()?, servers.anonymous_bytes()?);
    let keys = Keys {
        prefix: "growth/",
        count,
    };
    let (mut laying, txns) = Scattered::laying(keys, VALUE_BYTES);
    let load = Load::closed(LAYING_CLIENTS.min(txns as usize), Stop::Answers(txns));
    let laid = cost::good(load.run(&mut laying, &addresses, &servers)?)?;
    servers.settle()?;
    let (rss, anonymous) = (servers.rss_bytes()?, servers.anonymous_bytes()?);
    let rate = count as f64 / laid.used.time.as_secs_f64();
    stage.found(&format!("{title} keys: laid down"), "keys/s", rate);
    stage.found(&format!("{title} keys: RSS"), "MiB", mib(rss));
    // Below, what is the same for any number of keys is more than what they take.
    if Some(&count) == stage.sizes.keys.iter().max() {
        let each = |bytes: u64, beside: u64| bytes.saturating_sub(beside) as f64 / count as f64;
        let what = format!("{title} keys: RSS per key");
        if stage.subject() == Subject::Catena {
            let value = each(rss, empty + CACHE_BYTES);
            stage.reached(&what, "bytes", value, MEMORY_GOAL);
            stage.remark(format!(
                "RSS per key is what remains after 64 MiB (32 of the engine's pages, 32 of records) and the {:.0} MiB of an empty member",
                mib(empty)
            ));
        } else {
            stage.found(&what, "bytes", each(rss, empty));
            let value = each(anonymous, empty_anonymous);
            stage.found(
                &format!("{title} keys: anonymous memory per key"),
                "bytes",
                value,
            );
            stage.remark(format!(
                "RSS per key is what remains after the {:.0} MiB of an empty member; the engine maps its file, whose pages count as far as they are in memory",
                mib(empty)
            ));
        }
    }
    Ok(Store {
        count,
        _cluster: cluster,
        addresses,
        servers,
        puts: Scattered::puts(keys, VALUE_BYTES),
        costs: Vec::new(),
    })
}
