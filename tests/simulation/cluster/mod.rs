//! Computers, links, and the members that run on them: production code but for the world that they run in.
//!
//! A member is a [`Node`], that is log, consensus and store, and an [`Indoor`], that is what serves clients: reads, leases, watches.
//! Only sockets are missing. A [`Process`] is one life of it; the [`Cluster`] starts and ends them, notes when one ends by itself, and
//! grows and shrinks with the changes of members that [`admin`] makes.

pub(crate) mod admin;
mod pause;
mod process;
mod settings;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use catena_raft::{StartError, Stop};
use catena_store::Member;
use framework::history::{Proc, ProcEvent, Recorder};
use parking_lot::Mutex;

pub(crate) use self::{
    pause::Freezer,
    process::{DATA_DIR, ENGINE_DIR, LOG_DIR, Process},
    settings::Settings,
};
use crate::{
    disk::{Crash, Drive},
    invariants::Invariants,
    network::Net,
    world::{self, Chance, Event, Machine, covered},
};

/// A computer and what runs on it.
struct Computer {
    machine: Machine,
    /// The first members, if this is one of them.
    founders: Option<Vec<Member>>,
    process: Option<Arc<Process>>,
    /// Counts processes.
    incarnation: u64,
    /// One is being started.
    starting: bool,
    /// Faults under which the process may end by itself: its disk is to fail, or it is to be removed.
    may_stop: usize,
    /// A bit on its disk has flipped.
    rotten: bool,
    /// It was removed and never starts again.
    retired: bool,
}

struct Inner {
    net: Net,
    settings: Settings,
    chance: Chance,
    recorder: Recorder,
    invariants: Invariants,
    computers: Mutex<BTreeMap<u64, Computer>>,
    /// Members that ended by themselves and should not have.
    surprises: Mutex<Vec<String>>,
}

/// All of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster(Arc<Inner>);

/// The name under which clients and history know a member.
pub(crate) fn name(id: u64) -> String {
    format!("m{id:x}")
}

/// Nanoseconds since the run began.
pub(crate) fn now_ns() -> u64 {
    world::now().as_nanos() as u64
}

impl Cluster {
    /// Computers with empty disks; nothing runs.
    pub(crate) fn new(chance: &Chance, settings: Settings, recorder: Recorder) -> Self {
        let founders: Vec<_> = (1..=settings.members as u64).map(founder).collect();
        let cluster = Self(Arc::new(Inner {
            net: Net::new(chance),
            settings,
            chance: chance.fork(),
            recorder,
            invariants: Invariants::new(founders.iter().map(|member| member.id)),
            computers: Mutex::default(),
            surprises: Mutex::default(),
        }));
        for member in &founders {
            cluster.build(member.id, Some(founders.clone()));
        }
        cluster
    }

    pub(crate) fn net(&self) -> &Net {
        &self.0.net
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    pub(crate) fn invariants(&self) -> &Invariants {
        &self.0.invariants
    }

    /// A computer with an empty disk for a member.
    pub(crate) fn build(&self, id: u64, founders: Option<Vec<Member>>) {
        let computer = Computer {
            machine: Machine::new(&name(id), &self.0.chance),
            founders,
            process: None,
            incarnation: 0,
            starting: false,
            may_stop: 0,
            rotten: false,
            retired: false,
        };
        self.0.computers.lock().insert(id, computer);
    }

    fn with<T>(&self, id: u64, act: impl FnOnce(&mut Computer) -> T) -> T {
        let mut computers = self.0.computers.lock();
        act(computers.get_mut(&id).expect("a member of the cluster"))
    }

    /// Starts a member. An error is that of its disk or of its files; `None` if it runs, is removed, or was ended while it started.
    pub(crate) async fn start(&self, id: u64) -> Option<Result<(), StartError>> {
        let (runtime, founders, incarnation) = self.with(id, |computer| {
            if computer.process.is_some() || computer.starting || computer.retired {
                return None;
            }
            computer.incarnation += 1;
            computer.starting = true;
            let runtime = computer.machine.boot();
            Some((runtime, computer.founders.clone(), computer.incarnation))
        })?;
        self.note(id, incarnation, ProcEvent::Start);
        let store = self.settings().store.clone();
        let observer = self.0.invariants.observer(id, self.drive(id), store);
        let hears = observer.clone();
        let started = Process::start(self, (id, incarnation), runtime, founders, hears).await;
        if self.with(id, |computer| computer.incarnation) != incarnation {
            return None;
        }
        let process = match started {
            Ok(process) => Arc::new(process),
            Err(error) => {
                self.crash(id, Crash::Kill);
                return Some(Err(error));
            }
        };
        world::tell(|| format!("member {id:x} starts: {:?}", process.state()));
        observer.serves(process.node.reader());
        self.with(id, |computer| {
            computer.process = Some(process.clone());
            computer.starting = false;
        });
        let (cluster, node) = (self.clone(), process.node.clone());
        world::spawn(async move {
            let reason = node.stopped().await;
            cluster.stopped(id, incarnation, &reason);
        });
        let cluster = self.clone();
        world::spawn(async move {
            let serving = process.clone();
            let ready = process.call(async move { serving.indoor.ready().await });
            if ready.await.is_some() {
                cluster.note(id, incarnation, ProcEvent::Ready);
            }
        });
        Some(Ok(()))
    }

    /// Starts a member whose files and disk are well.
    pub(crate) async fn start_well(&self, id: u64) {
        if let Some(Err(error)) = self.start(id).await {
            panic!("member {id:x} does not start: {error}");
        }
    }

    fn note(&self, id: u64, incarnation: u64, event: ProcEvent) {
        self.0.recorder.process(Proc {
            ns: now_ns(),
            name: name(id),
            member: Some(id),
            event,
            pid: 0,
            incarnation,
            exit: None,
        });
    }

    /// A process has ended by itself.
    fn stopped(&self, id: u64, incarnation: u64, reason: &Stop) {
        let current = self.with(id, |computer| computer.incarnation);
        let may_stop = self.may_stop(id);
        if current != incarnation || *reason == Stop::Asked {
            return;
        }
        world::tell(|| format!("member {id:x} stops: {reason}"));
        let removed = *reason == Stop::Removed && self.0.invariants.is_removed(id);
        if may_stop && !removed {
            covered(Event::StoppedByDisk);
        }
        if !may_stop && !removed {
            let surprise = format!("member {id:x} stopped: {reason}");
            self.0.surprises.lock().push(surprise);
        }
        self.crash(id, Crash::Kill);
    }

    /// Ends the process of a member, if there is one.
    pub(crate) fn crash(&self, id: u64, crash: Crash) {
        self.0.net.crash(id);
        let (process, incarnation) = self.with(id, |computer| {
            let incarnation = computer.incarnation;
            // What is starting is ended too.
            computer.incarnation += 1;
            computer.starting = false;
            computer.machine.crash(crash);
            (computer.process.take(), incarnation)
        });
        let Some(process) = process else {
            return;
        };
        self.note(id, incarnation, ProcEvent::Exit);
        world::tell(|| format!("member {id:x} ends, {crash:?}: {:?}", process.state()));
        process.end();
    }

    /// Lets a member end by itself, or forbids it again.
    pub(crate) fn set_may_stop(&self, id: u64, may_stop: bool) {
        self.with(id, |computer| match may_stop {
            true => computer.may_stop += 1,
            false => computer.may_stop -= 1,
        });
    }

    /// Whether the disk of a member is at fault.
    pub(crate) fn may_stop(&self, id: u64) -> bool {
        self.with(id, |computer| computer.may_stop > 0 || computer.rotten)
    }

    /// Flips a bit in a folder of a member that does not run; the file, if there was one.
    pub(crate) fn spoil(&self, id: u64, folder: &str) -> Option<PathBuf> {
        self.with(id, |computer| computer.rotten = true);
        self.drive(id).rot(&Path::new(DATA_DIR).join(folder))
    }

    /// Whether a bit on the disk of a member has flipped.
    pub(crate) fn is_rotten(&self, id: u64) -> bool {
        self.with(id, |computer| computer.rotten)
    }

    /// A member that was removed: its process ends, and it never starts again.
    pub(crate) fn retire(&self, id: u64) {
        self.with(id, |computer| computer.retired = true);
        self.crash(id, Crash::Kill);
    }

    /// Switches everything off. Members and links hold each other, so this is also what gives their memory back.
    pub(crate) fn switch_off(&self) {
        for id in self.ids() {
            self.retire(id);
        }
    }

    /// The process of a member that was started last, by its number.
    pub(crate) fn incarnation(&self, id: u64) -> u64 {
        self.with(id, |computer| computer.incarnation)
    }

    /// The member, if it runs.
    pub(crate) fn process(&self, id: u64) -> Option<Arc<Process>> {
        self.0.computers.lock().get(&id)?.process.clone()
    }

    /// Whether there is a computer for a member.
    pub(crate) fn has(&self, id: u64) -> bool {
        self.0.computers.lock().contains_key(&id)
    }

    /// Members that are or may be in the cluster.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let computers = self.0.computers.lock();
        let present = computers.iter().filter(|(_, computer)| !computer.retired);
        present.map(|(id, _)| *id).collect()
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<Arc<Process>> {
        let processes = self.ids().into_iter();
        processes.filter_map(|id| self.process(id)).collect()
    }

    /// The one that leads, by its own account, in the highest term.
    pub(crate) fn leader(&self) -> Option<Arc<Process>> {
        let leads = |process: &Arc<Process>| Some((process.led_term()?, process.clone()));
        let leaders = self
            .running()
            .into_iter()
            .filter_map(|process| leads(&process));
        leaders
            .max_by_key(|(term, _)| *term)
            .map(|(_, process)| process)
    }

    /// The disk of a member.
    pub(crate) fn drive(&self, id: u64) -> Arc<Drive> {
        self.with(id, |computer| computer.machine.drive().clone())
    }

    /// Panics if a member ended by itself that should not have.
    pub(crate) fn assert_no_surprise(&self) {
        let surprises = self.0.surprises.lock();
        assert!(surprises.is_empty(), "{surprises:?}");
    }

    /// Waits until `done` says so, and panics at the deadline.
    pub(crate) async fn wait_until(&self, what: &str, deadline: Duration, done: impl Fn() -> bool) {
        let end = world::now() + deadline;
        while !done() {
            assert!(world::now() < end, "not within {deadline:?}: {what}");
            self.assert_no_surprise();
            world::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One of the first members.
fn founder(id: u64) -> Member {
    Member {
        id,
        name: name(id),
        peer_urls: vec![format!("http://{}:2380", name(id))],
        ..Member::default()
    }
}
