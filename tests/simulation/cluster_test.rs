//! Three members under crashes, torn tails, cuts, losses and slow disks: what was acknowledged is there, once, under its revision;
//! reads are never stale; revisions have no holes; all members end with the same hash; and when the faults end, service resumes.

use std::time::Duration;

use catena_store::{Command, Reader, Request};

use crate::{
    cluster::{Cluster, IDS},
    disk::{Crash, Latency},
    history::{self, Shared},
    world::{self, Chance, with_seeds},
};

/// How long faults last.
const FAULTS: Duration = Duration::from_secs(8);

/// After the last fault everything works again within this time.
const RECOVERY: Duration = Duration::from_secs(30);

const CLIENTS: usize = 5;

async fn started(chance: &Chance) -> Cluster {
    let cluster = Cluster::new(chance);
    for id in IDS {
        cluster.start(id).await;
    }
    cluster
}

/// One fault after another, until `end`.
async fn faults(cluster: &Cluster, chance: &Chance, end: Duration) {
    while world::now() < end {
        world::sleep(Duration::from_millis(100 + chance.below(900))).await;
        let id = *chance.pick(&IDS);
        let others: Vec<_> = IDS.into_iter().filter(|other| *other != id).collect();
        match chance.below(9) {
            0..3 => crash(cluster, chance, &[id]).await,
            3 => crash(cluster, chance, &IDS).await,
            4 => cluster.net().partition(&[id], &others, true),
            5 => cluster.net().set(id, others[0], |link| link.cut = true),
            6 => cluster.net().set(id, others[0], |link| {
                link.lost_once_in = 10;
                link.micros_max = 50_000;
            }),
            7 => cluster.set_latency(id, slow()),
            _ => heal(cluster),
        }
        cluster.assert_nobody_stopped();
    }
}

/// Ends members, and starts them again after a while.
async fn crash(cluster: &Cluster, chance: &Chance, ids: &[u64]) {
    for id in ids {
        let how = *chance.pick(&[Crash::Kill, Crash::Power, Crash::Reordered]);
        cluster.crash(*id, how);
    }
    for id in ids {
        world::sleep(Duration::from_millis(chance.below(1500))).await;
        cluster.start(*id).await;
    }
}

fn slow() -> Latency {
    Latency {
        sync_micros_max: 80_000,
        ..Latency::default()
    }
}

fn heal(cluster: &Cluster) {
    cluster.net().heal();
    for id in IDS {
        cluster.set_latency(id, Latency::default());
    }
}

/// Waits until a write goes through and all members have applied the same.
async fn settled(cluster: &Cluster) {
    let end = world::now() + RECOVERY;
    let node = cluster.node(IDS[0]).expect("all members run");
    let version = || Command::internal(Request::ClusterVersion("3.7.0".to_owned()));
    while let Err(error) = node.propose(version()).await {
        assert!(world::now() < end, "no write goes through: {error}");
        world::sleep(Duration::from_millis(100)).await;
    }
    let nodes = IDS.map(|id| cluster.node(id).expect("all members run"));
    let applied = || nodes.each_ref().map(|node| node.reader().applied());
    let equal = || applied().windows(2).all(|pair| pair[0] == pair[1]);
    let left = end.saturating_sub(world::now());
    cluster
        .wait_until("all members have applied the same", left, equal)
        .await;
}

fn assert_equal(cluster: &Cluster) {
    let nodes = IDS.map(|id| cluster.node(id).expect("all members run"));
    let readers = nodes.each_ref().map(|node| node.reader());
    for other in &readers[1..] {
        assert_eq!(history::difference(readers[0], other), None);
    }
    let hash = |reader: &Reader| reader.hash_kv(0).expect("the store can be hashed");
    let hashes = readers
        .map(hash)
        .map(|hash| (hash.hash, hash.hash_revision));
    assert_eq!(hashes, [hashes[0]; 3]);
}

async fn run(chance: Chance) {
    let cluster = started(&chance).await;
    let history = Shared::default();
    let end = world::now() + FAULTS;
    for _ in 0..CLIENTS {
        let client = history::client(cluster.clone(), history.clone(), chance.fork(), end);
        world::spawn(client);
    }
    faults(&cluster, &chance.fork(), end).await;
    heal(&cluster);
    settled(&cluster).await;
    assert_equal(&cluster);
    let history = history.lock();
    for id in IDS {
        history.check(cluster.node(id).expect("all members run").reader());
    }
    assert!(history.acked() > 0, "some writes went through");
    assert!(history.reads() > 0, "some reads were answered");
}

#[test]
fn acknowledged_writes_survive_and_members_agree() {
    with_seeds("acknowledged_writes_survive", 50, run);
}
