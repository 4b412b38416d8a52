//! The store's interface itself, and the recipes on it: the same over a network and in process.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use catena_client::{
    Election, Error, LeaseState, Mutex, Session, SessionOptions, Watcher, election,
    pb::{EventType, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest},
    request::{self, Operation},
};
use tokio::time::timeout;

use crate::{
    cases,
    ground::{Case, Ground, HISTORY, PATIENCE},
};

pub(crate) const CASES: &[Case] = cases![
    reads_see_writes,
    a_transaction_takes_one_branch,
    refusals_are_the_store_s_own,
    a_lease_is_granted_renewed_and_revoked,
    a_lease_takes_its_keys_along,
    a_watch_begins_where_it_is_told,
    a_watch_misses_and_repeats_nothing,
    a_watch_tells_its_progress,
    a_compacted_watch_ends,
    a_future_revision_is_told_from_a_compacted_one,
    a_session_ends_with_its_lease,
    a_session_takes_a_lease_over,
    a_lock_goes_from_holder_to_holder,
    a_lock_is_tried_without_waiting,
    a_lock_fences_by_its_revision,
    a_lock_of_a_lost_session_is_free,
    a_leader_proclaims_and_resigns,
    a_leadership_fences_by_its_revision,
];

/// A key of the case's own.
fn key(ground: &Ground, name: &str) -> String {
    format!("{}/{name}", ground.service)
}

async fn session(ground: &Ground) -> Result<Arc<Session>> {
    let options = SessionOptions {
        ttl_secs: 30,
        lease: 0,
    };
    Ok(Arc::new(Session::open(ground.kv.clone(), options).await?))
}

async fn reads_see_writes(ground: &Ground) -> Result<()> {
    let _history = HISTORY.read().await;
    let key = key(ground, "k");
    let revision = ground.put(&key, "1").await?;
    let kv = ground.get(&key).await?.context("it stands")?;
    ensure!((kv.mod_revision, kv.create_revision, kv.version) == (revision, revision, 1));
    ground.put(&key, "2").await?;
    let then = RangeRequest {
        revision,
        ..request::get(key.clone())
    };
    ensure!(ground.kv.range(then).await?.kvs[0].value() == "1");
    ground.delete(&key).await?;
    ensure!(ground.get(&key).await?.is_none());
    Ok(())
}

async fn a_transaction_takes_one_branch(ground: &Ground) -> Result<()> {
    let key = key(ground, "k");
    let create = TxnRequest {
        compare: vec![request::absent(key.clone())],
        success: vec![request::put(key.clone(), "first").op()],
        failure: vec![request::get(key.clone()).op()],
    };
    ensure!(ground.kv.txn(create.clone()).await?.succeeded);
    let again = ground.kv.txn(create).await?;
    ensure!(!again.succeeded);
    let range = request::range_answer(&again.responses[0]);
    ensure!(range.kvs[0].value() == "first");
    Ok(())
}

async fn refusals_are_the_store_s_own(ground: &Ground) -> Result<()> {
    let empty = ground
        .kv
        .put(request::put("", ""))
        .await
        .err()
        .context("an error")?;
    ensure!(
        empty.is(catena_api::errors::EMPTY_KEY) && !empty.is_unknown_outcome(),
        "{empty}"
    );
    let put = PutRequest {
        lease: 0x7777,
        ..request::put(key(ground, "k"), "")
    };
    let unleased = ground.kv.put(put).await.err().context("an error")?;
    ensure!(
        unleased.is_lease_not_found() && !unleased.is_unknown_outcome(),
        "{unleased}"
    );
    let gone = ground
        .kv
        .lease_revoke(0x7777)
        .await
        .err()
        .context("an error")?;
    ensure!(gone.is_lease_not_found(), "{gone}");
    Ok(())
}

async fn a_lease_is_granted_renewed_and_revoked(ground: &Ground) -> Result<()> {
    let granted = ground.kv.lease_grant(request::grant(60)).await?;
    ensure!(granted.ttl == 60 && granted.id != 0);
    ensure!(ground.kv.lease_renew(granted.id).await?.ttl == 60);
    let all = ground.kv.leases().await?.leases;
    ensure!(all.iter().any(|lease| lease.id == granted.id));
    ground.kv.lease_revoke(granted.id).await?;
    ensure!(ground.kv.lease_renew(granted.id).await?.ttl <= 0);
    ensure!(ground.ttl(granted.id).await? == -1);
    Ok(())
}

async fn a_lease_takes_its_keys_along(ground: &Ground) -> Result<()> {
    let granted = ground.kv.lease_grant(request::grant(1)).await?;
    let key = key(ground, "k");
    let put = PutRequest {
        lease: granted.id,
        ..request::put(key.clone(), "")
    };
    ground.kv.put(put).await?;
    ground.until_key(&key, false).await?;
    ensure!(ground.ttl(granted.id).await? == -1);
    Ok(())
}

/// The values of the next events, `-` for a delete.
async fn values(watcher: &mut Watcher, count: usize) -> Result<Vec<String>> {
    let mut values = Vec::new();
    while values.len() < count {
        for event in timeout(PATIENCE, watcher.next()).await??.events {
            let value = event.kv().context("events carry a pair")?.value();
            values.push(match event.kind() {
                EventType::Put => String::from_utf8(value.to_vec())?,
                EventType::Delete => "-".to_owned(),
            });
        }
    }
    Ok(values)
}

async fn a_watch_begins_where_it_is_told(ground: &Ground) -> Result<()> {
    let _history = HISTORY.read().await;
    let key = key(ground, "k");
    ground.put(&key, "1").await?;
    let revision = ground.put(&key, "2").await?;
    ground.put(&key, "3").await?;
    let watch = WatchCreateRequest {
        start_revision: revision,
        ..request::watch(key.clone())
    };
    let mut old = ground.kv.watch(watch).await?;
    ensure!(values(&mut old, 2).await? == ["2", "3"]);
    let mut new = ground.kv.watch(request::watch(key.clone())).await?;
    ground.put(&key, "4").await?;
    ensure!(values(&mut new, 1).await? == ["4"]);
    ensure!(values(&mut old, 1).await? == ["4"]);
    Ok(())
}

async fn a_watch_misses_and_repeats_nothing(ground: &Ground) -> Result<()> {
    let mut watcher = ground
        .kv
        .watch(request::watch_prefix(key(ground, "")))
        .await?;
    let mut expected = Vec::new();
    for number in 0..50 {
        ground.put(&key(ground, "k"), &number.to_string()).await?;
        expected.push(number.to_string());
    }
    ground.delete(&key(ground, "k")).await?;
    expected.push("-".to_owned());
    let seen = values(&mut watcher, expected.len()).await?;
    ensure!(seen == expected, "{seen:?}");
    Ok(())
}

async fn a_watch_tells_its_progress(ground: &Ground) -> Result<()> {
    let mut watcher = ground.kv.watch(request::watch(key(ground, "k"))).await?;
    let revision = ground.put(&key(ground, "other"), "").await?;
    let told = async {
        loop {
            watcher.request_progress();
            // The store need not answer before the watch has caught up.
            let soon = timeout(std::time::Duration::from_millis(500), watcher.next()).await;
            match soon {
                Ok(Ok(response))
                    if response.is_progress() && response.header.revision >= revision =>
                {
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    };
    timeout(PATIENCE, told).await??;
    Ok(())
}

async fn compact(ground: &Ground) -> Result<i64> {
    let first = ground.put(&key(ground, "k"), "1").await?;
    ground.put(&key(ground, "k"), "2").await?;
    ground.compact().await?;
    Ok(first)
}

async fn a_compacted_watch_ends(ground: &Ground) -> Result<()> {
    let first = compact(ground).await?;
    let watch = WatchCreateRequest {
        start_revision: first,
        ..request::watch(key(ground, "k"))
    };
    let end = match ground.kv.watch(watch).await {
        Ok(mut watcher) => timeout(PATIENCE, watcher.next()).await?.err(),
        Err(refused) => Some(refused),
    };
    ensure!(end.as_ref().is_some_and(Error::is_compacted), "{end:?}");
    Ok(())
}

async fn a_future_revision_is_told_from_a_compacted_one(ground: &Ground) -> Result<()> {
    let first = compact(ground).await?;
    let at = |revision| RangeRequest {
        revision,
        ..request::get(key(ground, "k"))
    };
    let past = ground.kv.range(at(first)).await.err().context("an error")?;
    ensure!(past.is_compacted() && !past.is_future_revision(), "{past}");
    let future = ground
        .kv
        .range(at(1 << 40))
        .await
        .err()
        .context("an error")?;
    ensure!(
        future.is_future_revision() && !future.is_compacted(),
        "{future}"
    );
    Ok(())
}

async fn a_session_ends_with_its_lease(ground: &Ground) -> Result<()> {
    let session = session(ground).await?;
    let lost = session.lost();
    ground.kv.lease_revoke(session.lease()).await?;
    // A third of the TTL passes until the next renewal finds out.
    let lost = timeout(PATIENCE, lost).await?;
    ensure!(lost.is_lease_not_found(), "{lost}");
    ensure!(matches!(*session.state().borrow(), LeaseState::Lost(_)));
    Ok(())
}

async fn a_session_takes_a_lease_over(ground: &Ground) -> Result<()> {
    let granted = ground.kv.lease_grant(request::grant(30)).await?;
    let options = SessionOptions {
        ttl_secs: 0,
        lease: granted.id,
    };
    let session = Session::open(ground.kv.clone(), options).await?;
    ensure!(session.lease() == granted.id);
    session.close().await?;
    ensure!(ground.ttl(granted.id).await? == -1);
    let gone = Session::open(ground.kv.clone(), options).await;
    ensure!(gone.is_err_and(|error| error.is_lease_not_found()));
    Ok(())
}

async fn a_lock_goes_from_holder_to_holder(ground: &Ground) -> Result<()> {
    let name = key(ground, "lock");
    let first = Mutex::new(session(ground).await?, &name).lock().await?;
    let waiting = Mutex::new(session(ground).await?, &name);
    let waiting = tokio::spawn(async move { waiting.lock().await });
    let queue = request::get_prefix(format!("{name}/"));
    framework::wait_until("the second waits", PATIENCE, async || {
        let keys = ground.kv.range(queue.clone()).await.ok()?;
        (keys.count == 2).then_some(())
    })
    .await?;
    ensure!(!waiting.is_finished());
    let before = first.revision();
    first.unlock().await?;
    let second = timeout(PATIENCE, waiting).await???;
    ensure!(second.revision() > before);
    second.unlock().await?;
    Ok(())
}

async fn a_lock_is_tried_without_waiting(ground: &Ground) -> Result<()> {
    let name = key(ground, "lock");
    let held = Mutex::new(session(ground).await?, &name).try_lock().await?;
    ensure!(held.is_some());
    let other = Mutex::new(session(ground).await?, &name);
    ensure!(other.try_lock().await?.is_none());
    held.context("it is held")?.unlock().await?;
    ensure!(other.try_lock().await?.is_some());
    Ok(())
}

async fn a_lock_fences_by_its_revision(ground: &Ground) -> Result<()> {
    let session = session(ground).await?;
    let lock = Mutex::new(session.clone(), &key(ground, "lock"))
        .lock()
        .await?;
    let work = TxnRequest {
        compare: vec![lock.held()],
        success: vec![request::put(key(ground, "work"), "done").op()],
        failure: Vec::new(),
    };
    ensure!(ground.kv.txn(work.clone()).await?.succeeded);
    session.close().await?;
    ensure!(!ground.kv.txn(work).await?.succeeded);
    Ok(())
}

async fn a_lock_of_a_lost_session_is_free(ground: &Ground) -> Result<()> {
    let name = key(ground, "lock");
    let session_of_first = session(ground).await?;
    let _held = Mutex::new(session_of_first.clone(), &name).lock().await?;
    let second = Mutex::new(session(ground).await?, &name);
    ground.kv.lease_revoke(session_of_first.lease()).await?;
    timeout(PATIENCE, second.lock()).await??.unlock().await?;
    Ok(())
}

async fn a_leader_proclaims_and_resigns(ground: &Ground) -> Result<()> {
    let name = key(ground, "election");
    let mut observer = election::observe(ground.kv.clone(), name.as_bytes());
    let leadership = Election::new(session(ground).await?, &name)
        .campaign("first")
        .await?;
    let mut next = async || -> Result<String> {
        let observed = timeout(PATIENCE, observer.next()).await??;
        let value = observed.kv.context("a leader")?.value();
        Ok(String::from_utf8(value.to_vec())?)
    };
    ensure!(next().await? == "first");
    leadership.proclaim("again").await?;
    ensure!(next().await? == "again");
    let other = Election::new(session(ground).await?, &name);
    let campaign = tokio::spawn(async move { other.campaign("second").await });
    leadership.resign().await?;
    let second = timeout(PATIENCE, campaign).await???;
    ensure!(next().await? == "second");
    second.resign().await?;
    let none = election::leader(ground.kv.as_ref(), name.as_bytes()).await;
    ensure!(none.is_err_and(|error| error.is(catena_api::errors::ELECTION_NO_LEADER)));
    Ok(())
}

async fn a_leadership_fences_by_its_revision(ground: &Ground) -> Result<()> {
    let session = session(ground).await?;
    let leadership = Election::new(session.clone(), key(ground, "election").as_str())
        .campaign("first")
        .await?;
    let work = TxnRequest {
        compare: vec![request::created_at(
            leadership.key().clone(),
            leadership.revision(),
        )],
        success: vec![request::put(key(ground, "work"), "done").op()],
        failure: Vec::new(),
    };
    ensure!(ground.kv.txn(work.clone()).await?.succeeded);
    session.close().await?;
    ensure!(!ground.kv.txn(work).await?.succeeded);
    let late = leadership.proclaim("late").await;
    ensure!(late.is_err_and(|error| error.is(catena_api::errors::ELECTION_NOT_LEADER)));
    Ok(())
}
