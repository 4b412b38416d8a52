//! A member that has missed much.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use framework::Client;
use tokio::task::JoinHandle;

use super::{
    Goal, Stage, cost, grouped,
    place::{ends, need},
};
use crate::{
    load::{Load, Op, Outcome, Stop, Workload},
    process::Servers,
    rounds::DATASET,
};

const CLIENTS: usize = 256;
/// Throughput is looked at in pieces of this length, each with connections of its own.
const PIECE: Duration = Duration::from_millis(500);
/// Pieces before the member returns, and after it has caught up.
const PIECES: usize = 8;
/// Between two looks at how far the member has come.
const LOOK: Duration = Duration::from_millis(50);
/// A member that is so few revisions behind a leader under full load has caught up.
const LAG_MAX: i64 = 1000;
/// A member that has not caught up by then is said not to.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(90);
/// The same in small.
const CAUGHT_UP_WITHIN_SHORT: Duration = Duration::from_secs(10);
/// What a put takes on the disks of three members.
const DISK_BYTES: u64 = 3 * 1200;

const GOAL: Goal = Goal::AtLeast(0.8);

/// Once by a snapshot, as is the default so far behind, and once by the log, as far as flags can have it kept: Catena's is cut at 256 MiB
/// all the same.
pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    let count = stage.sizes.behind;
    need(count * 2 * DISK_BYTES)?;
    catch_up(stage, "by a snapshot", &[])?;
    // Also what is written while it catches up.
    let kept = (count * 4).to_string();
    let flags = [
        format!("--snapshot-count={kept}"),
        format!("--snapshot-catchup-entries={kept}"),
    ];
    catch_up(stage, "by the log", &[&flags[0], &flags[1]])?;
    stage.remark(format!(
        "{CLIENTS} clients put without a pause, to the leader; all members, and the generator, share the machine's cores; caught up is who is at most {LAG_MAX} revisions behind"
    ));
    Ok(())
}

fn catch_up(stage: &mut Stage<'_>, how: &str, flags: &[&str]) -> Result<()> {
    let count = stage.sizes.behind;
    let mut cluster = stage.start(3, flags)?;
    let leader = stage.runtime.block_on(cluster.leader())?;
    let away = (leader + 1) % cluster.members.len();
    let (addresses, servers) = ends(&cluster.members[leader])?;
    DATASET.lay(&addresses, &servers)?;
    let mut puts = Op::Put.workload(&DATASET, CLIENTS, &addresses, &servers)?;
    let mut piece = || piece(&mut *puts, &addresses, &servers);
    let mut together = Vec::new();
    for _ in 0..PIECES {
        together.push(piece()?);
    }
    cluster.members[away].stop()?;
    stage.progress(&format!(
        "{} puts while a member is away",
        grouped(count as usize)
    ));
    let (mut missed, mut pieces) = (0, Vec::new());
    while missed < count {
        let outcome = piece()?;
        missed += outcome.answers;
        pieces.push(outcome);
    }
    let without = pieces.split_off(pieces.len().saturating_sub(PIECES));

    stage.progress(&format!("it catches up {how}"));
    let within = if stage.sizes.short {
        CAUGHT_UP_WITHIN_SHORT
    } else {
        CAUGHT_UP_WITHIN
    };
    let began = Instant::now();
    cluster.members[away].start()?;
    let catching_up = {
        let _entered = stage.runtime.enter();
        let (leader, member) = (cluster.client(leader)?, cluster.client(away)?);
        let end = began + within;
        stage.runtime.spawn(caught_up(leader, member, began, end))
    };
    let mut meanwhile = Vec::new();
    while !catching_up.is_finished() {
        meanwhile.push(piece()?);
    }
    let taken = join(stage, catching_up)?;
    let log = cluster.members[away].log();
    let taken_snapshots = log.lines().filter(|line| is_of_a_snapshot(line)).count();
    let mut after = Vec::new();
    for _ in 0..PIECES {
        after.push(piece()?);
    }

    let rates = [
        ("three members, before", &together),
        ("the member is away", &without),
        ("it catches up", &meanwhile),
        ("three members again", &after),
    ];
    for (when, outcomes) in rates {
        let rates = outcomes.iter().map(Outcome::per_sec).collect();
        stage.spread(&format!("{how}: puts, {when}"), "/s", rates, None);
    }
    let kept = rate(&meanwhile) / rate(&without);
    let what = format!("{how}: throughput kept while it catches up");
    stage.reached(&what, "×", kept, GOAL);
    let what = format!("{how}: the same, to three members before");
    stage.found(&what, "×", rate(&meanwhile) / rate(&together));
    let what = format!("{how}: snapshots that it took meanwhile");
    stage.found(&what, "", taken_snapshots as f64);
    match taken {
        Some(taken) => {
            let what = format!("{how}: start to caught up");
            stage.found(&what, "s", taken.as_secs_f64());
        }
        None => stage.remark(format!(
            "{how}, the member had not caught up after {within:?} of full load"
        )),
    }
    Ok(())
}

/// Whether a line of a member's log says that it has a snapshot of another in place: of Catena's, or of etcd's.
fn is_of_a_snapshot(line: &str) -> bool {
    ["installed snapshot", "applied snapshot"]
        .iter()
        .any(|text| line.contains(text))
}

fn piece(
    puts: &mut dyn Workload,
    addresses: &[std::net::SocketAddr],
    servers: &Servers,
) -> Result<Outcome> {
    let load = Load::closed(CLIENTS, Stop::After(PIECE));
    cost::good(load.run(puts, addresses, servers)?)
}

/// Answers a second of all pieces together.
fn rate(outcomes: &[Outcome]) -> f64 {
    let answers: u64 = outcomes.iter().map(|outcome| outcome.answers).sum();
    let time: Duration = outcomes.iter().map(|outcome| outcome.used.time).sum();
    answers as f64 / time.as_secs_f64()
}

/// Waits until a member has come near to what the leader had just before; gives the time since `began`, or nothing
/// at `end`.
async fn caught_up(
    leader: Client,
    member: Client,
    began: Instant,
    end: Instant,
) -> Result<Option<Duration>> {
    while Instant::now() < end {
        tokio::time::sleep(LOOK).await;
        let wanted = revision(&leader).await.context("the leader")?;
        // It does not answer before it has started.
        let had = revision(&member).await;
        if had.is_ok_and(|had| had + LAG_MAX >= wanted) {
            return Ok(Some(began.elapsed()));
        }
    }
    Ok(None)
}

/// What a member has applied itself.
async fn revision(client: &Client) -> Result<i64> {
    let header = client.status().await?.header;
    Ok(header.context("an answer has a header")?.revision)
}

fn join(stage: &Stage<'_>, task: JoinHandle<Result<Option<Duration>>>) -> Result<Option<Duration>> {
    match stage.runtime.block_on(task) {
        Ok(taken) => taken,
        Err(error) => bail!("{error}"),
    }
}
