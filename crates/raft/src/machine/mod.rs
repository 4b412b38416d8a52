//! The state machine, bound to [`catena_store`].
//!
//! Apply is synchronous and in memory; what was applied reaches the engine later, in the background ([`commit`]). Two rules tie the
//! engine to the log:
//! - **The log goes first.** A batch is committed, and a received snapshot put in place, only when every log record written before
//!   is durable. Else a member could restart with applied state that its own log contradicts.
//! - **The log outlives the engine.** The log is purged only up to what the engine has made durable, since it is applied again from
//!   there after a restart.
//!
//! A snapshot is therefore nothing but a flush: the engine is the snapshot, and its contents are copied only when a follower needs
//! them ([`snapshot`]).

mod commit;
mod meter;
mod snapshot;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use catena_runtime::{Runtime, watch};
use catena_store::{
    Command, Entry as StoreEntry, Fatal, MemberChange, Outcome, Position, Reader, Request, Store,
    backend::{Backend, Engine},
};
use catena_wal::Wal;
use futures_util::{Stream, StreamExt};
use openraft::{
    OptionalSend,
    storage::{EntryResponder, RaftStateMachine, Snapshot},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

pub(crate) use commit::{Durable, Work};
pub(crate) use meter::{LogBounds, LogMeter};
use snapshot::Ready;
pub(crate) use snapshot::{Builder, SnapshotData};

use crate::{
    AppliedEntry, Observer, Remedy, Stop, batch,
    behind::Behind,
    blocking::blocking,
    heard::Heard,
    id,
    pending::Pending,
    sole::Sole,
    stop::StopCell,
    transport::AddressBook,
    types::{
        CommittedLeaderId, Entry, LogId, Membership, Peer, SnapshotMeta, StoredMembership, Types,
    },
    wire,
};

/// Bytes that are applied and not yet in the engine, at which apply waits: bounds the overlay in memory and the log to apply again
/// after a crash.
const OVERLAY_BYTES_MAX: usize = 64 << 20;

/// Commands after which apply lets others run: some milliseconds of work, so that a member that catches up hears heartbeats.
const COMMANDS_IN_A_ROW: usize = 1024;

/// What the tasks around the store share.
pub(crate) struct Machine {
    pub(crate) runtime: Runtime,
    pub(crate) wal: Wal,
    pub(crate) reader: Reader,
    pub(crate) pending: Pending,
    pub(crate) stop: StopCell,
    store: Mutex<Store>,
    member_id: u64,
    addresses: AddressBook,
    /// Requests to the committing task.
    work: mpsc::Sender<Work>,
    /// Something was applied.
    applied: Notify,
    /// Something reached the engine.
    room: Notify,
    durable: watch::Sender<Durable>,
    pub(crate) meter: Mutex<LogMeter>,
    engine: Engine,
    /// The engine in use, for the one that replaces it.
    backend: Mutex<Arc<dyn Backend>>,
    snap_dir: PathBuf,
    compaction_pause: Duration,
    observer: Arc<dyn Observer>,
    /// The log has grown enough to be cut.
    pub(crate) log_full: Notify,
    /// Held by the one snapshot that is being received.
    pub(crate) receiving: Arc<Semaphore>,
    /// Term of the last applied entry.
    applied_term: watch::Sender<u64>,
    /// Counts changes of the members on record.
    members_version: watch::Sender<u64>,
    /// Whether there are other members.
    pub(crate) sole: Arc<Sole>,
    /// Members that are sent snapshots.
    pub(crate) behind: Arc<Behind>,
    /// When a leader was last heard.
    pub(crate) heard: Heard,
    /// This member was removed, by an applied entry or in the words of the others.
    pub(crate) removed: Arc<Notify>,
}

/// What [`Machine::new`] needs.
pub(crate) struct Parts {
    pub(crate) runtime: Runtime,
    pub(crate) wal: Wal,
    pub(crate) store: Store,
    pub(crate) stop: StopCell,
    pub(crate) member_id: u64,
    pub(crate) addresses: AddressBook,
    pub(crate) meter: LogMeter,
    pub(crate) engine: Engine,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) snap_dir: PathBuf,
    pub(crate) compaction_pause: Duration,
    pub(crate) observer: Arc<dyn Observer>,
}

/// Most requests that wait for the committing task: snapshots are taken one at a time, flushes at shutdown.
const WORK_QUEUE_MAX: usize = 16;

impl Machine {
    /// The machine, and what its committing task takes its work from; see [`commit::run`].
    pub(crate) fn new(parts: Parts) -> Result<(Arc<Self>, mpsc::Receiver<Work>), Fatal> {
        let (work, queue) = mpsc::channel(WORK_QUEUE_MAX);
        let run = parts.runtime.random.next_u64();
        let durable = Durable::of(&parts.store).map_err(damaged)?;
        let machine = Arc::new(Self {
            reader: parts.store.reader(),
            pending: Pending::new(run),
            stop: parts.stop,
            store: Mutex::new(parts.store),
            member_id: parts.member_id,
            addresses: parts.addresses,
            work,
            applied: Notify::new(),
            room: Notify::new(),
            durable: watch::Sender::new(durable),
            meter: Mutex::new(parts.meter),
            engine: parts.engine,
            backend: Mutex::new(parts.backend),
            snap_dir: parts.snap_dir,
            compaction_pause: parts.compaction_pause,
            observer: parts.observer,
            log_full: Notify::new(),
            removed: Arc::default(),
            receiving: Arc::new(Semaphore::new(1)),
            sole: Arc::new(Sole::new(parts.member_id)),
            behind: Arc::default(),
            heard: Heard::new(parts.runtime.clock.clone()),
            applied_term: watch::Sender::new(0),
            members_version: watch::Sender::new(0),
            wal: parts.wal,
            runtime: parts.runtime,
        });
        machine.update_addresses();
        machine.notice_removal();
        Ok((machine, queue))
    }

    /// Runs the committing task until the machine is closed.
    pub(crate) async fn commit_loop(self: Arc<Self>, queue: mpsc::Receiver<Work>) {
        commit::run(self, queue).await;
    }

    /// What the engine has made durable.
    pub(crate) fn durable(&self) -> Durable {
        self.durable.borrow().clone()
    }

    /// Term of the last applied entry, as it changes. Whoever waits for entries up to it has been answered.
    pub(crate) fn applied_term(&self) -> watch::Receiver<u64> {
        self.applied_term.subscribe()
    }

    /// Whether the last applied entry is of `term`.
    pub(crate) fn is_applied_term(&self, term: u64) -> bool {
        *self.applied_term.borrow() == term
    }

    /// Changes whenever the members do.
    pub(crate) fn members_version(&self) -> watch::Receiver<u64> {
        self.members_version.subscribe()
    }

    /// Brings all that is applied into the engine.
    pub(crate) async fn flush(&self) -> io::Result<Durable> {
        let (done, flushed) = oneshot::channel();
        self.ask(Work::Flush { done }, flushed).await?;
        Ok(self.durable())
    }

    /// Rewrites the engine's files. Waits for a snapshot that is being received, which replaces them; none is received until the
    /// rewriting has ended, also if the caller goes away.
    pub(crate) async fn defragment(&self) -> Result<(), Fatal> {
        let closed = |_| Fatal::Engine("the store is closed".to_owned());
        let receiving = self.receiving.clone();
        let no_snapshot = receiving.acquire_owned().await.map_err(closed)?;
        let reader = self.reader.clone();
        blocking(&self.runtime, "defragment", move || {
            let _until_it_ends = no_snapshot;
            reader.defragment()
        })
        .await
    }

    /// This member is not in the cluster any more, as its own state says.
    fn notice_removal(&self) {
        if self.reader.is_removed(self.member_id) {
            self.removed.notify_one();
        }
    }

    async fn install(&self, ready: Box<Ready>) -> io::Result<()> {
        let (done, installed) = oneshot::channel();
        self.ask(Work::Install { ready, done }, installed).await
    }

    async fn ask(&self, work: Work, answer: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
        let closed = || io::Error::other("the store is closed");
        self.work.send(work).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Waits while too much is applied and not yet in the engine.
    async fn wait_for_room(&self) -> io::Result<()> {
        loop {
            let room = self.room.notified();
            if let Some(reason) = self.stop.get() {
                return Err(io::Error::other(reason));
            }
            {
                let store = self.store.lock();
                if store.unsealed_bytes() + store.sealed_bytes() < OVERLAY_BYTES_MAX {
                    return Ok(());
                }
            }
            self.applied.notify_one();
            room.await;
        }
    }

    /// Applies an entry and answers those who wait for it here. Returns the number of its commands.
    fn apply(&self, entry: &Entry) -> io::Result<usize> {
        let founding = entry.log_id.index == 0;
        let (ticket, commands) = match &entry.payload.membership {
            _ if !entry.payload.commands.is_empty() => {
                let (ticket, commands) = batch::decode(&entry.payload.commands)
                    .map_err(|error| self.bad_entry(entry, &error))?;
                (Some(ticket), commands)
            }
            Some(membership) if founding => (None, vec![bootstrap(membership)]),
            _ => (None, Vec::new()),
        };
        let members_change = commands
            .iter()
            .any(|command| matches!(command.request, Request::Member(_)));
        let removed = commands.iter().any(|command| {
            matches!(command.request, Request::Member(MemberChange::Remove { id }) if id == self.member_id)
        });
        let count = commands.len();
        let outcomes = self
            .execute(StoreEntry {
                position: position(&entry.log_id),
                membership: entry.payload.membership.as_deref().map(wire::encode),
                commands,
            })
            .map_err(|fatal| self.engine_broken(&fatal))?;
        self.observe(entry);
        self.applied.notify_one();
        if members_change || entry.payload.membership.is_some() {
            self.update_addresses();
            self.members_version.send_modify(|version| *version += 1);
        }
        if removed {
            self.removed.notify_one();
        }
        if let Some(ticket) = ticket {
            self.pending.applied(ticket, outcomes);
        }
        if let Some(membership) = &entry.payload.membership {
            self.sole.applied(entry.log_id.index, membership);
        }
        let term = entry.log_id.leader_id.term;
        self.applied_term
            .send_if_modified(|applied| std::mem::replace(applied, term) != term);
        let bytes = entry.payload.commands.0.len();
        if self.meter.lock().applied(entry.log_id.index, count, bytes) {
            self.log_full.notify_one();
        }
        Ok(count)
    }

    /// Runs the commands of an entry; those that take long hold up no heartbeat.
    fn execute(&self, entry: StoreEntry) -> Result<Vec<Outcome>, Fatal> {
        if !entry.commands.iter().any(Command::may_take_long) {
            return self.store.lock().apply(entry);
        }
        let mut entry = Some(entry);
        let mut applied = None;
        self.runtime.tasks.in_place(&mut || {
            applied = entry.take().map(|entry| self.store.lock().apply(entry));
        });
        applied.expect("work in place is done when it returns")
    }

    fn observe(&self, entry: &Entry) {
        let membership = entry.payload.membership.as_deref();
        self.observer.applied(&AppliedEntry {
            position: position(&entry.log_id),
            commands: &entry.payload.commands.0,
            voters: membership.map(|membership| membership.voter_ids().collect()),
            revision: self.reader.revision(),
        });
    }

    /// The addresses of the members on record; those given at start stay until there are any.
    fn update_addresses(&self) {
        let members = self.reader.members();
        if members.present.is_empty() {
            return;
        }
        let urls = |member: &catena_store::Member| (member.id, member.peer_urls.clone());
        self.addresses.replace(members.present.values().map(urls));
    }

    /// The store cannot go on: the member stops.
    fn broken(&self, what: String, remedy: Remedy) -> io::Error {
        let stop = Stop::Store {
            what: what.clone(),
            remedy,
        };
        self.stop.set(stop);
        self.room.notify_waiters();
        io::Error::other(what)
    }

    fn engine_broken(&self, fatal: &Fatal) -> io::Error {
        self.broken(fatal.to_string(), Remedy::of_store(fatal))
    }

    fn bad_entry(&self, entry: &Entry, error: &batch::BadBatch) -> io::Error {
        let what = format!("entry {}: {error}", entry.log_id);
        self.broken(what, Remedy::of_batch(error))
    }

    fn bad_membership(&self, error: &wire::BadBytes) -> io::Error {
        self.broken(format!("membership {error}"), Remedy::Replace)
    }

    fn applied_state(&self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let store = self.store.lock();
        Ok((
            store.applied().map(log_id),
            stored_membership(store.membership())?,
        ))
    }
}

fn damaged(error: wire::BadBytes) -> Fatal {
    Fatal::Engine(format!("record of the membership {error}"))
}

/// The first record of members, from consensus's own first entry: all members have that, and nothing else has to be proposed.
fn bootstrap(membership: &Membership) -> catena_store::Command {
    let voters: Vec<u64> = membership.voter_ids().collect();
    let member = |(id, peer): (&u64, &Peer)| catena_store::Member {
        id: *id,
        name: peer.name.clone(),
        peer_urls: peer.peer_urls.clone(),
        client_urls: Vec::new(),
        is_learner: !voters.contains(id),
    };
    catena_store::Command::internal(Request::Member(MemberChange::Bootstrap {
        cluster_id: id::cluster_id(&voters),
        members: membership.nodes().map(member).collect(),
    }))
}

pub(crate) fn position(log_id: &LogId) -> Position {
    Position {
        term: log_id.leader_id.term,
        index: log_id.index,
    }
}

pub(crate) fn log_id(position: Position) -> LogId {
    LogId::new(CommittedLeaderId::new(position.term), position.index)
}

/// The membership as openraft keeps it, from what the store keeps for us.
pub(crate) fn stored_membership(
    kept: Option<(Option<Position>, bytes::Bytes)>,
) -> Result<StoredMembership, wire::BadBytes> {
    Ok(match kept {
        Some((at, membership)) => StoredMembership::new(at.map(log_id), wire::decode(&membership)?),
        None => StoredMembership::default(),
    })
}

/// The one that openraft owns.
pub(crate) struct StateMachine {
    machine: Arc<Machine>,
}

impl StateMachine {
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        Self { machine }
    }
}

impl<C: Types> RaftStateMachine<C> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.machine.applied_state()
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<C>>> + Unpin + OptionalSend,
    {
        let mut in_a_row = 0;
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            self.machine.wait_for_room().await?;
            in_a_row += 1 + self.machine.apply(&entry)?;
            if let Some(responder) = responder {
                responder.send(());
            }
            if in_a_row >= COMMANDS_IN_A_ROW {
                in_a_row = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder::new(self.machine.clone())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        match snapshot {
            SnapshotData::Received(ready) => self.machine.install(ready).await?,
            // Only openraft's storage suite installs a snapshot where it was taken or in the same process.
            SnapshotData::Local(snapshot) => {
                let ready = self.machine.copy_local(snapshot).await?;
                self.machine.install(ready).await?;
            }
        }
        let reader = &self.machine.reader;
        if let Some(applied) = reader.applied() {
            self.machine.sole.may_have_joined(applied.index);
            self.machine.observer.installed(applied, reader.revision());
        }
        let applied = reader.applied().map(log_id);
        if applied != meta.last_log_id {
            let what = format!(
                "snapshot of {:?} holds the state of {applied:?}",
                meta.last_log_id
            );
            return Err(self.machine.broken(what, Remedy::Replace));
        }
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> io::Result<Option<Snapshot<CommittedLeaderId, u64, Peer, SnapshotData>>> {
        self.machine.current_snapshot()
    }
}
