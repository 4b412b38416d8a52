//! What goes wrong: each fault begins, lasts a while and ends, beside others; and each leaves a proof that it took place.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use framework::history::{Fault as Record, Phase, Proof};
use serde_json::{Value as Json, json};

use crate::{
    cluster::{Cluster, ENGINE_DIR, LOG_DIR, admin::Operator, name, now_ns},
    disk::{Crash, Latency},
    network::Link,
    world::{self, Chance, Event, covered},
};

/// Longest pause between the beginnings of two faults, in milliseconds.
const PAUSE_MILLIS_MAX: u64 = 1600;

/// Longest time that a fault lasts, in milliseconds.
const LASTS_MILLIS_MAX: u64 = 3000;

/// Room that a full disk has left.
const ROOM_BYTES_MAX: u64 = 64 << 10;

/// Makes faults. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Faults {
    cluster: Cluster,
    operator: Operator,
    chance: Chance,
    active: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
}

impl Faults {
    /// Faults of the operator's cluster.
    pub(crate) fn new(operator: Operator, chance: &Chance) -> Self {
        Self {
            cluster: operator.cluster.clone(),
            operator,
            chance: chance.fork(),
            active: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Begins one after the other until `done` says so, and waits for the end of the last.
    pub(crate) async fn run(&self, done: impl Fn() -> bool) {
        while !done() {
            world::sleep(Duration::from_millis(
                100 + self.chance.below(PAUSE_MILLIS_MAX),
            ))
            .await;
            self.begin();
            self.cluster.assert_no_surprise();
        }
        while self.active.load(Ordering::Relaxed) > 0 {
            world::sleep(Duration::from_millis(20)).await;
        }
    }

    fn begin(&self) {
        let faults = self.clone();
        faults.active.fetch_add(1, Ordering::Relaxed);
        world::spawn(async move {
            faults.any().await;
            faults.active.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn any(&self) {
        match self.chance.below(27) {
            0..5 => self.crash(vec![self.target()]).await,
            5 => self.crash(self.cluster.ids()).await,
            6..10 => self.freeze().await,
            10..13 => self.isolate().await,
            13..15 => {
                covered(Event::OneWayCut);
                self.link("one-way cut", |link| link.cut = true).await;
            }
            15..17 => self.lossy().await,
            17..19 => self.link("held link", |link| link.frozen = true).await,
            19..21 => self.slow_disk().await,
            21 => self.split().await,
            22 => self.failing_sync().await,
            23 => self.full_disk().await,
            24 => self.stalled_disk().await,
            25 => {
                self.link("doubled frames", |link| link.doubled_once_in = 3)
                    .await;
            }
            _ => self.rot().await,
        }
    }

    /// The leader, every other time, or anybody.
    fn target(&self) -> u64 {
        let leader = self.cluster.leader().map(|leader| leader.id);
        match leader.filter(|_| self.chance.once_in(2)) {
            Some(leader) => leader,
            None => *self.chance.pick(&self.cluster.ids()),
        }
    }

    /// Lets time pass under a fault.
    async fn lasts(&self) {
        world::sleep(Duration::from_millis(self.chance.below(LASTS_MILLIS_MAX))).await;
    }

    fn note(&self, fault: &str, phase: Phase, targets: &[u64], proof: Option<Proof>) {
        world::tell(|| format!("fault {fault} {phase:?} {targets:x?}"));
        self.cluster.recorder().fault(Record {
            ns: now_ns(),
            name: fault.to_owned(),
            phase,
            targets: targets.iter().copied().map(name).collect(),
            args: BTreeMap::new(),
            proof,
        });
    }

    fn started(&self, fault: &str, targets: &[u64]) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.note(fault, Phase::Start, targets, None);
    }

    fn ended(&self, fault: &str, targets: &[u64], kind: &str, value: Json) {
        let proof = Proof {
            kind: kind.to_owned(),
            value,
        };
        self.note(fault, Phase::End, targets, Some(proof));
    }

    /// Ends processes, and starts them again after a while.
    async fn crash(&self, ids: Vec<u64>) {
        let how = *self
            .chance
            .pick(&[Crash::Kill, Crash::Power, Crash::Reordered]);
        let fault = match how {
            Crash::Kill => "kill",
            Crash::Power => "power cut",
            Crash::Reordered => "power cut with reordered sectors",
        };
        self.started(fault, &ids);
        covered(match how {
            Crash::Kill => Event::Kill,
            Crash::Power => Event::PowerCut,
            Crash::Reordered => Event::ReorderedPowerCut,
        });
        if how != Crash::Kill && ids == self.cluster.ids() {
            covered(Event::PowerCutOfAll);
        }
        let ran = ids.iter().filter(|id| self.cluster.process(**id).is_some());
        let ran = ran.count();
        for id in &ids {
            self.cluster.crash(*id, how);
        }
        for id in &ids {
            world::sleep(Duration::from_millis(self.chance.below(1500))).await;
            restart(&self.cluster, *id).await;
        }
        self.ended(fault, &ids, "processes ended", json!(ran));
    }

    /// A member stands still, and then goes on as if no time had passed.
    async fn freeze(&self) {
        let id = self.target();
        let Some(process) = self.cluster.process(id) else {
            return;
        };
        self.started("pause", &[id]);
        process.freeze();
        self.lasts().await;
        let held = process.thaw();
        if held > 0 {
            covered(Event::Pause);
        }
        self.ended("pause", &[id], "tasks that were held", json!(held));
    }

    fn others(&self, id: u64) -> Vec<u64> {
        let others = self.cluster.ids().into_iter();
        others.filter(|other| *other != id).collect()
    }

    /// Nothing reaches a member and nothing comes from it.
    async fn isolate(&self) {
        let id = self.target();
        self.part("isolation", &[id], &self.others(id)).await;
    }

    /// Two groups that do not hear each other.
    async fn split(&self) {
        let ids = self.cluster.ids();
        let (one, other): (Vec<_>, Vec<_>) = ids.into_iter().partition(|_| self.chance.once_in(2));
        self.part("partition", &one, &other).await;
    }

    async fn part(&self, fault: &str, one: &[u64], other: &[u64]) {
        if one.is_empty() || other.is_empty() {
            return;
        }
        covered(Event::Partition);
        self.started(fault, one);
        self.cluster.net().partition(one, other, true);
        self.lasts().await;
        self.cluster.net().partition(one, other, false);
        let links = 2 * one.len() * other.len();
        self.ended(fault, one, "links cut", json!(links));
    }

    /// One direction of one link.
    async fn link(&self, fault: &str, change: fn(&mut Link)) {
        let from = self.target();
        let others = self.others(from);
        if others.is_empty() {
            return;
        }
        let to = *self.chance.pick(&others);
        let (from, to) = match self.chance.once_in(2) {
            true => (from, to),
            false => (to, from),
        };
        self.started(fault, &[from, to]);
        self.cluster.net().set(from, to, change);
        self.lasts().await;
        let healthy = Link::default();
        self.cluster.net().set(from, to, |link| *link = healthy);
        self.ended(fault, &[from, to], "links changed", json!(1));
    }

    /// All that a member sends is late, out of step with the others, and partly lost.
    async fn lossy(&self) {
        let from = self.target();
        let others = self.others(from);
        if others.is_empty() {
            return;
        }
        let (delay, loss) = (
            *self.chance.pick(&[5_000, 50_000, 400_000]),
            *self.chance.pick(&[0, 3, 10]),
        );
        self.started("slow and lossy links", &[from]);
        for to in &others {
            self.cluster.net().set(from, *to, |link| {
                link.micros_max = delay;
                link.lost_once_in = loss;
            });
        }
        self.lasts().await;
        for to in &others {
            self.cluster
                .net()
                .set(from, *to, |link| *link = Link::default());
        }
        let links = json!(others.len());
        self.ended("slow and lossy links", &[from], "links changed", links);
    }

    async fn slow_disk(&self) {
        let id = self.target();
        self.started("slow disk", &[id]);
        let drive = self.cluster.drive(id);
        drive.set_latency(Latency {
            sync_micros_max: *self.chance.pick(&[20_000, 80_000, 300_000, 1_500_000]),
            ..Latency::default()
        });
        self.lasts().await;
        drive.set_latency(Latency::default());
        self.ended("slow disk", &[id], "disks changed", json!(1));
    }

    /// No sync ends.
    async fn stalled_disk(&self) {
        let id = self.target();
        self.started("stalled disk", &[id]);
        let drive = self.cluster.drive(id);
        drive.set_stalled(true);
        self.lasts().await;
        drive.set_stalled(false);
        self.ended("stalled disk", &[id], "disks changed", json!(1));
    }

    /// A bit of a log or of an engine flips, on one member of three or more: the member refuses to start, or ends when it reads it, or
    /// it was a bit that nobody needs. Whatever it does, it is replaced; until then, what it shows is compared and judged.
    async fn rot(&self) {
        let ids = self.cluster.ids();
        let rotten = ids.iter().any(|id| self.cluster.is_rotten(*id));
        // With two voters one is no minority: what it alone acknowledged beside the other may be gone for good.
        if rotten || self.cluster.invariants().voters() < 3 {
            return;
        }
        let id = *self.chance.pick(&ids);
        self.started("bit rot", &[id]);
        self.cluster.crash(id, Crash::Kill);
        let folder = *self.chance.pick(&[LOG_DIR, ENGINE_DIR]);
        let file = self.cluster.spoil(id, folder);
        if folder == ENGINE_DIR && file.is_some() {
            covered(Event::EngineRot);
        }
        let started = self.cluster.start(id).await;
        world::tell(|| format!("member {id:x} with bit rot in {file:?}: {started:?}"));
        self.lasts().await;
        self.operator.replace(id).await;
        let file = format!("{file:?}");
        self.ended("bit rot", &[id], "damaged file", json!(file));
    }

    /// A sync fails: its member must end and, started again, lack nothing that it acknowledged.
    async fn failing_sync(&self) {
        let id = self.target();
        self.started("failed sync", &[id]);
        self.cluster.set_may_stop(id, true);
        self.cluster
            .drive(id)
            .fail_sync_after(self.chance.below(20));
        self.lasts().await;
        let ended = self.cluster.process(id).is_none();
        self.cluster.crash(id, Crash::Power);
        restart(&self.cluster, id).await;
        self.cluster.set_may_stop(id, false);
        self.ended("failed sync", &[id], "ended by itself", json!(ended));
    }

    /// A disk is full for a while: its member may end, and is started again when there is room.
    async fn full_disk(&self) {
        let id = self.target();
        self.started("full disk", &[id]);
        self.cluster.set_may_stop(id, true);
        let drive = self.cluster.drive(id);
        drive.set_room(Some(self.chance.below(ROOM_BYTES_MAX) as usize));
        self.lasts().await;
        drive.set_room(None);
        let ended = self.cluster.process(id).is_none();
        self.cluster.crash(id, Crash::Kill);
        restart(&self.cluster, id).await;
        self.cluster.set_may_stop(id, false);
        self.ended("full disk", &[id], "ended by itself", json!(ended));
    }

    /// The end of all faults: everything works, and every member runs.
    pub(crate) async fn heal(&self) {
        self.cluster.net().heal();
        for id in self.cluster.ids() {
            let drive = self.cluster.drive(id);
            drive.set_latency(Latency::default());
            drive.set_room(None);
            drive.set_stalled(false);
            if let Some(process) = self.cluster.process(id) {
                process.thaw();
            }
            restart(&self.cluster, id).await;
        }
    }
}

/// Starts a member, unless it runs. One whose disk is at fault may fail to, and is tried again at the end.
async fn restart(cluster: &Cluster, id: u64) {
    if let Some(Err(error)) = cluster.start(id).await {
        world::tell(|| format!("member {id:x} does not start: {error}"));
        assert!(
            cluster.may_stop(id),
            "member {id:x} does not start: {error}"
        );
    }
}
