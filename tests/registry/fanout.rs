//! Many who follow a large service: what they see, how soon, and that those in one process share what they know.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use catena_client::{
    pb::TxnRequest,
    request::{self, Operation},
};
use catena_registry::{Change, Discovery, Instance, Layout, Watcher};
use framework::wait_until;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cases,
    ground::{Case, Ground, PATIENCE, judged},
};

pub(crate) const CASES: &[Case] = cases![a_hundred_watchers_of_a_thousand_instances];

/// Each with a registry, and so with watches, of its own.
const PROCESSES: usize = 10;

/// Watchers of each process.
const WATCHERS: usize = 10;

const INSTANCES: u16 = 1000;

/// Changes that are timed, each of another instance.
const CHANGES: u16 = 200;

/// The time in which 99 of 100 changes are seen.
const SEEN_WITHIN: Duration = Duration::from_millis(200);

/// From change to change.
const EVERY: Duration = Duration::from_millis(25);

/// Operations in one transaction, within what every store takes.
const TXN_OPS: usize = 100;

/// A weight that says which change it came with; those before are below.
const FIRST_CHANGE: u32 = 1000;

/// What a watcher has seen.
#[derive(Default)]
struct Seen {
    /// When each change was.
    at: BTreeMap<u32, Instant>,
    all: Option<Arc<[Arc<Instance>]>>,
}

type Shared = Arc<Mutex<Seen>>;

fn follow(mut watcher: Watcher) -> (Shared, AbortOnDropHandle<()>) {
    let seen = Shared::default();
    let task = tokio::spawn({
        let seen = seen.clone();
        async move {
            while let Ok(change) = watcher.next().await {
                note(&mut seen.lock(), change);
            }
        }
    });
    (seen, AbortOnDropHandle::new(task))
}

fn note(seen: &mut Seen, change: Change) {
    let now = Instant::now();
    for (_, new) in change.updated {
        if new.weight >= FIRST_CHANGE {
            seen.at.entry(new.weight).or_insert(now);
        }
    }
    seen.all = Some(change.all);
}

/// The instance of a number, with a weight.
fn weighted(ground: &Ground, number: u16, weight: u32) -> Instance {
    Instance {
        weight,
        ..ground.instance(number)
    }
}

/// Writes instances by hand: a thousand leases would be what is measured.
async fn write(ground: &Ground, instances: &[Instance]) -> Result<()> {
    for instances in instances.chunks(TXN_OPS) {
        let put = |instance: &Instance| {
            let key = Layout::Native.key(ground.namespace(), instance, 0);
            request::put(key, Layout::Native.value(instance)).op()
        };
        let txn = TxnRequest {
            success: instances.iter().map(put).collect(),
            ..TxnRequest::default()
        };
        ground.kv.txn(txn).await?;
    }
    Ok(())
}

/// Waits until every watcher knows exactly these instances.
async fn until_all_know(watchers: &[Shared], expected: &BTreeMap<String, u32>) -> Result<()> {
    let knows = |seen: &Shared| {
        let all = seen.lock().all.clone().unwrap_or_default();
        let known = all.iter().map(|instance| (&instance.id, instance.weight));
        known.eq(expected.iter().map(|(id, weight)| (id, *weight)))
    };
    wait_until("every watcher knows all", PATIENCE, async || {
        watchers.iter().all(knows).then_some(())
    })
    .await
}

async fn a_hundred_watchers_of_a_thousand_instances(ground: &Ground) -> Result<()> {
    let mut instances: Vec<_> = (0..INSTANCES)
        .map(|number| weighted(ground, number, 1))
        .collect();
    write(ground, &instances).await?;
    let mut watchers = Vec::new();
    let mut tasks = Vec::new();
    for _ in 0..PROCESSES {
        let registry = ground.registry()?;
        for _ in 0..WATCHERS {
            let (seen, task) = follow(registry.watch(&ground.service).await?);
            watchers.push(seen);
            tasks.push(task);
        }
    }
    until_all_know(&watchers, &by_id(&instances)).await?;

    let mut sent = BTreeMap::new();
    for change in 0..CHANGES {
        let weight = FIRST_CHANGE + u32::from(change);
        // Far from one another in the list.
        let number = change * 37 % INSTANCES;
        let instance = weighted(ground, number, weight);
        instances[usize::from(number)] = instance.clone();
        sent.insert(weight, Instant::now());
        write(ground, &[instance]).await?;
        sleep(EVERY).await;
    }
    until_all_know(&watchers, &by_id(&instances)).await?;
    // Ten go and ten come, so that the list ends as another one.
    for instance in instances.drain(..10) {
        let key = Layout::Native.key(ground.namespace(), &instance, 0);
        ground.delete(&key).await?;
    }
    let new = INSTANCES..INSTANCES + 10;
    instances.extend(new.map(|number| weighted(ground, number, 2)));
    write(ground, &instances[instances.len() - 10..]).await?;
    until_all_know(&watchers, &by_id(&instances)).await?;

    let latencies = latencies(&watchers, &sent)?;
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!(
        "{} watchers of {INSTANCES} instances: a change was seen after {:?} (p50), {:?} (p99), {:?} (max)",
        watchers.len(),
        at(50),
        at(99),
        at(100)
    );
    ensure!(at(99) < judged(SEEN_WITHIN), "p99 {:?}", at(99));
    // Watchers of one process hold one list, not copies.
    for process in watchers.chunks(WATCHERS) {
        let lists: Vec<_> = process
            .iter()
            .filter_map(|seen| seen.lock().all.clone())
            .collect();
        ensure!(lists.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    }
    Ok(())
}

fn by_id(instances: &[Instance]) -> BTreeMap<String, u32> {
    let pair = |instance: &Instance| (instance.id.clone(), instance.weight);
    instances.iter().map(pair).collect()
}

/// How long each change took to each watcher, sorted; an error if one never came.
fn latencies(watchers: &[Shared], sent: &BTreeMap<u32, Instant>) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for seen in watchers {
        let seen = seen.lock();
        for (change, sent) in sent {
            let at = seen
                .at
                .get(change)
                .with_context(|| format!("{change} was lost"))?;
            latencies.push(at.duration_since(*sent));
        }
    }
    latencies.sort();
    Ok(latencies)
}
