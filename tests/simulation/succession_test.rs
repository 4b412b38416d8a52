//! What a new leader knows of what its predecessor had answered.
//!
//! Of the entries in its log a new leader does not know which are committed, until an entry of its own term is. A client may have had
//! an answer to the last of them all the same: the leader before knew, answered, and died before it told. So a read that comes in
//! between has to wait for that first entry; a round of heartbeats proves only that nobody else leads.
//!
//! Chance brings this about once in many hours, since three things have to meet. Here they are arranged:
//!
//! ```text
//!   old leader ── write ──▶ followers have it durable ── answers, on a slow link ──▶ old leader answers its client, and dies
//!                    ✂ from here on nothing of it reaches them: neither the news nor a heartbeat
//!   new leader ── its vote is durable, its first entry is not: its disk stalls ── heartbeats are confirmed ◀── read
//! ```

use std::{sync::Arc, time::Duration};

use catena_api::etcd::etcdserverpb as pb;
use framework::history::{Meta, Recorder};

use crate::{
    Case,
    clients::within,
    cluster::{Cluster, Process, Settings},
    disk::{Crash, Latency},
    world::{self, Chance, with_seeds},
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![(
        "a_new_leader_knows_what_was_answered_before",
        a_new_leader_knows_what_was_answered_before,
    )]
}

/// Seeds that always run: all is arranged, and only delays are drawn.
const SEEDS: u64 = 5;

/// What something that has to happen may take.
const WITHIN: Duration = Duration::from_secs(20);

/// What an answer of a follower takes to the old leader: time for its links to be held meanwhile.
const ANSWER_MICROS: u64 = 30_000;

/// When they are held: what is sent at once has arrived, and nothing was answered.
const HELD_AFTER: Duration = Duration::from_millis(15);

/// What each sync takes while a leader is elected: time to see that there is one before its first entry is durable.
const SLOW_SYNC: Duration = Duration::from_millis(100);

/// How often it is asked whether there is one.
const LOOK: Duration = Duration::from_millis(1);

/// How long the read is watched while the disk of the leader stalls: many rounds of heartbeats.
const STALLED: Duration = Duration::from_secs(2);

fn key() -> bytes::Bytes {
    bytes::Bytes::from_static(b"k")
}

/// Writes; the revision, as soon as it is answered.
async fn write(process: &Process) -> i64 {
    let kv = process.indoor.kv();
    let put = pb::PutRequest {
        key: key(),
        value: key(),
        ..pb::PutRequest::default()
    };
    let written = process.call(async move { kv.put(put).await });
    let answer = within(WITHIN, written).await.flatten();
    let response = answer.expect("an answer").expect("a write");
    response.header.expect("a header").revision
}

/// Reads; the revision, or nothing within the time.
async fn read(process: &Process, patience: Duration) -> Option<i64> {
    let kv = process.indoor.kv();
    let get = pb::RangeRequest {
        key: key(),
        ..pb::RangeRequest::default()
    };
    let found = process.call(async move { kv.range(get).await });
    let response = within(patience, found).await??.ok()?;
    Some(response.header?.revision)
}

fn set_syncs(cluster: &Cluster, ids: &[u64], latency: Latency) {
    for id in ids {
        cluster.drive(*id).set_latency(latency);
    }
}

/// The next leader, before what it writes first is durable.
async fn next_leader(cluster: &Cluster, before: u64) -> Arc<Process> {
    let end = world::now() + WITHIN;
    loop {
        assert!(world::now() < end, "nobody leads after {before:x}");
        world::sleep(LOOK).await;
        if let Some(leader) = cluster.leader().filter(|leader| leader.id != before) {
            return leader;
        }
    }
}

async fn run(chance: Chance) {
    let settings = Settings {
        heartbeat: Duration::from_millis(100),
        election: Duration::from_millis(1000),
        ..Settings::of(3, &chance)
    };
    let cluster = Cluster::new(&chance, settings, Recorder::new(Meta::default()));
    for id in cluster.ids() {
        cluster.start_well(id).await;
    }
    let leads = || cluster.leader().is_some();
    cluster.wait_until("there is a leader", WITHIN, leads).await;
    let old = cluster.leader().expect("a leader");
    let before = write(&old).await;
    let others: Vec<u64> = cluster
        .ids()
        .into_iter()
        .filter(|id| *id != old.id)
        .collect();
    let all_have = || {
        cluster
            .running()
            .iter()
            .all(|member| member.state().1 == before)
    };
    cluster
        .wait_until("all have the first write", WITHIN, all_have)
        .await;

    // The last write is answered to its client, and nobody but the old leader knows.
    for id in &others {
        cluster.net().set(*id, old.id, |link| {
            (link.micros_min, link.micros_max) = (ANSWER_MICROS, ANSWER_MICROS);
        });
    }
    let cut = async {
        world::sleep(HELD_AFTER).await;
        for id in &others {
            cluster.net().set(old.id, *id, |link| link.frozen = true);
        }
    };
    let (answered, ()) = futures_util::future::join(write(&old), cut).await;
    assert_eq!(answered, before + 1, "the last write is the second");
    cluster.crash(old.id, Crash::Kill);
    cluster.net().heal();

    // One of the others leads, and cannot commit anything.
    let slow = Latency {
        spike_once_in: 1,
        spike: SLOW_SYNC,
        ..Latency::default()
    };
    set_syncs(&cluster, &others, slow);
    let new = next_leader(&cluster, old.id).await;
    set_syncs(&cluster, &others, Latency::default());
    let drive = cluster.drive(new.id);
    drive.set_stalled(true);
    let early = read(&new, STALLED).await;
    assert_eq!(
        new.state().1,
        before,
        "the new leader was told of the last write: nothing is proven"
    );
    assert!(
        early.is_none_or(|revision| revision >= answered),
        "a read shows revision {early:?}, when {answered} had been answered before it was called"
    );
    assert!(
        new.led_term().is_some(),
        "it leads no longer: nothing is proven"
    );

    // The read was held up by nothing else.
    drive.set_stalled(false);
    let late = read(&new, WITHIN).await;
    assert!(
        late.is_some_and(|revision| revision >= answered),
        "a read shows {late:?}"
    );
    cluster.assert_no_surprise();
    cluster.switch_off();
}

fn a_new_leader_knows_what_was_answered_before() {
    with_seeds("a_new_leader_knows", SEEDS, run);
}
