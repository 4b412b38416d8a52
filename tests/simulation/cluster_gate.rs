//! Whether a read can be stale: everything known to fool a leader, aimed at the leader, beside as many reads as possible.
//!
//! Consensus answers "may I serve a read at this index" after one round in which a quorum confirms the leader. This test decides whether
//! that holds. Reads go through every member all the time, the old leader above all, while new leaders take writes; a read must
//! show at least what was answered to anybody before it was called.
//!
//! What is aimed at the leader:
//! - a pause, after which it goes on with questions and answers from before, in any order;
//! - held links: answers of followers arrive late and all at once, as if they were those of a newer round;
//! - cuts in one direction, so that it hears and is not heard, or is heard and does not hear;
//! - isolation while the followers are restarted: they have forgotten how long they had promised to wait, and elect another at once;
//! - late and reordered frames, a slow disk, and leadership that is handed over;
//! - its death while all disks are slow: the next leader is asked before it knows what its predecessor had committed.
//!
//! Its power was tried by breaking the gate, each time with this test alone, over the seeds of a run:
//! - a leader that trusts the answers of its last lease instead of a round of its own is convicted;
//! - a leader that answers with its committed index without asking anybody is convicted;
//! - a follower that answers from what it has, without asking the leader, is convicted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use catena_api::etcd::etcdserverpb as pb;
use framework::history::{Meta, Recorder};

use crate::{
    Case,
    clients::within,
    cluster::{Cluster, Process, Settings},
    disk::{Crash, Latency},
    network::Link,
    world::{self, Chance, with_seeds},
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![(
        "no_read_is_stale_whatever_fools_the_leader",
        no_read_is_stale_whatever_fools_the_leader,
    )]
}

/// Seeds that always run.
const SEEDS: u64 = 50;

/// Tricks that are played in one run.
const TRICKS: usize = 6;

/// How long one lasts, in milliseconds, at most.
const TRICK_MILLIS_MAX: u64 = 1800;

/// Readers at each member, and writers in all.
const READERS: usize = 2;
const WRITERS: usize = 3;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What clients know together.
#[derive(Default)]
struct Known {
    /// The highest revision that was answered to anybody.
    floor: AtomicI64,
    reads: AtomicU64,
    writes: AtomicU64,
    over: AtomicBool,
}

impl Known {
    fn learn(&self, revision: i64) {
        self.floor.fetch_max(revision, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn key() -> bytes::Bytes {
    bytes::Bytes::from_static(b"k")
}

async fn write(process: &Arc<Process>) -> Option<i64> {
    let kv = process.indoor.kv();
    let put = pb::PutRequest {
        key: key(),
        value: key(),
        ..pb::PutRequest::default()
    };
    let written = process.call(async move { kv.put(put).await });
    let response = within(PATIENCE, written).await??.ok()?;
    Some(response.header?.revision)
}

async fn read(process: &Arc<Process>) -> Option<i64> {
    let kv = process.indoor.kv();
    let get = pb::RangeRequest {
        key: key(),
        ..pb::RangeRequest::default()
    };
    let found = process.call(async move { kv.range(get).await });
    let response = within(PATIENCE, found).await??.ok()?;
    Some(response.header?.revision)
}

async fn writer(cluster: Cluster, known: Arc<Known>, chance: Chance) {
    while !known.is_over() {
        world::sleep(chance.micros(20_000)).await;
        let Some(process) = cluster.process(*chance.pick(&cluster.ids())) else {
            continue;
        };
        if let Some(revision) = write(&process).await {
            known.learn(revision);
            known.writes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

async fn reader(cluster: Cluster, known: Arc<Known>, chance: Chance, id: u64) {
    while !known.is_over() {
        world::sleep(chance.micros(10_000)).await;
        let Some(process) = cluster.process(id) else {
            continue;
        };
        let floor = known.floor.load(Ordering::Relaxed);
        let Some(revision) = read(&process).await else {
            continue;
        };
        assert!(
            revision >= floor,
            "a read through member {id:x} shows revision {revision}, when {floor} had been answered before it was called"
        );
        known.learn(revision);
        known.reads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Fools leaders.
struct Trickster {
    cluster: Cluster,
    chance: Chance,
}

impl Trickster {
    async fn lasts(&self) {
        world::sleep(Duration::from_millis(self.chance.below(TRICK_MILLIS_MAX))).await;
    }

    async fn play(&self) {
        let leader = loop {
            world::sleep(Duration::from_millis(20)).await;
            if let Some(leader) = self.cluster.leader() {
                break leader;
            }
        };
        let ids = self.cluster.ids().into_iter();
        let others: Vec<_> = ids.filter(|id| *id != leader.id).collect();
        let trick = self.chance.below(10);
        world::tell(|| format!("trick {trick} on member {:x}", leader.id));
        match trick {
            0 => self.pause(&leader).await,
            1 => {
                self.links(&others, leader.id, |link| link.frozen = true)
                    .await
            }
            2 => {
                self.links(&[leader.id], others[0], |link| link.frozen = true)
                    .await
            }
            3 => self.links(&others, leader.id, |link| link.cut = true).await,
            4 => self.muted(&leader, &others).await,
            5 => self.forgetful(&leader, &others).await,
            6 => self.late(&leader, &others).await,
            7 | 8 => self.succeeded(&leader, &others).await,
            _ => self.handed_over(&leader, &others).await,
        }
        self.cluster.net().heal();
        world::sleep(Duration::from_millis(self.chance.below(700))).await;
    }

    async fn pause(&self, leader: &Process) {
        leader.freeze();
        self.lasts().await;
        leader.thaw_in_any_order(&self.chance);
    }

    async fn links(&self, from: &[u64], to: u64, change: fn(&mut Link)) {
        for from in from {
            self.cluster.net().set(*from, to, change);
        }
        self.lasts().await;
        for from in from {
            let healthy = Link::default();
            self.cluster.net().set(*from, to, |link| *link = healthy);
        }
        world::sleep(self.chance.micros(300_000)).await;
    }

    /// It hears and is not heard.
    async fn muted(&self, leader: &Process, others: &[u64]) {
        for to in others {
            self.cluster
                .net()
                .set(leader.id, *to, |link| link.cut = true);
        }
        self.lasts().await;
    }

    /// It is alone, and the others forget what they promised it.
    async fn forgetful(&self, leader: &Process, others: &[u64]) {
        let net = self.cluster.net();
        match self.chance.once_in(2) {
            true => net.partition(&[leader.id], others, true),
            false => leader.freeze(),
        }
        for id in others {
            self.cluster.crash(*id, Crash::Kill);
        }
        for id in others {
            self.cluster.start_well(*id).await;
        }
        self.lasts().await;
        leader.thaw_in_any_order(&self.chance);
    }

    /// Its frames are late, its disk is slow, and somebody is restarted meanwhile.
    async fn late(&self, leader: &Process, others: &[u64]) {
        for other in others {
            for (from, to) in [(leader.id, *other), (*other, leader.id)] {
                let micros_max = *self.chance.pick(&[1_000, 100_000, 600_000]);
                self.cluster
                    .net()
                    .set(from, to, |link| link.micros_max = micros_max);
            }
        }
        let drive = self.cluster.drive(leader.id);
        drive.set_latency(Latency {
            sync_micros_max: 200_000,
            ..Latency::default()
        });
        let id = *self.chance.pick(others);
        self.cluster.crash(id, Crash::Power);
        self.cluster.start_well(id).await;
        self.lasts().await;
        drive.set_latency(Latency::default());
    }

    /// It dies while all disks are slow, so that its successor leads for long before it has committed anything itself.
    async fn succeeded(&self, leader: &Process, others: &[u64]) {
        let set_syncs = |sync_micros_max| {
            for id in others {
                self.cluster.drive(*id).set_latency(Latency {
                    sync_micros_max,
                    ..Latency::default()
                });
            }
        };
        set_syncs(300_000);
        world::sleep(self.chance.micros(500_000)).await;
        self.cluster.crash(leader.id, Crash::Kill);
        self.lasts().await;
        world::sleep(Duration::from_millis(TRICK_MILLIS_MAX)).await;
        set_syncs(Latency::default().sync_micros_max);
        self.cluster.start_well(leader.id).await;
    }

    /// It hands over, and stands still in the middle of it.
    async fn handed_over(&self, leader: &Arc<Process>, others: &[u64]) {
        let (serving, to) = (leader.clone(), *self.chance.pick(others));
        let moves = leader.call(async move { serving.indoor.move_leader(to).await });
        let stops = async {
            world::sleep(self.chance.micros(20_000)).await;
            leader.freeze();
            self.lasts().await;
            leader.thaw_in_any_order(&self.chance);
        };
        futures_util::future::join(within(PATIENCE, moves), stops).await;
    }
}

async fn run(chance: Chance) {
    let settings = Settings {
        heartbeat: Duration::from_millis(*chance.pick(&[50, 100])),
        election: Duration::from_millis(*chance.pick(&[500, 1000])),
        ..Settings::of(*chance.pick(&[3, 3, 5]), &chance)
    };
    let cluster = Cluster::new(&chance, settings, Recorder::new(Meta::default()));
    for id in cluster.ids() {
        cluster.start_well(id).await;
    }
    let known = Arc::new(Known::default());
    for id in cluster.ids() {
        for _ in 0..READERS {
            world::spawn(reader(cluster.clone(), known.clone(), chance.fork(), id));
        }
    }
    for _ in 0..WRITERS {
        world::spawn(writer(cluster.clone(), known.clone(), chance.fork()));
    }
    let trickster = Trickster {
        cluster: cluster.clone(),
        chance: chance.fork(),
    };
    for _ in 0..TRICKS {
        trickster.play().await;
        cluster.assert_no_surprise();
    }
    known.over.store(true, Ordering::Relaxed);
    world::sleep(PATIENCE).await;
    cluster.switch_off();
    let (reads, writes) = (&known.reads, &known.writes);
    assert!(
        reads.load(Ordering::Relaxed) > 0,
        "some reads were answered"
    );
    assert!(
        writes.load(Ordering::Relaxed) > 0,
        "some writes were answered"
    );
}

fn no_read_is_stale_whatever_fools_the_leader() {
    with_seeds("no_read_is_stale", SEEDS, run);
}
