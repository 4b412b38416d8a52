//! One, three or five members under everything that can go wrong at once, for twenty seconds and more; then peace.
//!
//! While it lasts, clients write, read, watch and hold leases through any member; an operator changes members, moves leadership and
//! defragments; faults come and go. What must hold inside is looked at all the time ([`crate::invariants`]); what clients saw is
//! judged at the end by two judges ([`framework::judge`]). In peace the cluster has a bounded time to elect a leader, take a write,
//! bring every member and every watch to the same state, and end the leases that nobody renews.
//!
//! Its power was tried by breaking the store, each time with a handful of seeds: entries acknowledged before they are durable
//! (invariant 6), an entry that one member skips (invariant 14), a renewal that does not set the deadline back (L1), a proposal of
//! unknown outcome that is sent again (K8). Each was convicted within the first two seeds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use framework::{
    history::{History, MemberInfo, Meta, Put, Recorder},
    judge,
};

use crate::{
    Case,
    clients::{
        self, Load, finals,
        watches::{self, Seen},
    },
    cluster::{Cluster, Settings, admin::Operator, name, now_ns},
    cluster_faults::Faults,
    world::{self, Chance, Event, campaign, covered},
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![(
        "everything_holds_under_all_faults_at_once",
        everything_holds_under_all_faults_at_once,
    )]
}

/// Seeds that always run.
const SEEDS: u64 = 200;

/// A run lasts so long at least …
const LASTS: Duration = Duration::from_secs(20);
/// … and until so much has happened …
const OPERATIONS_MIN: u64 = 500;
const FAULTS_MIN: usize = 5;
/// … but no longer than this, in which much more should have.
const LASTS_MAX: Duration = Duration::from_secs(120);

/// After the last fault everything works again within this time.
const RECOVERY: Duration = Duration::from_secs(30);

/// A member that has shown a revision sends its events to every watch within this time: on virtual time, nothing delays it but what
/// the member itself waits for.
const WATCH_LATE: Duration = Duration::from_millis(500);

/// How often members and disks are compared.
const LOOK_INTERVAL: Duration = Duration::from_millis(400);

/// How often it is asked whether there is a new leader.
const ELECTION_INTERVAL: Duration = Duration::from_millis(20);

/// Watchers that come and go.
const WATCHERS: usize = 3;

/// The parts of a run.
struct Run {
    cluster: Cluster,
    chance: Chance,
    faults: Faults,
    operator: Operator,
    seen: Seen,
}

impl Run {
    async fn start(chance: &Chance, settings: Settings) -> Self {
        let recorder = Recorder::new(meta(&settings));
        let cluster = Cluster::new(chance, settings, recorder);
        let seen = Seen::default();
        for id in cluster.ids() {
            cluster.start_well(id).await;
            world::spawn(watches::witness(cluster.clone(), id, seen.clone()));
        }
        let operator = Operator {
            cluster: cluster.clone(),
            chance: chance.fork(),
            seen: seen.clone(),
        };
        Self {
            faults: Faults::new(operator.clone(), chance),
            chance: chance.fork(),
            cluster,
            operator,
            seen,
        }
    }

    /// Whether enough has happened.
    fn done(&self) -> impl Fn() -> bool + Clone + Send + use<> {
        let (faults, recorder) = (self.faults.clone(), self.cluster.recorder().clone());
        move || {
            let enough = recorder.operations() >= OPERATIONS_MIN && faults.count() >= FAULTS_MIN;
            world::now() >= LASTS_MAX || world::now() >= LASTS && enough
        }
    }

    fn spawn_clients(&self, chance: &Chance) {
        let load = Load::new(chance, self.cluster.settings().mix);
        for _ in 0..self.cluster.settings().clients {
            world::spawn(clients::run(
                self.cluster.clone(),
                load.clone(),
                chance.fork(),
                self.done(),
            ));
        }
        for _ in 0..WATCHERS {
            let watcher = watches::run(self.cluster.clone(), chance.fork(), self.done());
            world::spawn(watcher);
        }
    }

    /// Looks inside for as long as the run lasts.
    fn spawn_looks(&self, over: Arc<AtomicBool>) {
        let cluster = self.cluster.clone();
        world::spawn(async move {
            let mut next = world::now();
            while !over.load(Ordering::Relaxed) {
                world::sleep(ELECTION_INTERVAL).await;
                cluster.invariants().look_at_new_leaders(&cluster);
                if world::now() >= next {
                    cluster.invariants().look(&cluster);
                    next = world::now() + LOOK_INTERVAL;
                }
            }
        });
    }

    fn summary(&self) -> String {
        format!(
            "{} operations, {} faults, {} terms with a leader",
            self.cluster.recorder().operations(),
            self.faults.count(),
            self.cluster.invariants().led_terms()
        )
    }

    /// The faults have ended: within a bounded time all is well.
    async fn recovers(&self) {
        let end = world::now() + RECOVERY;
        let left = || end.saturating_sub(world::now());
        self.writes(end).await;
        while !self.operator.is_tidy() {
            assert!(world::now() < end, "the record of members is not settled");
            self.operator.tidy().await;
            self.faults.heal().await;
            world::sleep(Duration::from_millis(100)).await;
        }
        let cluster = &self.cluster;
        let applied = || {
            let running = cluster.running();
            let applied: Vec<_> = running.iter().map(|process| process.state()).collect();
            running.len() == cluster.ids().len() && applied.windows(2).all(|two| two[0] == two[1])
        };
        let what = "all members have applied the same";
        cluster.wait_until(what, left(), applied).await;
        let leases = Duration::from_secs(cluster.settings().mix.ttl_max) + RECOVERY;
        let over = || {
            let running = cluster.running();
            let mut leases = running.iter().map(|process| process.node.reader().leases());
            leases.all(|leases| leases.is_empty())
        };
        if !over() {
            covered(Event::LeaseExpired);
        }
        let what = "leases that nobody renews have ended";
        cluster.wait_until(what, leases, over).await;
        cluster.wait_until(what, RECOVERY, applied).await;
        let witnessed = || {
            let mut running = cluster.running().into_iter();
            running.all(|process| self.seen.by(process.id) >= process.state().1)
        };
        let what = "every witness has seen the last revision";
        cluster.wait_until(what, RECOVERY, witnessed).await;
        self.leaves_nothing().await;
    }

    /// Clients have gone, but for the witnesses, and so has all that ran for them and for processes that have ended.
    async fn leaves_nothing(&self) {
        let cluster = &self.cluster;
        let gone = || {
            let mut running = cluster.running().into_iter();
            running.all(|process| {
                let (calls, watches) = process.client_tasks();
                let streams = cluster.net().streams_to(process.id);
                calls == 0 && watches <= 1 && process.peer_streams() <= streams
            })
        };
        let what = "invariant 22: nothing runs for a connection that is closed";
        cluster.wait_until(what, RECOVERY, gone).await;
        let gone = || cluster.invariants().dead_are_gone(cluster);
        let what = "invariant 22: nothing runs of a process that has ended";
        cluster.wait_until(what, RECOVERY, gone).await;
    }

    /// A write goes through.
    async fn writes(&self, end: Duration) {
        for attempt in 0.. {
            assert!(world::now() < end, "no write goes through");
            let put = Put {
                key: "k-last".into(),
                value: format!("last-{attempt}").into(),
                ..Put::default()
            };
            let id = *self.chance.pick(&self.cluster.ids());
            if clients::put(&self.cluster, &self.chance, id, put).await {
                return;
            }
            world::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn meta(settings: &Settings) -> Meta {
    let member = |id| MemberInfo {
        name: name(id),
        id,
        endpoint: name(id),
    };
    let mut told = BTreeMap::new();
    told.insert(
        "lease_late_ms".to_owned(),
        (RECOVERY.as_millis() as u64).into(),
    );
    told.insert(
        "watch_late_ms".to_owned(),
        (WATCH_LATE.as_millis() as u64).into(),
    );
    told.insert("settings".to_owned(), format!("{settings:?}").into());
    Meta {
        run: "simulation".to_owned(),
        members: (1..=settings.members as u64).map(member).collect(),
        heartbeat_ms: settings.heartbeat.as_millis() as u64,
        election_ms: settings.election.as_millis() as u64,
        settings: told,
        ..Meta::default()
    }
}

async fn run(chance: Chance, settings: Settings) {
    world::tell(|| format!("{settings:?}"));
    covered(match settings.members {
        1 => Event::OneMember,
        3 => Event::ThreeMembers,
        _ => Event::FiveMembers,
    });
    let run = Run::start(&chance, settings).await;
    run.spawn_clients(&chance);
    let over = Arc::default();
    run.spawn_looks(Arc::clone(&over));
    let (done, operator) = (run.done(), run.operator.clone());
    let operated = Arc::new(AtomicBool::new(false));
    let (ended, until) = (operated.clone(), done.clone());
    world::spawn(async move {
        operator.run(until).await;
        ended.store(true, Ordering::Relaxed);
    });
    run.faults.run(done).await;
    run.faults.heal().await;
    let idle = || operated.load(Ordering::Relaxed);
    let what = "the operator is done";
    run.cluster.wait_until(what, RECOVERY, idle).await;
    run.recovers().await;
    run.cluster.invariants().look(&run.cluster);
    over.store(true, Ordering::Relaxed);
    finals::record(&run.cluster).await;
    run.cluster.assert_no_surprise();
    world::tell(|| run.summary());
    let history = run.cluster.recorder().history(now_ns());
    run.cluster.switch_off();
    judged(&history);
}

/// What clients saw is what one store could have shown them.
fn judged(history: &History) {
    for verdict in [judge::revisions(history), judge::linearizable(history)] {
        world::tell(|| verdict.to_string());
        assert!(verdict.passed(), "{verdict}");
    }
    let operations = history.operations().count() as u64;
    assert!(operations >= OPERATIONS_MIN, "{operations} operations");
    let answered = history.operations().filter_map(|op| op.answer()).count();
    assert!(answered > 0, "nothing was answered");
}

fn everything_holds_under_all_faults_at_once() {
    campaign("everything_holds", SEEDS, |chance| {
        let settings = Settings::draw(&chance);
        run(chance, settings)
    });
}
