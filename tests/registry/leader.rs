//! The member that leads the store is killed, and nobody who registers, renews or watches loses anything.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use catena_client::{Watcher, request};
use catena_registry::{Layout, RegisterOptions, Registrar, Registration};
use framework::wait_until;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cases,
    ground::{Ground, PATIENCE, standing, until_change},
    outage::Case,
    own_store::OwnStore,
};

pub(crate) const CASES: &[Case] = cases![
    while_registrations_are_made,
    while_leases_are_renewed,
    while_watches_follow,
];

/// Registrations, each with a lease of its own.
const INSTANCES: u16 = 50;

/// Longer than an election on a busy machine: what is lost here is lost by the change of leader.
const TTL: Duration = Duration::from_secs(12);

/// Leaders that are killed, one after another.
const LEADERS: usize = 3;

/// All of them, at once.
async fn register(ground: &Ground) -> Result<Vec<Registration>> {
    let registry = ground.registry()?;
    let one = |number| {
        let options = RegisterOptions {
            ttl: TTL,
            ..RegisterOptions::default()
        };
        registry.register(ground.instance(number), options)
    };
    let all = join_all((0..INSTANCES).map(one)).await;
    Ok(all.into_iter().collect::<Result<_, _>>()?)
}

/// Lease of each, once it stands, and the revision of its key, which must be on that lease.
async fn all_stand(ground: &Ground, all: &[Registration]) -> Result<Vec<(i64, i64)>> {
    let mut stand = Vec::new();
    for (number, registration) in all.iter().enumerate() {
        let (lease, _looked_at) = standing(registration).await?;
        let key = ground.native(u16::try_from(number)?);
        let kv = ground.get(&key).await?.with_context(|| key.clone())?;
        ensure!(kv.lease == lease, "on {lease}, but {kv:?}");
        stand.push((lease, kv.mod_revision));
    }
    let prefix = format!("/registry/v1/{}/", ground.namespace());
    let keys = ground.kv.range(request::get_prefix(prefix)).await?;
    ensure!(keys.count == i64::from(INSTANCES), "{} keys", keys.count);
    Ok(stand)
}

async fn while_registrations_are_made(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let mut watcher = ground.watch().await?;
    let registering = register(&ground);
    let killing = async {
        // Some are made and some are not.
        let prefix = format!("/registry/v1/{}/", ground.namespace());
        let made = request::get_prefix(prefix);
        wait_until("the first are made", PATIENCE, async || {
            let keys = ground.kv.range(made.clone()).await.ok()?;
            (keys.count > 0).then_some(())
        })
        .await?;
        store.kill_leader().await
    };
    let (all, killed) = tokio::join!(registering, killing);
    killed?;
    let all = all?;
    let stand = all_stand(&ground, &all).await?;
    let whole = |change: &catena_registry::Change| change.all.len() == usize::from(INSTANCES);
    until_change(&mut watcher, "all", whole).await?;
    store.restart().await?;
    ensure!(all_stand(&ground, &all).await? == stand);
    Ok(())
}

/// Fails if one of the instances is ever seen to go.
fn nobody_goes(
    mut watcher: catena_registry::Watcher,
) -> AbortOnDropHandle<Result<std::convert::Infallible>> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut most = 0;
        loop {
            let change = watcher.next().await?;
            ensure!(
                change.removed.is_empty() && change.all.len() >= most,
                "{change:?}"
            );
            most = change.all.len();
        }
    }))
}

async fn while_leases_are_renewed(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let all = register(&ground).await?;
    let stand = all_stand(&ground, &all).await?;
    let seen = nobody_goes(ground.watch().await?);
    let began = Instant::now();
    for _ in 0..LEADERS {
        store.kill_leader().await?;
        // There is a leader again, and a renewal is answered.
        let (lease, _) = stand[0];
        wait_until("a lease is renewed", PATIENCE, async || {
            ground.kv.lease_renew(lease).await.ok()
        })
        .await?;
        store.restart().await?;
    }
    // By then each lease has run out that was not renewed since the last leader came.
    tokio::time::sleep(2 * TTL).await;
    // The same leases, and keys that nobody has written again.
    ensure!(all_stand(&ground, &all).await? == stand);
    println!(
        "{INSTANCES} leases of {TTL:?} outlived {LEADERS} leaders in {:?}",
        began.elapsed()
    );
    if seen.is_finished() {
        let Err(error) = seen.await?;
        return Err(error.context("somebody was seen to go"));
    }
    Ok(())
}

/// The values of a key's puts with their revisions, until the wanted one.
async fn told(mut watcher: Watcher, last: String) -> Result<Vec<(i64, String)>> {
    let mut told = Vec::new();
    loop {
        for event in watcher.next().await?.events {
            let kv = event.kv().context("events carry a pair")?.view();
            told.push((kv.mod_revision, String::from_utf8(kv.value.to_vec())?));
        }
        if told.last().is_some_and(|(_, value)| *value == last) {
            return Ok(told);
        }
    }
}

async fn while_watches_follow(store: &mut OwnStore) -> Result<()> {
    const LAST: &str = "last:1";
    let ground = store.ground();
    let key = Layout::Article.key(ground.namespace(), &ground.instance(1), 0);
    let raw = ground.kv.watch(request::watch(key.clone())).await?;
    let raw = AbortOnDropHandle::new(tokio::spawn(told(raw, LAST.to_owned())));
    let mut watcher = ground.watch().await?;

    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (kv, key, stop) = (ground.kv.clone(), key.clone(), stop.clone());
        async move {
            // Revisions of the writes that were answered; others may have been made all the same.
            let mut answered = BTreeMap::new();
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let value = format!("h:{number}");
                match kv.put(request::put(key.clone(), value.clone())).await {
                    Ok(put) => {
                        answered.insert(put.header.unwrap_or_default().revision, value);
                    }
                    Err(_without_leader) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            answered
        }
    });
    for _ in 0..LEADERS {
        let before = version(&ground, &key, 0).await?;
        version(&ground, &key, before + 20).await?;
        store.kill_leader().await?;
        let before = version(&ground, &key, 0).await?;
        version(&ground, &key, before + 20).await?;
        store.restart().await?;
    }
    stop.store(true, Ordering::Relaxed);
    let answered = timeout(PATIENCE, writer).await??;
    wait_until("the last write is answered", PATIENCE, async || {
        ground.put(&key, LAST).await.ok()
    })
    .await?;
    let told = timeout(PATIENCE, raw).await???;
    println!(
        "{} writes were answered and {} told",
        answered.len(),
        told.len()
    );
    ensure!(
        told.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "told twice, or out of order"
    );
    let told: BTreeMap<_, _> = told.into_iter().collect();
    let lost = answered
        .iter()
        .find(|(revision, value)| told.get(revision) != Some(value));
    ensure!(lost.is_none(), "{lost:?} was not told");
    // Who follows the service ends at what the store has.
    let at_last = |change: &catena_registry::Change| {
        let [only] = &*change.all else {
            return false;
        };
        !change.stale && only.endpoints[0].address() == LAST
    };
    until_change(&mut watcher, LAST, at_last).await?;
    Ok(())
}

/// Waits until a key has at least this version.
async fn version(ground: &Ground, key: &str, least: i64) -> Result<i64> {
    wait_until("the writer goes on", PATIENCE, async || {
        let kv = ground.get(key).await.ok()?;
        let version = kv.map_or(0, |kv| kv.version);
        (version >= least).then_some(version)
    })
    .await
}
