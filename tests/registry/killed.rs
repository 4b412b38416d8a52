//! A process that offers a service is killed: how soon its callers leave it alone, and how soon nobody sees it any more.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use catena_api::example::{UserRequest, user_service_client::UserServiceClient};
use catena_registry::{
    Discovery, Registry, ServiceName, Watcher,
    channel::{Channel, ChannelOptions, Error},
};
use framework::{Running, Target, Tool, wait_until};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{
    cases,
    ground::{Case, Ground, PATIENCE},
};

pub(crate) const CASES: &[Case] = cases![one_of_three_processes];

/// Long enough that what callers do in the meantime is their own doing.
const TTL: Duration = Duration::from_secs(6);

/// After that time callers have learned from their calls.
const LEARNED_WITHIN: Duration = Duration::from_secs(2);

/// Who call without a pause, over one channel.
const CALLERS: usize = 4;

/// Others who follow the service, each as a process of its own would.
const WATCHERS: usize = 3;

/// A process that runs the user service until it is dropped, which kills it.
fn start(ground: &Ground, id: &str, dir: &Path) -> Result<Running> {
    Tool::new(Target::Catena.program()?).follow(&[
        "run",
        "user",
        "--user-listen=127.0.0.1:0",
        &format!("--endpoints={}", ground.endpoint),
        &format!("--namespace={}", ground.namespace()),
        &format!("--user-id={id}"),
        &format!("--user-ttl={}s", TTL.as_secs()),
        &format!("--user-database=sqlite:{}", dir.join(id).display()),
    ])
}

/// Waits until the watcher sees the instance, and then until it does not; when that was.
async fn gone(mut watcher: Watcher, id: String) -> Result<Instant> {
    let mut seen = false;
    loop {
        let change = watcher.next().await?;
        let is_there = change.all.iter().any(|instance| instance.id == id);
        match (seen, is_there) {
            (true, false) => return Ok(Instant::now()),
            (false, false) => {}
            (_, true) => seen = true,
        }
    }
}

/// What a caller has met.
#[derive(Default)]
struct Met {
    answers: u64,
    /// Calls that were under way when their connection broke, so that nobody can say what became of them.
    lost: u64,
}

async fn call_on(channel: Channel, over: CancellationToken) -> Result<Met> {
    let mut client = UserServiceClient::new(channel);
    let mut met = Met::default();
    while !over.is_cancelled() {
        let asked = UserRequest {
            user_id: "1".to_owned(),
        };
        match client.get_user(asked).await {
            Err(status) if status.code() == Code::NotFound => met.answers += 1,
            Err(status) if matches!(Error::of(&status), Some(Error::Lost { .. })) => met.lost += 1,
            Err(status) => bail!("{status:?}"),
            Ok(user) => bail!("there is no user, but {user:?}"),
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(met)
}

async fn one_of_three_processes(ground: &Ground) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let service = ServiceName::new("user")?;
    let mut processes = Vec::new();
    for id in ["one", "two", "three"] {
        processes.push(start(ground, id, dir.path())?);
    }
    let registry: Registry = ground.registry()?;
    // No checks: what callers learn here, they learn from calls.
    let options = ChannelOptions {
        health: None,
        ..ChannelOptions::default()
    };
    let channel = Channel::connect(&registry, &service, None, options).await?;
    wait_until("all can be called", PATIENCE, async || {
        (channel.instances().len() == processes.len()).then_some(())
    })
    .await
    .with_context(|| processes.iter().map(Running::printed).collect::<String>())?;
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let watcher = ground.registry()?.watch(&service).await?;
        watchers.spawn(gone(watcher, "two".to_owned()));
    }
    let over = CancellationToken::new();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_on(channel.clone(), over.clone()));
    }
    wait_until("all are called", PATIENCE, async || {
        let slots = channel.instances();
        slots.iter().all(|slot| slot.rtt.is_some()).then_some(())
    })
    .await?;

    let killed = Instant::now();
    drop(processes.remove(1));
    sleep_until(killed + LEARNED_WITHIN).await;
    let slots = channel.instances();
    let slot = slots.iter().find(|slot| slot.instance.id == "two");
    let is_ejected = slot.context("its lease is not over")?.ejected;
    let totals = channel.totals();
    let until_gone = async {
        let mut last = killed;
        while let Some(at) = watchers.join_next().await {
            last = last.max(at??);
        }
        anyhow::Ok(last)
    };
    let last = timeout(PATIENCE, until_gone).await??;
    wait_until("the channel forgets it", PATIENCE, async || {
        (channel.instances().len() == processes.len()).then_some(())
    })
    .await?;
    let later = channel.totals();
    over.cancel();
    let (mut answers, mut lost) = (0, 0);
    while let Some(met) = callers.join_next().await {
        let met = met??;
        answers += met.answers;
        lost += met.lost;
    }
    let seen = last - killed;
    // All others are well, so whatever was sent twice was sent to the dead one first.
    let (early, late) = (totals.repeats, later.repeats - totals.repeats);
    println!(
        "killed: seen for {seen:?} of {TTL:?}; {answers} calls answered, {lost} cut off, {early} met the dead one within \
         {LEARNED_WITHIN:?} and {late} of {} after",
        later.calls - totals.calls
    );
    ensure!(seen <= TTL + Duration::from_secs(1), "seen for {seen:?}");
    ensure!(is_ejected, "it takes calls as before");
    // Trials, after one, two and four seconds, each give or take a half.
    ensure!(late <= 3, "{late} calls met the dead one");
    // Each caller had at most one call under way.
    ensure!(lost <= CALLERS as u64, "{lost} calls were cut off");
    Ok(())
}
