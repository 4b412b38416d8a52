//! Starting a member: files, consensus, tasks, and the founding of a cluster.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool, atomic::AtomicU64},
};

use catena_runtime::{BoxFuture, Network, Runtime, watch};
use catena_store::{Fatal, Member, Store, backend};
use catena_wal::{Recovered, Wal};
use openraft::Raft;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    Config, Leadership, Remedy, StartError, Stop,
    blocking::blocking,
    compact,
    consensus::{Consensus, Core},
    files,
    identity::{self, Layout},
    log::Log,
    machine::{LogBounds, LogMeter, Machine, Parts, StateMachine, Work},
    members,
    network::Links,
    node::Inner,
    observer::OfLog,
    pace::Pace,
    propose::{self, Proposals, Queue},
    read::{self, ReadGate, Readers},
    shared::{Rules, Shared},
    stop::StopCell,
    types::{Peer, Types},
};

/// How long a removed member goes on, so that the others hear of it and a removed leader hands over, as in etcd.
const REMOVED_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Opens and starts everything.
pub(crate) async fn start<C: Types>(
    runtime: Runtime,
    network: Arc<dyn Network>,
    config: Config,
) -> Result<Inner, StartError> {
    let openraft_config = config.openraft()?;
    claim(&runtime, &config)?;
    let stop = StopCell::new();
    let (machine, work) = open(&runtime, &config, stop.clone()).await?;
    if let Some(initial) = config.initial.as_deref().filter(|_| is_new(&machine)) {
        config.addresses.replace(addresses(initial));
    }
    // Consensus takes snapshots while it starts, so the committing task runs before.
    let mut tasks = vec![
        runtime
            .tasks
            .spawn("commit", Box::pin(machine.clone().commit_loop(work))),
    ];
    let pace = Arc::new(Pace::new(
        runtime.clock.clone(),
        config.catch_up_bytes_min,
        config.log_bytes_max,
    ));
    let links = Links {
        network: network.clone(),
        runtime: runtime.clone(),
        addresses: config.addresses.clone(),
        stop: stop.clone(),
        removed: machine.removed.clone(),
        behind: machine.behind.clone(),
        pace: pace.clone(),
        stuck: 2 * config.election,
    };
    let raft = Raft::<C, StateMachine>::new(
        config.identity.member_id,
        openraft_config.clone(),
        links,
        Log::new(
            runtime.clone(),
            machine.wal.clone(),
            machine.sole.clone(),
            pace,
            config.observer.clone(),
        ),
        StateMachine::new(machine.clone()),
    )
    .await
    .map_err(|fatal| StartError::Raft(fatal.to_string()))?;
    let consensus: Arc<dyn Consensus> = Arc::new(Core {
        raft,
        machine: machine.clone(),
        id: config.identity.member_id,
        contact: 2 * config.election,
        idle: openraft_config.install_snapshot_timeout(),
    });
    let found = consensus.configuration();
    if let Some(at) = found.at {
        machine.sole.found(at.index, found.peers.into_keys());
    }
    let (leadership_sender, leadership) = watch::channel(Leadership::default());
    let following = consensus.follow(leadership_sender);
    tasks.push(runtime.tasks.spawn("leadership", following));
    let shared = Arc::new(Shared {
        identity: config.identity,
        rules: rules(&config),
        runtime: runtime.clone(),
        network,
        machine,
        consensus,
        leadership,
        stop,
        handlers: RwLock::default(),
        handing_over: AtomicBool::new(false),
        reconfiguring: Semaphore::new(1),
        leader_since: AtomicU64::new(0),
    });
    let (proposals, queue) = Proposals::new();
    let (reads, readers) = ReadGate::new();
    for (name, task) in background(&shared, queue, readers, config.initial) {
        tasks.push(runtime.tasks.spawn(name, task));
    }
    Ok(Inner {
        shared,
        proposals,
        reads: Arc::new(reads),
        tasks: Mutex::new(tasks),
    })
}

fn rules(config: &Config) -> Rules {
    Rules {
        election: config.election,
        request_timeout: config.request_time(),
        strict_reconfig: config.strict_reconfig,
        learners_max: config.max_learners,
    }
}

/// Makes sure that the data directory is ours.
fn claim(runtime: &Runtime, config: &Config) -> Result<(), StartError> {
    let ours = config.identity;
    let found = identity::open(runtime, &config.data_dir, ours.cluster_id, ours.member_id)?;
    match found == ours {
        true => Ok(()),
        false => Err(StartError::DataDir {
            path: Layout::new(&config.data_dir).identity(),
            what: "the data directory was made anew while the member started".to_owned(),
            remedy: Remedy::AsSaid,
        }),
    }
}

/// Opens log, engine and store.
async fn open(
    runtime: &Runtime,
    config: &Config,
    stop: StopCell,
) -> Result<(Arc<Machine>, mpsc::Receiver<Work>), StartError> {
    let layout = Layout::new(&config.data_dir);
    files::check_log(runtime.disk.as_ref(), &layout)?;
    let (wal, recovered) = {
        let (runtime_of_wal, dir) = (runtime.clone(), layout.wal());
        let options = catena_wal::Options {
            observer: Some(Arc::new(OfLog(config.observer.clone()))),
            ..config.wal.clone()
        };
        blocking(runtime, "open log", move || {
            Wal::open(&runtime_of_wal, &dir, options)
        })
        .await?
    };
    report(&recovered);
    let (backend, store) = {
        let (engine, disk, dir) = (config.engine, runtime.disk.clone(), layout.snap());
        let options = config.store.clone();
        blocking(runtime, "open store", move || {
            let backend = backend::open(engine, &disk, &dir)?;
            let store = Store::open(backend.clone(), options)?;
            Ok::<_, Fatal>((backend, store))
        })
        .await?
    };
    files::check_fit(&layout, &recovered, store.applied())?;
    if let Some(expected) = &config.expected {
        let members = store.reader().members();
        files::check_owner(&layout, &config.identity, &members.present, expected)?;
    }
    let bounds = LogBounds {
        proposals_max: config.log_proposals_max,
        bytes_max: config.log_bytes_max,
        proposals_keep: config.log_proposals_keep,
    };
    let applied = store.applied().map_or(0, |applied| applied.index + 1);
    let entries = applied.saturating_sub(recovered.first.unwrap_or(applied));
    let parts = Parts {
        runtime: runtime.clone(),
        wal,
        store,
        stop,
        member_id: config.identity.member_id,
        addresses: config.addresses.clone(),
        meter: LogMeter::new(bounds, entries),
        engine: config.engine,
        backend,
        snap_dir: layout.snap(),
        compaction_pause: config.compaction_pause,
        observer: config.observer.clone(),
    };
    Ok(Machine::new(parts)?)
}

fn report(recovered: &Recovered) {
    if let Some(torn) = &recovered.torn {
        tracing::warn!(
            path = %torn.path.display(),
            offset = torn.offset,
            bytes = torn.bytes,
            "cut off a write that a crash interrupted; nothing that was acknowledged is in it"
        );
    }
    tracing::info!(
        first = recovered.first,
        last = recovered.last,
        segments = recovered.segments,
        "opened log"
    );
}

fn is_new(machine: &Machine) -> bool {
    machine.reader.applied().is_none() && machine.wal.bounds().1.is_none()
}

fn addresses(members: &[Member]) -> impl Iterator<Item = (u64, Vec<String>)> {
    members
        .iter()
        .map(|member| (member.id, member.peer_urls.clone()))
}

/// What runs beside the callers.
fn background(
    shared: &Arc<Shared>,
    queue: Queue,
    readers: Readers,
    initial: Option<Vec<Member>>,
) -> Vec<(&'static str, BoxFuture<'static, ()>)> {
    vec![
        ("proposals", Box::pin(propose::run(shared.clone(), queue))),
        ("reads", Box::pin(read::run(shared.clone(), readers))),
        (
            "compaction of the log",
            Box::pin(compact::run(shared.clone())),
        ),
        (
            "new voters",
            Box::pin(members::promote_pending(shared.clone())),
        ),
        ("leader", Box::pin(shared.clone().track_leader())),
        ("log failure", Box::pin(wal_failure(shared.clone()))),
        (
            "consensus failure",
            Box::pin(consensus_failure(shared.clone())),
        ),
        ("removal", Box::pin(removal(shared.clone()))),
        ("founding", Box::pin(found(shared.clone(), initial))),
    ]
}

async fn wal_failure(shared: Arc<Shared>) {
    let error = shared.machine.wal.failed().await;
    shared.stop.set(Stop::wal(&error));
}

async fn consensus_failure(shared: Arc<Shared>) {
    let reason = shared.consensus.stopped().await;
    // Consensus hears of a failed log as soon as we do, and knows less of it.
    shared.stop.set(match shared.machine.wal.failure() {
        Some(error) => Stop::wal(&error),
        None => Stop::Raft(reason),
    });
}

async fn removal(shared: Arc<Shared>) {
    shared.machine.removed.notified().await;
    tracing::info!("removed from the cluster");
    shared.runtime.clock.sleep(REMOVED_GRACE).await;
    shared.stop.set(Stop::Removed);
}

/// Founds the cluster. All founders may do so at once, and write the same first entry; but each would vote for itself first, so they
/// take turns: the one with the smallest id begins, the next one waits an election timeout and looks whether it must.
async fn found(shared: Arc<Shared>, initial: Option<Vec<Member>>) {
    let Some(initial) = initial else {
        return;
    };
    if shared.consensus.is_initialized().await {
        return;
    }
    let peer = |member: &Member| Peer {
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
    };
    let founders: BTreeMap<u64, Peer> = initial
        .iter()
        .map(|member| (member.id, peer(member)))
        .collect();
    let own = shared.identity.member_id;
    let turn = founders.keys().take_while(|id| **id < own).count();
    let wait = shared.rules.election * u32::try_from(turn).unwrap_or(u32::MAX);
    shared.runtime.clock.sleep(wait).await;
    if shared.consensus.is_initialized().await {
        return;
    }
    match shared.consensus.initialize(founders).await {
        Ok(true) => tracing::info!("cluster founded"),
        Ok(false) => {}
        Err(what) => shared.stop.set(Stop::Raft(what)),
    }
}
