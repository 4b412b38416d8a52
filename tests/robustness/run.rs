//! One run: a cluster is started, loaded, hurt, healed, read, restarted, read again, and judged.

use std::{
    collections::BTreeMap,
    fs,
    panic::resume_unwind,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Error, Result, anyhow, ensure};
use framework::{
    Target,
    history::{Final, History, Pair},
    judge::{Verdict, linearizable, revisions},
    message, wait_until,
};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    fault::Fault,
    ground::{Ground, Proven, Stand, Unproven},
};

/// Load for at least so long, and so many operations done, before a run may end.
const LOAD_AT_LEAST: Duration = Duration::from_secs(10);
const OPERATIONS_MIN: u64 = 3_000;
/// Of a hundred operations, so many may have an unknown outcome.
const UNKNOWN_PERCENT_MAX: usize = 10;
/// A run that takes longer hangs.
const RUN_WITHIN: Duration = Duration::from_secs(420);
/// Members that are healed stand at one revision by then.
const QUIET_WITHIN: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Whose members.
    pub(crate) target: Target,
    /// How many.
    pub(crate) members: usize,
    /// One after another.
    pub(crate) faults: Vec<Fault>,
    /// Where chances come from.
    pub(crate) seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// Both judges find nothing.
    Passed,
    /// Something that a store may not do, in words.
    Convicted(String),
    /// The run says nothing, and why.
    Invalid(String),
}

/// A run that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// What came of it.
    pub(crate) ending: Ending,
    /// Faults that were proven.
    pub(crate) proven: Vec<Proven>,
    /// Operations that were judged.
    pub(crate) operations: usize,
    /// Operations of unknown outcome.
    pub(crate) unknown: usize,
    /// Watch events that were judged.
    pub(crate) events: usize,
    /// How long the events of each response were owed to their watch.
    pub(crate) delays: Vec<Duration>,
    /// From the death of a leader to the first write that began afterwards and was done.
    pub(crate) failovers: Vec<Duration>,
    /// How long all took.
    pub(crate) took: Duration,
}

impl Plan {
    /// `catena_x3::kill-leader+defragment`.
    pub(crate) fn name(&self) -> String {
        let faults: Vec<_> = self.faults.iter().map(|fault| fault.name).collect();
        format!("{}_x{}::{}", self.target, self.members, faults.join("+"))
    }

    /// The stand that all faults of the plan can use.
    fn stand(&self) -> Stand {
        let stands = self.faults.iter().map(|fault| fault.stand);
        stands.max().unwrap_or(Stand::Plain)
    }

    /// Whether acknowledged writes must be lost.
    pub(crate) fn loses(&self) -> bool {
        self.faults.iter().any(|fault| fault.loses)
    }
}

/// Runs a plan on a thread of its own, which may enter a name space of the network; leaves the history in `keep` if it is given.
pub(crate) fn run(plan: &Plan, keep: Option<&Path>) -> Result<Report> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let begin = Instant::now();
            let mut report = runtime.block_on(guarded(plan, keep))?;
            report.took = begin.elapsed();
            Ok(report)
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Runs a plan; whatever a run has made is gone when this returns, however it ends, also by Ctrl-C.
async fn guarded(plan: &Plan, keep: Option<&Path>) -> Result<Report> {
    tokio::select! {
        report = whole(plan, keep) => report,
        error = interruption() => Err(error),
    }
}

/// Waits for SIGINT or SIGTERM. Once one has come, no run begins any more.
async fn interruption() -> Error {
    static CAME: AtomicBool = AtomicBool::new(false);
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    if let (Ok(mut interrupt), Ok(mut terminate)) = signals
        && !CAME.load(Ordering::Acquire)
    {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    CAME.store(true, Ordering::Release);
    anyhow!("interrupted")
}

async fn whole(plan: &Plan, keep: Option<&Path>) -> Result<Report> {
    let mut ground = Ground::start(plan.target, plan.members, plan.stand(), plan.seed).await?;
    let ended = timeout(RUN_WITHIN, under_fire(plan, &mut ground)).await;
    let ended = ended
        .context("the run takes too long")
        .and_then(|ended| ended);
    let end_ns = ground.ended_ns.unwrap_or_else(|| ground.seats.now_ns());
    let history = ground.recorder.history(end_ns);
    let report = report(&ground, &history, ended);
    if let Some(dir) = keep.filter(|_| !matches!(report.ending, Ending::Passed)) {
        self::keep(plan, &ground, &history, dir)?;
    }
    Ok(report)
}

async fn under_fire(plan: &Plan, g: &mut Ground) -> Result<()> {
    let begin = Instant::now();
    g.goes_on(200).await.context("before any fault")?;
    for fault in &plan.faults {
        let inflicted = (fault.inflict)(g).await;
        inflicted.with_context(|| fault.name.to_owned())?;
        let on = g.goes_on(100).await;
        on.with_context(|| format!("after {}", fault.name))?;
    }
    let enough = async || {
        let enough = begin.elapsed() >= LOAD_AT_LEAST && g.load.done() >= OPERATIONS_MIN;
        enough.then_some(())
    };
    wait_until("enough operations", RUN_WITHIN, enough).await?;
    g.load.stop_clients().await?;
    let (revision, before) = at_rest(g).await?;
    // What is judged is the state of now; leases end later too.
    g.ended_ns = Some(g.seats.now_ns());
    g.load.stop_watchers(revision).await?;
    for last in &before {
        g.recorder.last(last.clone());
    }
    again(g, &before).await
}

/// Waits until all members stand at one revision; gives it.
async fn quiet(g: &mut Ground) -> Result<i64> {
    g.start_stopped().await?;
    wait_until("members stand at one revision", QUIET_WITHIN, async || {
        let mut seen = Vec::new();
        for place in 0..g.size() {
            let client = &g.seat(place).ok()?.client;
            let linearizable = client.revision().await.ok()?;
            let own = client.status().await.ok()?.header.unwrap_or_default();
            seen.extend([linearizable, own.revision]);
        }
        let same = seen.windows(2).all(|pair| pair[0] == pair[1]);
        seen.first().copied().filter(|_| same)
    })
    .await
}

/// Waits until all members hold one state, read while they stood at one revision: leases end with their keys after the last client
/// too. Gives that revision and what each member holds.
async fn at_rest(g: &mut Ground) -> Result<(i64, Vec<Final>)> {
    let begin = Instant::now();
    loop {
        let revision = quiet(g).await?;
        let finals = finals(g).await?;
        // Nobody has seen more: from here on watchers take nothing beyond.
        let is_last = g.seats.witnessed() <= revision;
        if is_last && finals.iter().all(|last| last.revision == revision) {
            return Ok((revision, finals));
        }
        ensure!(
            begin.elapsed() < QUIET_WITHIN,
            "members do not come to rest"
        );
    }
}

/// What each member holds, read from itself.
async fn finals(g: &Ground) -> Result<Vec<Final>> {
    let mut finals = Vec::new();
    for place in 0..g.size() {
        let seat = g.seat(place)?;
        let mut everything = message::between("\0", "\0");
        everything.serializable = true;
        let range = seat.client.range(everything).await?;
        let header = range.header.unwrap_or_default();
        let hash = seat.client.hash_kv(header.revision).await?;
        finals.push(Final {
            endpoint: seat.endpoint.clone(),
            member: header.member_id,
            revision: header.revision,
            compact_revision: hash.compact_revision,
            hash: hash.hash,
            hash_revision: hash.hash_revision,
            kvs: range.kvs.iter().map(Pair::from).collect(),
        });
    }
    Ok(finals)
}

/// Kills all members and starts them again: they must hold what they held. Leases may end meanwhile, with their keys.
async fn again(g: &mut Ground, before: &[Final]) -> Result<()> {
    for place in 0..g.size() {
        g.kill(place).await?;
    }
    let at = quiet(g).await.context("after a restart of all")?;
    let had = before.first().context("there is a member")?;
    let leased: BTreeMap<_, _> = had
        .kvs
        .iter()
        .map(|kv| (kv.key.clone(), kv.lease))
        .collect();
    for last in finals(g).await? {
        ensure!(
            last.revision >= had.revision,
            "after a restart of all, {} is at revision {}; it was at {}",
            last.endpoint,
            last.revision,
            had.revision
        );
        ensure!(
            last.revision == at || last.revision > had.revision,
            "members stand at different revisions"
        );
        let lost: Vec<_> = had
            .kvs
            .iter()
            .filter(|kv| !last.kvs.contains(kv))
            .filter(|kv| last.revision == had.revision || leased[&kv.key] == 0)
            .collect();
        ensure!(
            lost.is_empty(),
            "after a restart of all, {} has lost {lost:?}",
            last.endpoint
        );
    }
    Ok(())
}

fn report(g: &Ground, history: &History, ended: Result<()>) -> Report {
    let revisions = revisions(history);
    let search = linearizable(history);
    let unknown = history.operations().filter(|op| op.unknown()).count();
    let operations = history.operations().count();
    Report {
        ending: ending(ended, [&revisions, &search], operations, unknown),
        proven: g.proven.clone(),
        operations,
        unknown,
        events: revisions.events,
        delays: revisions
            .delays_ns
            .iter()
            .copied()
            .map(Duration::from_nanos)
            .collect(),
        failovers: failovers(g, history),
        took: Duration::ZERO,
    }
}

fn ending(ended: Result<()>, verdicts: [&Verdict; 2], operations: usize, unknown: usize) -> Ending {
    let guilty: Vec<_> = verdicts
        .iter()
        .filter(|verdict| !verdict.violations.is_empty())
        .map(ToString::to_string)
        .collect();
    if !guilty.is_empty() {
        return Ending::Convicted(guilty.join("\n"));
    }
    match ended {
        Err(error) if error.is::<Unproven>() => return Ending::Invalid(format!("{error:#}")),
        // Members that do not come back, clients that are not served, data that is gone after a restart.
        Err(error) => return Ending::Convicted(format!("{error:#}")),
        Ok(()) => {}
    }
    if let Some(verdict) = verdicts.iter().find(|verdict| !verdict.passed()) {
        return Ending::Invalid(verdict.to_string());
    }
    if unknown * 100 > operations * UNKNOWN_PERCENT_MAX {
        return Ending::Invalid(format!("{unknown} of {operations} outcomes are unknown"));
    }
    Ending::Passed
}

fn failovers(g: &Ground, history: &History) -> Vec<Duration> {
    let first_after = |killed: &u64| {
        let writes = history
            .operations()
            .filter(|op| op.call_ns >= *killed && op.args.can_write() && op.answer().is_some());
        let first = writes.filter_map(|op| op.return_ns).min()?;
        Some(Duration::from_nanos(first.saturating_sub(*killed)))
    };
    g.leader_killed_ns.iter().filter_map(first_after).collect()
}

/// Keeps what is needed to understand a run: its history and the logs of the members.
fn keep(plan: &Plan, g: &Ground, history: &History, dir: &Path) -> Result<()> {
    let dir = dir.join(format!("{}-{}", plan.name().replace("::", "-"), plan.seed));
    fs::create_dir_all(&dir)?;
    history.write_to(&dir.join("history.jsonl"))?;
    for member in &g.cluster.members {
        fs::write(dir.join(format!("{}.log", member.name)), member.log())?;
    }
    eprintln!("kept: {}", dir.display());
    Ok(())
}
