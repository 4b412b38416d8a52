//! Sessions, locks and elections over a store in memory.

use std::{sync::Arc, time::Duration};

use catena_api::errors;
use catena_client::{
    Election, Error, Kv, LeaseState, Mutex, Session, SessionOptions, election, mutex, pb, request,
};
use tokio::time::Instant;

use crate::{memory::Memory, within};

async fn session(store: &Memory) -> Arc<Session> {
    session_of(store, 60).await
}

async fn session_of(store: &Memory, ttl_secs: i64) -> Arc<Session> {
    let options = SessionOptions { ttl_secs, lease: 0 };
    Arc::new(Session::open(store.kv(), options).await.unwrap())
}

fn silence() -> impl Iterator<Item = Option<Error>> {
    (0..1000).map(|_| None)
}

#[tokio::test]
async fn lease_is_renewed_each_third_of_its_ttl() {
    let (store, start) = (Memory::new(), Instant::now());
    let session = session_of(&store, 3).await;
    // At once, then every second.
    within(store.until(|store| store.renewed() == 3)).await;
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert!(matches!(
        *session.state().borrow(),
        LeaseState::Alive { .. }
    ));
}

#[tokio::test]
async fn session_outlives_an_outage_shorter_than_the_ttl() {
    let store = Memory::new();
    store.answer_renewals([Some(Error::Unreachable(String::new())), None, None]);
    let session = session_of(&store, 3).await;
    within(store.until(|store| store.renewed() == 5)).await;
    assert!(matches!(
        *session.state().borrow(),
        LeaseState::Alive { .. }
    ));
}

#[tokio::test]
async fn session_is_lost_when_the_ttl_passes_in_silence() {
    let store = Memory::new();
    store.answer_renewals(silence());
    let start = Instant::now();
    let session = session_of(&store, 1).await;
    let lost = within(session.lost()).await;
    assert_eq!(lost, Error::LeaseLost(session.lease()));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn session_is_lost_when_the_lease_is_revoked() {
    let store = Memory::new();
    let session = session_of(&store, 1).await;
    store.kv().lease_revoke(session.lease()).await.unwrap();
    let lost = within(session.lost()).await;
    assert_eq!(lost, Error::LeaseLost(session.lease()));
}

#[tokio::test]
async fn session_takes_an_existing_lease_over() {
    let store = Memory::new();
    let lease = store.kv().lease_grant(request::grant(30)).await.unwrap().id;
    let options = |lease| SessionOptions {
        lease,
        ..Default::default()
    };
    let session = Session::open(store.kv(), options(lease)).await.unwrap();
    assert_eq!(session.lease(), lease);
    let error = Session::open(store.kv(), options(99)).await.unwrap_err();
    assert_eq!(error, Error::LeaseLost(99));
}

#[tokio::test]
async fn closed_session_leaves_nothing() {
    let store = Memory::new();
    let session = session(&store).await;
    let lock = Mutex::new(session.clone(), "m").lock().await.unwrap();
    session.close().await.unwrap();
    assert_eq!((store.keys().len(), store.leases().len()), (0, 0));
    assert_eq!(session.lost().await, Error::Closed);
    session.close().await.unwrap();
    lock.unlock().await.unwrap();
}

#[tokio::test]
async fn lock_goes_from_holder_to_holder_in_order() {
    let store = Memory::new();
    let sessions = [
        session(&store).await,
        session(&store).await,
        session(&store).await,
    ];
    let [first, second, third] = sessions
        .each_ref()
        .map(|session| Mutex::new(session.clone(), "m"));
    let held = first.lock().await.unwrap();
    assert_eq!(store.keys(), ["m/10"]);
    let second = tokio::spawn(async move { second.lock().await });
    within(store.until(|store| store.watches() == 1)).await;
    let third = tokio::spawn(async move { third.lock().await });
    within(store.until(|store| store.watches() == 2)).await;
    let revision = held.revision();
    held.unlock().await.unwrap();
    let held = within(second).await.unwrap().unwrap();
    assert!(held.revision() > revision);
    // The third was not woken: it watches the second's key.
    assert_eq!(store.watches(), 2);
    assert!(!third.is_finished());
    drop(held);
    within(third).await.unwrap().unwrap();
}

#[tokio::test]
async fn try_lock_leaves_no_key_behind() {
    let store = Memory::new();
    let (a, b) = (session(&store).await, session(&store).await);
    let held = Mutex::new(a, "m").try_lock().await.unwrap().unwrap();
    assert!(Mutex::new(b, "m").try_lock().await.unwrap().is_none());
    assert_eq!(store.keys(), [String::from_utf8_lossy(held.key())]);
}

#[tokio::test]
async fn same_lease_takes_the_lock_it_holds() {
    let store = Memory::new();
    let session = session(&store).await;
    let mutex = Mutex::new(session, "m");
    let (first, again) = (mutex.lock().await.unwrap(), mutex.lock().await.unwrap());
    assert_eq!(first.revision(), again.revision());
}

#[tokio::test]
async fn waiter_given_up_leaves_the_line() {
    let store = Memory::new();
    let kv = store.kv();
    let held = mutex::lock(&kv, b"m", 0).await.unwrap();
    let waiter = tokio::spawn({
        let kv = kv.clone();
        async move { mutex::lock(&kv, b"m", 0).await }
    });
    within(store.until(|store| store.watches() == 1)).await;
    assert_eq!(store.keys().len(), 2);
    waiter.abort();
    within(store.until(|store| store.keys().len() == 1)).await;
    mutex::unlock(kv.as_ref(), held.key).await.unwrap();
    assert_eq!(store.keys().len(), 0);
}

#[tokio::test]
async fn waiter_whose_lease_ended_does_not_get_the_lock() {
    let store = Memory::new();
    let kv = store.kv();
    let held = mutex::lock(&kv, b"m", 0).await.unwrap();
    let lease = kv.lease_grant(request::grant(60)).await.unwrap().id;
    let waiter = tokio::spawn({
        let kv = kv.clone();
        async move { mutex::lock(&kv, b"m", lease).await }
    });
    within(store.until(|store| store.watches() == 1)).await;
    kv.lease_revoke(lease).await.unwrap();
    mutex::unlock(kv.as_ref(), held.key).await.unwrap();
    let error = within(waiter).await.unwrap().unwrap_err();
    assert!(error.is(errors::SESSION_EXPIRED), "{error}");
}

#[tokio::test]
async fn lock_on_an_unknown_lease_is_refused() {
    let error = mutex::lock(&Memory::new().kv(), b"m", 77)
        .await
        .unwrap_err();
    assert!(error.is_lease_not_found(), "{error}");
}

#[tokio::test]
async fn waiting_for_a_lock_ends_with_the_session() {
    let store = Memory::new();
    let _held = mutex::lock(&store.kv(), b"m", 0).await.unwrap();
    let session = session_of(&store, 1).await;
    let mutex = Mutex::new(session.clone(), "m");
    let waiter = tokio::spawn(async move { mutex.lock().await });
    within(store.until(|store| store.watches() == 1)).await;
    store.answer_renewals(silence());
    let error = within(waiter).await.unwrap().unwrap_err();
    assert_eq!(error, Error::LeaseLost(session.lease()));
}

#[tokio::test]
async fn fencing_fails_once_the_lock_is_gone() {
    let store = Memory::new();
    let session = session(&store).await;
    let lock = Mutex::new(session.clone(), "m").lock().await.unwrap();
    let fenced = pb::TxnRequest {
        compare: vec![lock.held()],
        ..pb::TxnRequest::default()
    };
    assert!(store.txn(fenced.clone()).await.unwrap().succeeded);
    session.close().await.unwrap();
    assert!(!store.txn(fenced).await.unwrap().succeeded);
}

#[tokio::test]
async fn leader_proclaims_and_resigns() {
    let store = Memory::new();
    let election = Election::new(session(&store).await, "e");
    let kv = store.kv();
    let none = election::leader(kv.as_ref(), b"e").await.unwrap_err();
    assert!(none.is(errors::ELECTION_NO_LEADER));
    let leadership = election.campaign("a").await.unwrap();
    leadership.proclaim("b").await.unwrap();
    let leader = election::leader(kv.as_ref(), b"e").await.unwrap();
    assert_eq!(leader.kv.unwrap().value(), "b");
    let (name, key, rev) = ("e".into(), leadership.key().clone(), leadership.revision());
    leadership.resign().await.unwrap();
    let past = pb::LeaderKey {
        name,
        key,
        rev,
        lease: 16,
    };
    let refused = election::proclaim(kv.as_ref(), &past, "c".into())
        .await
        .unwrap_err();
    assert!(refused.is(errors::ELECTION_NOT_LEADER));
    election::resign(kv.as_ref(), &past).await.unwrap();
}

#[tokio::test]
async fn campaign_again_proclaims_the_new_value() {
    let store = Memory::new();
    let kv = store.kv();
    let lease = kv.lease_grant(request::grant(60)).await.unwrap().id;
    let first = election::campaign(&kv, b"e", lease, "a".into())
        .await
        .unwrap();
    let again = election::campaign(&kv, b"e", lease, "b".into())
        .await
        .unwrap();
    assert_eq!(first.leader, again.leader);
    let leader = election::leader(kv.as_ref(), b"e")
        .await
        .unwrap()
        .kv
        .unwrap();
    assert_eq!((leader.value(), leader.view().lease), ("b".into(), lease));
}

#[tokio::test]
async fn observer_sees_each_leader_and_value() {
    let store = Memory::new();
    let kv = store.kv();
    let mut observer = election::observe(kv.clone(), b"e");
    let seen = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(observer.next().await.unwrap().kv.unwrap().value());
        }
        seen
    });
    within(store.until(|store| store.watches() == 1)).await;
    let a = election::campaign(&kv, b"e", 0, "a".into()).await.unwrap();
    let a = a.leader.unwrap();
    within(store.until(|store| store.watches() == 2)).await;
    election::proclaim(kv.as_ref(), &a, "b".into())
        .await
        .unwrap();
    let next = tokio::spawn({
        let kv = kv.clone();
        async move { election::campaign(&kv, b"e", 0, "c".into()).await }
    });
    within(store.until(|store| store.keys().len() == 2)).await;
    election::resign(kv.as_ref(), &a).await.unwrap();
    let c = within(next).await.unwrap().unwrap().leader.unwrap();
    election::proclaim(kv.as_ref(), &c, "d".into())
        .await
        .unwrap();
    let seen = within(seen).await.unwrap();
    assert_eq!(
        (&seen[..2], &seen[3]),
        (&["a".into(), "b".into()][..], &"d".into())
    );
}
