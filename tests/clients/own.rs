//! Our own client: what it promises beyond the others' conversation, and that its recipes are etcd's.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use catena_api::etcd::{electionpb, lockpb};
use catena_client::{
    Election, Error, Kv, LeaseState, Mutex, Options, Remote, Session, SessionOptions, Watcher, pb,
    request::{self, Operation},
};
use framework::{Cluster, Setup, Target};
use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;

/// What is sure to come comes by then, also after an election on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

type Case = fn(Target) -> LocalBoxFuture<'static, Result<()>>;

pub(crate) const CASES: [(&str, Case); 7] = [
    ("session_and_watch_survive_a_restart", |target| {
        Box::pin(session_and_watch_survive_a_restart(target))
    }),
    ("watch_loses_nothing_while_each_member_dies", |target| {
        Box::pin(watch_loses_nothing_while_each_member_dies(target))
    }),
    ("member_that_hangs_is_left", |target| {
        Box::pin(member_that_hangs_is_left(target))
    }),
    ("compaction_ends_a_watch_that_missed_it", |target| {
        Box::pin(compaction_ends_a_watch_that_missed_it(target))
    }),
    ("fragments_come_whole", |target| {
        Box::pin(fragments_come_whole(target))
    }),
    ("lock_excludes_the_lock_service", |target| {
        Box::pin(lock_excludes_the_lock_service(target))
    }),
    ("election_is_the_election_service_s", |target| {
        Box::pin(election_is_the_election_service_s(target))
    }),
];

async fn start(target: Target, members: usize) -> Result<(Cluster, Arc<dyn Kv>)> {
    start_with(target, members, Options::default()).await
}

async fn start_with(
    target: Target,
    members: usize,
    options: Options,
) -> Result<(Cluster, Arc<dyn Kv>)> {
    let cluster = Cluster::start(Setup::new(target, members)).await?;
    let endpoints: Vec<_> = cluster
        .members
        .iter()
        .map(|member| member.endpoint())
        .collect();
    let remote = Remote::connect(&endpoints, options)?;
    Ok((cluster, Arc::new(remote)))
}

async fn session(kv: &Arc<dyn Kv>, ttl_secs: i64) -> Result<Arc<Session>> {
    let options = SessionOptions { ttl_secs, lease: 0 };
    Ok(Arc::new(Session::open(kv.clone(), options).await?))
}

/// The values of the next events.
async fn values(watcher: &mut Watcher, count: usize) -> Result<Vec<String>> {
    let mut values = Vec::new();
    while values.len() < count {
        let response = timeout(PATIENCE, watcher.next()).await??;
        for event in response.events {
            let value = event.kv().context("events carry a pair")?.value();
            values.push(String::from_utf8(value.to_vec())?);
        }
    }
    Ok(values)
}

/// Writes until it is done: the value says which write it is, so one that took place twice would show as an event too many.
async fn put_once(kv: &dyn Kv, n: usize) -> Result<()> {
    let write = pb::TxnRequest {
        compare: vec![request::absent(format!("n/{n}"))],
        success: vec![request::put(format!("n/{n}"), n.to_string()).op()],
        failure: Vec::new(),
    };
    let done = async {
        loop {
            match kv.txn(write.clone()).await {
                Ok(_) => return Ok(()),
                // Guarded by its own comparison, this write may be repeated.
                Err(error) if error.is_transient() => {}
                Err(error) => bail!(error),
            }
        }
    };
    timeout(PATIENCE, done).await?
}

async fn session_and_watch_survive_a_restart(target: Target) -> Result<()> {
    let (mut cluster, kv) = start(target, 1).await?;
    let session = session(&kv, 3).await?;
    let mut watcher = kv.watch(request::watch_prefix("n/")).await?;
    put_once(kv.as_ref(), 0).await?;
    ensure!(values(&mut watcher, 1).await? == ["0"]);
    cluster.members[0].kill()?;
    cluster.members[0].start()?;
    put_once(kv.as_ref(), 1).await?;
    ensure!(values(&mut watcher, 1).await? == ["1"]);
    // Renewals go on: the time until which the lease may be relied on moves.
    let mut state = session.state();
    for _ in 0..3 {
        state.mark_unchanged();
        timeout(PATIENCE, state.changed()).await??;
        ensure!(matches!(*state.borrow(), LeaseState::Alive { .. }));
    }
    session.close().await?;
    let gone = pb::LeaseTimeToLiveRequest {
        id: session.lease(),
        keys: false,
    };
    ensure!(kv.lease_time_to_live(gone).await?.ttl == -1);
    Ok(())
}

async fn watch_loses_nothing_while_each_member_dies(target: Target) -> Result<()> {
    let (mut cluster, kv) = start(target, 3).await?;
    let mut watcher = kv.watch(request::watch_prefix("n/")).await?;
    let mut written = 0;
    for place in 0..3 {
        // By turns without and with goodbye.
        match place % 2 {
            0 => cluster.members[place].kill()?,
            _ => cluster.members[place].stop()?,
        }
        for _ in 0..5 {
            put_once(kv.as_ref(), written).await?;
            written += 1;
        }
        cluster.members[place].start()?;
        cluster.members[place].ready().await?;
    }
    let expected: Vec<_> = (0..written).map(|n| n.to_string()).collect();
    let seen = values(&mut watcher, written).await?;
    ensure!(seen == expected, "{seen:?}");
    let count = kv.range(request::get_prefix("n/")).await?.count;
    ensure!(usize::try_from(count)? == written);
    Ok(())
}

async fn member_that_hangs_is_left(target: Target) -> Result<()> {
    let options = Options {
        request_timeout: Duration::from_secs(1),
        ping_interval: Duration::from_secs(5),
        ping_timeout: Duration::from_millis(500),
        ..Options::default()
    };
    let (cluster, kv) = start_with(target, 3, options).await?;
    // Long enough for the renewals to survive the election that a hung leader costs.
    let session = session(&kv, 10).await?;
    let mut watcher = kv.watch(request::watch_prefix("n/")).await?;
    // The member that the watch stands at is one of the three; calls may by then use another.
    for (place, member) in cluster.members.iter().enumerate() {
        member.pause()?;
        put_once(kv.as_ref(), place).await?;
        ensure!(values(&mut watcher, 1).await? == [place.to_string()]);
        member.resume()?;
    }
    ensure!(matches!(
        *session.state().borrow(),
        LeaseState::Alive { .. }
    ));
    Ok(())
}

async fn compaction_ends_a_watch_that_missed_it(target: Target) -> Result<()> {
    let (_cluster, kv) = start(target, 1).await?;
    let mut revision = 0;
    for n in 0..5 {
        let put = kv.put(request::put("k", n.to_string())).await?;
        revision = put.header.context("answers carry a header")?.revision;
    }
    let compaction = pb::CompactionRequest {
        revision,
        physical: false,
    };
    kv.compact(compaction).await?;
    let watch = pb::WatchCreateRequest {
        start_revision: revision - 2,
        ..request::watch("k")
    };
    let end = timeout(PATIENCE, kv.watch(watch).await?.next()).await?;
    ensure!(end == Err(Error::Compacted { revision }), "{end:?}");
    let read = pb::RangeRequest {
        revision: revision - 2,
        ..request::get("k")
    };
    ensure!(
        kv.range(read)
            .await
            .is_err_and(|error| error.is_compacted())
    );
    Ok(())
}

async fn fragments_come_whole(target: Target) -> Result<()> {
    const KEYS: usize = 120;
    // With its previous value each event is twice as large: more than two megabytes in one revision.
    const VALUE_BYTES: usize = 11 << 10;
    let (_cluster, kv) = start(target, 1).await?;
    let watch = pb::WatchCreateRequest {
        prev_kv: true,
        fragment: true,
        ..request::watch_prefix("f/")
    };
    let mut watcher = kv.watch(watch).await?;
    for byte in [b'a', b'b'] {
        let put = |n| request::put(format!("f/{n:03}"), vec![byte; VALUE_BYTES]).op();
        kv.txn(pb::TxnRequest {
            success: (0..KEYS).map(put).collect(),
            ..pb::TxnRequest::default()
        })
        .await?;
        let response = timeout(PATIENCE, watcher.next()).await??;
        ensure!(response.events.len() == KEYS, "{}", response.events.len());
    }
    Ok(())
}

async fn lock_excludes_the_lock_service(target: Target) -> Result<()> {
    let (cluster, kv) = start(target, 1).await?;
    let service = cluster.client(0)?.lock();
    let held = Mutex::new(session(&kv, 30).await?, "m").lock().await?;
    let taking = tokio::spawn({
        let mut service = service.clone();
        let name = "m".into();
        async move { service.lock(lockpb::LockRequest { name, lease: 0 }).await }
    });
    // The service's key stands behind ours.
    let both = |keys: &pb::RangeResponse| keys.count == 2;
    framework::wait_until("the service waits", PATIENCE, async || {
        kv.range(request::get_prefix("m/")).await.ok().filter(both)
    })
    .await?;
    ensure!(!taking.is_finished());
    let other = Mutex::new(session(&kv, 30).await?, "m");
    ensure!(other.try_lock().await?.is_none());
    held.unlock().await?;
    let key = timeout(PATIENCE, taking).await???.into_inner().key;
    let third = tokio::spawn(async move { other.lock().await });
    framework::wait_until("we wait", PATIENCE, async || {
        kv.range(request::get_prefix("m/")).await.ok().filter(both)
    })
    .await?;
    ensure!(!third.is_finished());
    service
        .clone()
        .unlock(lockpb::UnlockRequest { key })
        .await?;
    timeout(PATIENCE, third).await???.unlock().await?;
    Ok(())
}

async fn election_is_the_election_service_s(target: Target) -> Result<()> {
    let (cluster, kv) = start(target, 1).await?;
    let mut service = cluster.client(0)?.election();
    let mut observer = catena_client::election::observe(kv.clone(), b"e");
    let session = session(&kv, 30).await?;
    let leadership = Election::new(session, "e").campaign("ours").await?;
    let name = electionpb::LeaderRequest { name: "e".into() };
    let leader = service.leader(name).await?.into_inner();
    let leader = leader.kv.context("a leader")?.view();
    ensure!(leader.value == "ours" && leader.key == leadership.key());
    let campaign = tokio::spawn({
        let mut service = service.clone();
        let request = electionpb::CampaignRequest {
            name: "e".into(),
            lease: 0,
            value: "theirs".into(),
        };
        async move { service.campaign(request).await }
    });
    let observed = timeout(PATIENCE, observer.next()).await??;
    ensure!(observed.kv.context("a leader")?.value() == "ours");
    leadership.proclaim("ours still").await?;
    let observed = timeout(PATIENCE, observer.next()).await??;
    ensure!(observed.kv.context("a leader")?.value() == "ours still");
    leadership.resign().await?;
    let won = timeout(PATIENCE, campaign).await???.into_inner();
    let theirs = won.leader.context("the winner's key")?;
    let observed = timeout(PATIENCE, observer.next()).await??;
    ensure!(observed.kv.context("a leader")?.key() == theirs.key);
    catena_client::election::proclaim(kv.as_ref(), &theirs, "by us".into()).await?;
    catena_client::election::resign(kv.as_ref(), &theirs).await?;
    let none = catena_client::election::leader(kv.as_ref(), b"e").await;
    ensure!(none.is_err_and(|error| error.is(catena_api::errors::ELECTION_NO_LEADER)));
    Ok(())
}
