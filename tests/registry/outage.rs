//! The store itself dies, comes back, comes back older, or comes back empty.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use catena_client::{KeepAlive, LeaseState, request};
use catena_registry::{
    Change, Discovery, Layout, RegState, RegisterOptions, Registrar, Registration, Registry,
    Watcher,
};
use framework::wait_until;
use futures_util::{future::LocalBoxFuture, future::join_all};
use tokio::time::{Instant, timeout};

use crate::{
    cases,
    ground::{
        BACK_WITHIN, Ground, PATIENCE, SHORT_TTL, ids, next, standing, until, until_change,
        until_ids,
    },
    own_store::OwnStore,
};

/// A case on a store of its own, and its name.
pub(crate) type Case = (
    &'static str,
    for<'a> fn(&'a mut OwnStore) -> LocalBoxFuture<'a, Result<()>>,
);

pub(crate) const CASES: &[Case] = cases![
    a_restart_costs_nothing,
    longer_than_the_ttl_is_healed,
    a_wiped_store_is_filled_again,
    a_restored_store_is_made_good,
    a_restored_store_that_was_overtaken_is_noticed,
    two_hundred_come_back,
    no_write_is_made_twice,
    watches_and_renewals_go_on,
];

async fn register(ground: &Ground, number: u16, ttl: Duration) -> Result<Registration> {
    let options = RegisterOptions {
        ttl,
        ..RegisterOptions::default()
    };
    let registration = ground
        .registry()?
        .register(ground.instance(number), options)
        .await?;
    standing(&registration).await?;
    Ok(registration)
}

/// Takes changes until one is as wanted; none on the way may lack an instance.
async fn never_less(
    watcher: &mut Watcher,
    instances: usize,
    wanted: impl Fn(&Change) -> bool,
) -> Result<Change> {
    loop {
        let change = next(watcher).await?;
        ensure!(change.all.len() >= instances, "{:?}", ids(&change));
        if wanted(&change) {
            return Ok(change);
        }
    }
}

/// Waits until a follower has read the store that came back, whose revisions begin anew. A delete before that is not seen on a live
/// watch, so what it deleted is kept.
async fn until_read_anew(registry: &Registry, ground: &Ground, before: i64) -> Result<()> {
    wait_until("the store is read anew", PATIENCE, async || {
        let snapshot = registry.instances(&ground.service).await.ok()?;
        (snapshot.revision < before).then_some(())
    })
    .await
}

async fn a_restart_costs_nothing(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let registration = register(&ground, 1, Duration::from_secs(60)).await?;
    let (lease, _) = standing(&registration).await?;
    let mut watcher = ground.watch().await?;
    until_ids(&mut watcher, &["1"]).await?;
    store.kill()?;
    store.restart().await?;
    ground
        .put(&format!("/services/{}/2", ground.service), "h:2")
        .await?;
    let change = never_less(&mut watcher, 1, |change| change.all.len() == 2).await?;
    ensure!(change.all[0].epoch == registration.instance().epoch);
    ensure!(standing(&registration).await?.0 == lease);
    Ok(())
}

async fn longer_than_the_ttl_is_healed(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let registration = register(&ground, 1, SHORT_TTL).await?;
    let mut watcher = ground.watch().await?;
    until_ids(&mut watcher, &["1"]).await?;
    store.kill()?;
    let lost = |state: &RegState| matches!(state, RegState::Lost { attempt, .. } if *attempt > 1);
    until(&registration, "lost", lost).await?;
    let kept = never_less(&mut watcher, 1, |change| change.stale).await?;
    ensure!(kept.all[0].epoch == registration.instance().epoch);
    store.restart().await?;
    let (lease, _) = standing(&registration).await?;
    let kv = ground.get(&ground.native(1)).await?.context("it stands")?;
    ensure!(kv.lease == lease);
    // Every lease that it had before has run out by then.
    tokio::time::sleep(2 * SHORT_TTL).await;
    ensure!(ground.get(&ground.native(1)).await?.is_some());
    let snapshot = ground.registry()?.instances(&ground.service).await?;
    ensure!(snapshot.instances.len() == 1 && !snapshot.stale);
    Ok(())
}

async fn a_wiped_store_is_filled_again(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    // The old history is longer than what the new one will have at first.
    for number in 0..30 {
        ground.put("filler", &number.to_string()).await?;
    }
    let registration = register(&ground, 1, Duration::from_secs(10)).await?;
    // Nobody will write this one again.
    ground
        .put(&format!("/services/{}/lost", ground.service), "h:9")
        .await?;
    let registry = ground.registry()?;
    let mut watcher = registry.watch(&ground.service).await?;
    let before = until_ids(&mut watcher, &["1", "lost"]).await?;
    store.wipe()?;
    store.restart().await?;
    ground.until_key(&ground.native(1), true).await?;
    standing(&registration).await?;
    until_read_anew(&registry, &ground, before.revision).await?;
    let kept = never_less(&mut watcher, 2, |change| change.stale).await?;
    ensure!(ids(&kept) == ["1", "lost"]);
    // Its history is followed, and a delete on it is obeyed.
    registration.deregister().await?;
    let change = until_ids(&mut watcher, &["lost"]).await?;
    ensure!(change.stale);
    Ok(())
}

async fn a_restored_store_is_made_good(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let old = register(&ground, 1, Duration::from_secs(60)).await?;
    store.back_up().await?;
    let new = register(&ground, 2, Duration::from_secs(60)).await?;
    old.update(|instance| instance.weight = 7).await?;
    for number in 0..30 {
        ground.put("filler", &number.to_string()).await?;
    }
    let registry = ground.registry()?;
    let mut watcher = registry.watch(&ground.service).await?;
    let before = until_ids(&mut watcher, &["1", "2"]).await?;
    store.restore()?;
    store.restart().await?;
    // What the copy lacks is back, and what it has of old is put right.
    ground.until_key(&ground.native(2), true).await?;
    wait_until("the old value is put right", PATIENCE, async || {
        let value = ground.text(&ground.native(1)).await.ok()?;
        value.contains("\"weight\":7").then_some(())
    })
    .await?;
    standing(&new).await?;
    until_read_anew(&registry, &ground, before.revision).await?;
    drop(new);
    let change = never_less(&mut watcher, 1, |change| change.all.len() == 1).await?;
    ensure!(ids(&change) == ["1"]);
    Ok(())
}

async fn a_restored_store_that_was_overtaken_is_noticed(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    store.back_up().await?;
    ground
        .put(&format!("/services/{}/1", ground.service), "h:1")
        .await?;
    let mut watcher = ground.watch().await?;
    let before = until_ids(&mut watcher, &["1"]).await?;
    store.restore()?;
    store.restart().await?;
    // Others are quicker: soon the revision is past the one that was followed.
    for number in 0..100 {
        if ground.put("filler", &number.to_string()).await? > before.revision + 10 {
            break;
        }
    }
    let kept = never_less(&mut watcher, 1, |change| change.stale).await?;
    ensure!(ids(&kept) == ["1"]);
    ground
        .put(&format!("/services/{}/2", ground.service), "h:2")
        .await?;
    until_ids(&mut watcher, &["1", "2"]).await?;
    ground
        .put(&format!("/services/{}/1", ground.service), "h:1")
        .await?;
    until_change(&mut watcher, "fresh", |change| !change.stale).await?;
    Ok(())
}

/// Two hundred registrations, as of two hundred services in one process, lost for longer than their TTL.
async fn two_hundred_come_back(store: &mut OwnStore) -> Result<()> {
    const INSTANCES: u16 = 200;
    // A store that came back lets leases run out that are not renewed by then: time for all, on a busy machine too.
    const TTL: Duration = Duration::from_secs(8);
    let ground = store.ground();
    let registry = ground.registry()?;
    let mut watcher = ground.watch().await?;
    let register = async |number| {
        let options = RegisterOptions {
            ttl: TTL,
            layouts: vec![Layout::Native],
            ..RegisterOptions::default()
        };
        registry.register(ground.instance(number), options).await
    };
    let all = join_all((0..INSTANCES).map(register)).await;
    let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
    let count = |change: &Change| change.all.len() == usize::from(INSTANCES);
    until_change(&mut watcher, "all", count).await?;
    // What callers see of the outage: never one instance less.
    let least = Arc::new(AtomicUsize::new(usize::MAX));
    let _following = tokio_util::task::AbortOnDropHandle::new(tokio::spawn({
        let least = least.clone();
        async move {
            while let Ok(change) = watcher.next().await {
                least.fetch_min(change.all.len(), Ordering::Relaxed);
            }
        }
    }));
    store.kill()?;
    let lost = |state: &RegState| matches!(state, RegState::Lost { .. });
    for registration in &all {
        until(registration, "lost", lost).await?;
    }
    store.restart().await?;
    let began = Instant::now();
    for registration in &all {
        standing(registration).await?;
    }
    let back = began.elapsed();
    println!("{INSTANCES} registrations were back {back:?} after the store");
    ensure!(back <= BACK_WITHIN, "after {back:?}");
    let stands = ground
        .kv
        .range(request::get_prefix(format!(
            "/registry/v1/{}/",
            ground.namespace()
        )))
        .await?;
    ensure!(stands.count == i64::from(INSTANCES), "{}", stands.count);
    wait_until("what is known is fresh", PATIENCE, async || {
        let snapshot = registry.instances(&ground.service).await.ok()?;
        (!snapshot.stale && snapshot.instances.len() == usize::from(INSTANCES)).then_some(())
    })
    .await?;
    ensure!(least.load(Ordering::Relaxed) >= usize::from(INSTANCES));
    Ok(())
}

/// Each write is made at most once: the key's version counts those that took place.
async fn no_write_is_made_twice(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let kv = ground.kv.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let stop = stop.clone();
        async move {
            let (mut done, mut unknown) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                match kv.put(request::put("counted", "")).await {
                    Ok(_) => done += 1,
                    Err(error) if error.is_unknown_outcome() => unknown += 1,
                    Err(_no_effect) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            (done, unknown)
        }
    });
    for _ in 0..3 {
        let before = version(&ground, 0).await?;
        version(&ground, before + 1).await?;
        store.kill()?;
        store.restart().await?;
    }
    let before = version(&ground, 0).await?;
    version(&ground, before + 1).await?;
    stop.store(true, Ordering::Relaxed);
    let (done, unknown) = timeout(PATIENCE, writer).await??;
    let version = version(&ground, 0).await?;
    println!("{done} writes were answered, {unknown} may have been made, {version} were");
    ensure!(
        (done..=done + unknown).contains(&version),
        "{done} {unknown} {version}"
    );
    Ok(())
}

/// Waits until the counted key has at least this version.
async fn version(ground: &Ground, least: i64) -> Result<i64> {
    wait_until("the writer goes on", PATIENCE, async || {
        let kv = ground.get("counted").await.ok()?;
        let version = kv.map_or(0, |kv| kv.version);
        (version >= least).then_some(version)
    })
    .await
}

async fn watches_and_renewals_go_on(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let lease = ground.kv.lease_grant(request::grant(60)).await?;
    let ttl = Duration::from_secs(u64::try_from(lease.ttl)?);
    let keep_alive = KeepAlive::start(ground.kv.clone(), lease.id, ttl);
    let mut state = keep_alive.state();
    let mut watcher = ground.watch().await?;
    let mut expected = Vec::new();
    for number in 0..3 {
        ground
            .put(&format!("/services/{}/{number}", ground.service), "h:1")
            .await?;
        expected.push(number.to_string());
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        until_ids(&mut watcher, &expected).await?;
        store.kill()?;
        store.restart().await?;
    }
    let renewed = ground.kv.lease_renew(lease.id).await?;
    ensure!(renewed.ttl == lease.ttl && ground.ttl(lease.id).await? > 0);
    ensure!(matches!(
        *state.borrow_and_update(),
        LeaseState::Alive { .. }
    ));
    Ok(())
}
