//! All endpoints of the store are down for an hour, in paused time: what is tried meanwhile, what is known meanwhile, and how soon
//! everything is as it was.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::fake_store::{Fake, FakeStore, Plug};
use crate::{
    Discovery, Instance, RegState, RegisterOptions, Registrar, Registration, Registry,
    RegistryOptions, ServiceName,
};

const HOUR: Duration = Duration::from_secs(3600);

/// The longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long an attempt at a store that hangs takes.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Within this time all come back to a store that answers again.
const SPREAD: Duration = Duration::from_millis(500);

/// Timers go off up to a millisecond late.
const TICK: Duration = Duration::from_millis(1);

fn service() -> ServiceName {
    ServiceName::new("user").unwrap()
}

fn registry(store: &Arc<FakeStore>) -> Registry {
    Registry::new(Arc::new(Fake(store.clone())), RegistryOptions::default()).unwrap()
}

async fn register(registry: &Registry, number: usize) -> Registration {
    let endpoint = format!("grpc://10.0.0.{number}:1").parse().unwrap();
    let instance = Instance::new(service(), &format!("{number:03}"), vec![endpoint]);
    let registration = registry
        .register(instance, RegisterOptions::default())
        .await
        .unwrap();
    standing(&registration).await;
    registration
}

async fn standing(registration: &Registration) {
    let mut state = registration.state();
    let stands = |state: &RegState| matches!(state, RegState::Registered { .. });
    state.wait_for(stands).await.unwrap();
}

/// The longest time between two attempts, and how many there were.
fn attempts(store: &FakeStore, since: Instant) -> (Duration, usize) {
    let at = store.grants_since(since);
    let gaps = at.windows(2).map(|pair| pair[1] - pair[0]);
    (gaps.max().unwrap_or_default(), at.len())
}

#[tokio::test(start_paused = true)]
async fn an_hour_is_sat_out_and_ends_within_seconds() {
    for (plug, gap_max, count) in [
        (Plug::Refuses, PAUSE_MAX, 3_000..4_300),
        (Plug::Hangs, PAUSE_MAX + ATTEMPT_MAX, 1_000..1_500),
    ] {
        let store = FakeStore::new();
        let registry = registry(&store);
        let registration = register(&registry, 1).await;
        let mut watcher = registry.watch(&service()).await.unwrap();
        let known = watcher.next().await.unwrap();
        assert_eq!(known.all.len(), 1);
        let least = tokio::spawn(async move {
            let mut least = usize::MAX;
            while let Ok(change) = watcher.next().await {
                least = least.min(change.all.len());
            }
            least
        });

        store.set(plug);
        let down = Instant::now();
        sleep(HOUR).await;
        let state = registration.state().borrow().clone();
        assert!(matches!(state, RegState::Lost { .. }), "{state:?}");
        let lost = down + RegisterOptions::default().ttl + PAUSE_MAX;
        let (gap, tried) = attempts(&store, lost);
        println!("{plug:?}: {tried} attempts in an hour, {gap:?} apart at most");
        assert!(gap <= gap_max + 2 * TICK, "{plug:?}: {gap:?}");
        assert!(count.contains(&tried), "{plug:?}: {tried}");
        // What was known is what is known.
        let snapshot = registry.instances(&service()).await.unwrap();
        assert!(snapshot.stale && snapshot.synced);
        assert!(Arc::ptr_eq(&snapshot.instances, &known.all));

        store.set(Plug::In);
        let up = Instant::now();
        standing(&registration).await;
        println!("{plug:?}: back after {:?}", up.elapsed());
        assert!(up.elapsed() <= Duration::from_secs(5));
        // In the end nothing is old or twice there.
        sleep(Duration::from_secs(60)).await;
        let snapshot = registry.instances(&service()).await.unwrap();
        assert!(!snapshot.stale);
        assert!(Arc::ptr_eq(&snapshot.instances, &known.all));
        assert_eq!(store.keys(), ["/registry/v1/default/user/001"]);
        // Who followed it all saw the instance all the time.
        registry.close().await;
        assert_eq!(least.await.unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_again_is_tried_at_once_and_not_by_all_at_once() {
    const INSTANCES: usize = 200;
    let store = FakeStore::new();
    let registry = registry(&store);
    let all = join_all((0..INSTANCES).map(|number| register(&registry, number))).await;
    store.set(Plug::Refuses);
    sleep(HOUR).await;
    store.set(Plug::In);
    let up = Instant::now();
    join_all(all.iter().map(standing)).await;
    println!("{INSTANCES} were back after {:?}", up.elapsed());
    assert!(up.elapsed() <= Duration::from_secs(5));

    let heard = store.answered_since(up).unwrap();
    let tried = store.grants_since(up);
    assert_eq!(tried.len(), INSTANCES, "each was back at its first attempt");
    let last = *tried.iter().max().unwrap();
    assert!(last <= heard + SPREAD + TICK, "{:?}", last - heard);
    let mut moments = tried.clone();
    moments.sort();
    moments.dedup();
    assert!(moments.len() > INSTANCES / 4, "{} moments", moments.len());
    assert_eq!(store.keys().len(), INSTANCES);
    registry.close().await;
}
