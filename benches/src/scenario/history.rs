//! A store with a long history: its memory, its start, and its maintenance under load.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use catena_api::etcd::etcdserverpb as pb;
use framework::{Client, Cluster, Member};
use tokio::task::JoinHandle;

use super::{Scene, good, mib, millis};
use crate::{
    load::{Dataset, Keys, Load, Op, Pace, Stop},
    process::Servers,
    subject::Running,
};

const DATASET: Dataset = Dataset {
    keys: Keys {
        prefix: "history/",
        count: 100_000,
    },
    value_bytes: 256,
};
/// Puts on top of the first of each key.
const PUTS: u64 = 1_000_000;
/// Clients that put them.
const WRITERS: usize = 256;

/// The load under which maintenance is done, by a timetable: what every store bears.
const PUTS_PER_SEC: f64 = 2000.0;
const CLIENTS: usize = 64;
/// Maintenance begins so long after its load.
const BEFORE: Duration = Duration::from_millis(500);
const LENGTH: Duration = Duration::from_secs(5);

/// Start, 100,000 keys, 1,000,000 puts on them, start again, compaction, defragmentation.
pub(super) fn run(scene: &mut Scene<'_>) -> Result<()> {
    let began = Instant::now();
    let Running::Cluster(mut cluster) = scene.start()? else {
        return Ok(());
    };
    scene.found("start to ready, empty", millis(began.elapsed()), "ms");
    fill(scene, &cluster)?;
    restart(scene, &mut cluster)?;
    maintain(scene, &cluster)
}

fn ends(cluster: &Cluster) -> Result<(Vec<SocketAddr>, Servers)> {
    let member = cluster.members.first().context("there is one")?;
    let pid = member.pid().context("the member runs")?;
    Ok((vec![member.address().parse()?], Servers::new(vec![pid])))
}

fn fill(scene: &mut Scene<'_>, cluster: &Cluster) -> Result<()> {
    let (addresses, servers) = ends(cluster)?;
    DATASET.lay(&addresses, &servers)?;
    scene.found("RSS after 100,000 keys", mib(servers.rss_bytes()?), "MiB");
    let load = Load::closed(WRITERS, Stop::Answers(PUTS));
    let mut puts = Op::Put.workload(&DATASET, WRITERS, &addresses, &servers)?;
    let outcome = good(load.run(&mut *puts, &addresses, &servers)?)?;
    let rss = mib(outcome.rss_bytes);
    scene.found("RSS after 1,000,000 puts on them", rss, "MiB");
    let time = outcome.used.time.as_secs_f64();
    scene.found("time of these puts, 256 clients", time, "s");
    Ok(())
}

fn restart(scene: &mut Scene<'_>, cluster: &mut Cluster) -> Result<()> {
    let member: &mut Member = cluster.members.first_mut().context("there is one")?;
    member.stop()?;
    let began = Instant::now();
    member.start()?;
    scene.runtime.block_on(member.ready())?;
    let taken = millis(began.elapsed());
    scene.found("start to ready, 1,100,000 revisions", taken, "ms");
    Ok(())
}

fn maintain(scene: &mut Scene<'_>, cluster: &Cluster) -> Result<()> {
    let (addresses, servers) = ends(cluster)?;
    let runtime = scene.runtime;
    // The client's connection lives on the runtime from within which it is made.
    let client = {
        let _entered = runtime.enter();
        cluster.client(0)?
    };
    let revision = runtime.block_on(client.revision())?;
    let mut loaded = |what: &str, work: JoinHandle<Result<Duration>>| -> Result<()> {
        let mut puts = Op::Put.workload(&DATASET, CLIENTS, &addresses, &servers)?;
        let mut load = Load::closed(CLIENTS, Stop::After(LENGTH));
        load.pace = Pace::Open {
            per_sec: PUTS_PER_SEC,
        };
        let outcome = good(load.run(&mut *puts, &addresses, &servers)?)?;
        let taken = runtime.block_on(work)??;
        let p99 = millis(outcome.latencies.quantile(0.99));
        scene.found(&format!("p99 of 2,000 puts/s, {what}"), p99, "ms");
        if !taken.is_zero() {
            scene.found(&format!("time of {what}"), taken.as_secs_f64(), "s");
        }
        Ok(())
    };
    let nothing = runtime.spawn(async { Ok(Duration::ZERO) });
    loaded("undisturbed", nothing)?;
    loaded(
        "compaction",
        runtime.spawn(compact(client.clone(), revision)),
    )?;
    loaded("defragmentation", runtime.spawn(defragment(client)))
}

/// Compacts, waiting until the work is done.
async fn compact(client: Client, revision: i64) -> Result<Duration> {
    tokio::time::sleep(BEFORE).await;
    let began = Instant::now();
    let request = pb::CompactionRequest {
        revision,
        physical: true,
    };
    client.kv().compact(request).await?;
    Ok(began.elapsed())
}

async fn defragment(client: Client) -> Result<Duration> {
    tokio::time::sleep(BEFORE).await;
    let began = Instant::now();
    let request = pb::DefragmentRequest {};
    client.maintenance().defragment(request).await?;
    Ok(began.elapsed())
}
