//! The machine of one registration.
//!
//! Two loops take turns: [`Machine::acquire`] until the keys stand, [`Machine::hold`] while they do. In `hold` nothing is believed to be
//! lost or to stand because something was heard: an event on an own key, the end of a watch, a store that answers again, a
//! changed instance all lead to one [`Machine::check`], which looks at lease and keys, writes what differs, and watches from the
//! revision of that look. Owners' commands are taken between steps, each of which is bounded by [`STEP_WITHIN`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use catena_client::{
    Error as StoreError, KeepAlive, Kv,
    pb::{LeaseTimeToLiveRequest, RangeResponse, WatchCreateRequest},
    request,
};
use futures_util::{
    StreamExt, future,
    stream::{BoxStream, SelectAll},
};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Command, OnConflict, RegState, RegisterOptions,
    claim::{Claim, Finding, Holder, Seen},
};
use crate::{
    Error, Instance, Layout, Result, Status,
    backoff::{Backoff, return_jitter},
    pulse::{Pulse, returned},
    sight::{self, Sight},
};

/// One attempt, or one look, is given up after this time: a member that hangs must not hold a registration up for longer than the
/// longest pause.
const STEP_WITHIN: Duration = Duration::from_secs(2);

/// How often a key that somebody else holds is looked at.
const CONFLICT_POLL: Duration = Duration::from_secs(1);

/// Looks at keys that change between a look and the write over it; then the store is tried again after a pause.
const LOOKS_MAX: usize = 3;

/// The latest leases of a registration, by which it knows its own keys. Older ones have run out long ago.
const LEASES_KEPT: usize = 8;

/// Keys of former addresses that are still to be taken away. More gather only while the store does not answer; the oldest then
/// stand until their lease runs out.
const FORMER_MAX: usize = 8;

/// What all registrations of a process have in common.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) namespace: Arc<str>,
    pub(crate) pulse: watch::Receiver<Pulse>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) closing: CancellationToken,
}

/// What happened to registrations since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Attempts that failed.
    pub(crate) failures: AtomicU64,
    /// Registrations that stood and were lost.
    pub(crate) losses: AtomicU64,
    /// Keys that were missing or changed, and were written again on the same lease.
    pub(crate) repairs: AtomicU64,
    /// Names that somebody else held.
    pub(crate) conflicts: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// One registration.
pub(crate) struct Machine {
    pub(crate) store: Store,
    pub(crate) instance: Instance,
    pub(crate) options: RegisterOptions,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) state: watch::Sender<RegState>,
    /// Own leases, latest last.
    leases: Vec<i64>,
    /// Keys that were named after an address which an update has changed.
    former: Vec<Bytes>,
    /// Whether it has ever stood.
    stood: bool,
    may_take_over: bool,
    /// How many returns of the store it has heard of.
    returns: u64,
    backoff: Backoff,
    rng: SmallRng,
}

/// Keys that stand.
struct Held {
    lease: i64,
    keep_alive: KeepAlive,
    eyes: Option<Eyes>,
}

/// Keys that were just written, or found standing.
struct Written {
    revision: i64,
    changed: bool,
    eyes: Eyes,
}

/// The watches on the own keys.
type Eyes = SelectAll<BoxStream<'static, Sight>>;

/// Why the machine stops.
enum End {
    Asked(oneshot::Sender<Result<()>>),
    Dropped,
    Refused,
}

/// Why a step did not succeed.
enum Failure {
    Store(StoreError),
    LeaseGone,
    Held(Holder),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.is_lease_not_found() {
            return Self::LeaseGone;
        }
        Self::Store(error)
    }
}

/// What the owner or the store did while the machine waited.
enum Woken {
    Time,
    Returned,
    Changed(oneshot::Sender<Result<()>>),
    End(End),
}

impl Machine {
    pub(crate) fn new(
        store: Store,
        instance: Instance,
        options: RegisterOptions,
        commands: mpsc::Receiver<Command>,
    ) -> (Self, watch::Receiver<RegState>) {
        let (state, states) = watch::channel(RegState::Registering {
            since: Instant::now(),
            attempt: 0,
            last_error: None,
        });
        let returns = store.pulse.borrow().returns;
        let machine = Self {
            returns,
            store,
            instance,
            may_take_over: options.on_conflict == OnConflict::Takeover,
            options,
            commands,
            state,
            leases: Vec::new(),
            former: Vec::new(),
            stood: false,
            backoff: Backoff::default(),
            rng: SmallRng::from_os_rng(),
        };
        (machine, states)
    }

    /// Registers, and registers again, until the owner is done.
    pub(crate) async fn run(mut self) {
        let end = loop {
            let held = match self.acquire().await {
                Ok(held) => held,
                Err(end) => break end,
            };
            if let Err(end) = self.hold(held).await {
                break end;
            }
        };
        let left = self.leave().await;
        // The one who asked may have stopped waiting.
        match end {
            End::Asked(answer) => drop(answer.send(left)),
            End::Dropped => {
                if let Err(error) = left {
                    debug!(%error, "a registration that was dropped lasts until its lease runs out");
                }
            }
            // The state that says so stays.
            End::Refused => return,
        }
        self.state.send_replace(RegState::Deregistered);
    }

    /// Tries until the keys stand.
    async fn acquire(&mut self) -> Result<Held, End> {
        let (since, mut attempt) = (Instant::now(), 0);
        self.backoff.reset();
        loop {
            let pause = match self.attempt().await {
                Ok(held) => return Ok(held),
                Err(Failure::Held(holder)) => {
                    if self.options.on_conflict == OnConflict::Fail && !self.stood {
                        self.show_conflict(Instant::now(), holder);
                        return Err(End::Refused);
                    }
                    self.wait_free(holder).await?;
                    continue;
                }
                Err(failure) => {
                    attempt += 1;
                    self.show_failure(since, attempt, failure);
                    self.backoff.pause(&mut self.rng)
                }
            };
            let mut until = Instant::now() + pause;
            loop {
                match self.wait(until).await {
                    Woken::Time => break,
                    Woken::Returned => {
                        self.backoff.reset();
                        until = Instant::now() + return_jitter(&mut self.rng);
                    }
                    // Written at the next attempt.
                    Woken::Changed(answer) => drop(answer.send(Ok(()))),
                    Woken::End(end) => return Err(end),
                }
            }
        }
    }

    /// Waits for a time, the owner, or the store's return.
    async fn wait(&mut self, until: Instant) -> Woken {
        tokio::select! {
            biased;
            command = self.commands.recv() => self.obey(command),
            () = self.store.closing.cancelled() => Woken::End(End::Dropped),
            () = returned(&mut self.store.pulse, &mut self.returns) => Woken::Returned,
            () = sleep_until(until) => Woken::Time,
        }
    }

    fn obey(&mut self, command: Option<Command>) -> Woken {
        match command {
            Some(Command::Update(instance, answer)) => {
                self.replace(*instance);
                Woken::Changed(answer)
            }
            Some(Command::Deregister(answer)) => Woken::End(End::Asked(answer)),
            None => Woken::End(End::Dropped),
        }
    }

    /// Takes what is to be written from now on. In one layout the address is a part of the key.
    fn replace(&mut self, instance: Instance) {
        let named = |instance: &Instance| -> Bytes {
            let key = Layout::GrpcNaming.key(&self.store.namespace, instance, 0);
            key.into()
        };
        let (was, is) = (named(&self.instance), named(&instance));
        if was != is && self.options.layouts.contains(&Layout::GrpcNaming) {
            self.former.retain(|key| *key != is);
            if self.former.len() == FORMER_MAX {
                self.former.remove(0);
            }
            self.former.push(was);
        }
        self.instance = instance;
    }

    /// A lease, the keys on it, and watches on the keys.
    async fn attempt(&mut self) -> Result<Held, Failure> {
        let ttl = i64::try_from(self.options.ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let granted = bounded(self.store.kv.lease_grant(request::grant(ttl))).await?;
        let lease = granted.id;
        if self.leases.len() == LEASES_KEPT {
            self.leases.remove(0);
        }
        self.leases.push(lease);
        let written = match self.write(lease).await {
            Ok(written) => written,
            Err(failure) => {
                // The lease holds nothing, or what may just be arriving; it is not waited for to run out.
                if let Err(error) = bounded(self.store.kv.lease_revoke(lease)).await {
                    debug!(lease, %error, "a lease of a failed attempt is left to run out");
                }
                return Err(failure);
            }
        };
        let secs = u64::try_from(granted.ttl).unwrap_or(0).max(1);
        let keep_alive = KeepAlive::start(self.store.kv.clone(), lease, Duration::from_secs(secs));
        self.show_standing(lease, written.revision);
        Ok(Held {
            lease,
            keep_alive,
            eyes: Some(written.eyes),
        })
    }

    /// Puts the keys on a lease, unless they stand as they should, and watches them from there on.
    async fn write(&mut self, lease: i64) -> Result<Written, Failure> {
        let claim = self.claim(lease);
        let mut answer = bounded(self.store.kv.txn(claim.write_new())).await?;
        let mut changed = answer.succeeded;
        for _ in 0..LOOKS_MAX {
            if answer.succeeded {
                break;
            }
            let seen = claim.seen(&answer);
            match claim.find(&seen, &self.leases) {
                Finding::Stands => {
                    answer.succeeded = true;
                    break;
                }
                Finding::Held(holder) if !self.may_take_over => return Err(Failure::Held(holder)),
                Finding::Held(_) | Finding::Differs => {}
            }
            answer = bounded(self.store.kv.txn(claim.write_over(&seen, &self.leases))).await?;
            changed = answer.succeeded;
        }
        if !answer.succeeded {
            return Err(Failure::Store(catena_client::Error::Lost(
                "the keys changed between every look and the write over it".to_owned(),
            )));
        }
        self.former.clear();
        let revision = answer.header.unwrap_or_default().revision;
        Ok(Written {
            revision,
            changed,
            eyes: self.watch(&claim, revision + 1).await?,
        })
    }

    async fn watch(&self, claim: &Claim, from: i64) -> Result<Eyes, Failure> {
        let mut eyes = Eyes::new();
        for key in claim.keys() {
            let watch = WatchCreateRequest {
                start_revision: from,
                ..request::watch(key.clone())
            };
            let watcher = bounded(self.store.kv.watch(watch)).await?;
            eyes.push(sight::follow(watcher));
        }
        Ok(eyes)
    }

    fn claim(&self, lease: i64) -> Claim {
        Claim::new(
            &self.store.namespace,
            &self.instance,
            &self.options.layouts,
            lease,
            &self.leases,
            &self.former,
        )
    }

    /// Keeps the keys standing until they are lost.
    async fn hold(&mut self, mut held: Held) -> Result<(), End> {
        self.stood = true;
        self.backoff.reset();
        // When the next look is due, and who waits for it.
        let mut due: Option<Instant> = None;
        let mut waiting: Vec<oneshot::Sender<Result<()>>> = Vec::new();
        loop {
            tokio::select! {
                biased;
                lost = held.keep_alive.lost() => {
                    self.lose(lost);
                    return Ok(());
                }
                seen = look(&mut held.eyes) => due = Some(match seen {
                    // Everybody's watches are interrupted at the same time.
                    Sight::Resumed => sooner(due, Instant::now() + return_jitter(&mut self.rng)),
                    Sight::Response(_) => Instant::now(),
                    Sight::Ended(error) => {
                        debug!(%error, "a watch on an own key ended");
                        held.eyes = None;
                        Instant::now()
                    }
                }),
                woken = self.wait(due.unwrap_or_else(far)) => match woken {
                    Woken::Returned => {
                        due = Some(sooner(due, Instant::now() + return_jitter(&mut self.rng)));
                    }
                    Woken::Changed(answer) => {
                        waiting.push(answer);
                        due = Some(Instant::now());
                    }
                    Woken::End(end) => return Err(end),
                    Woken::Time => {
                        let checked = self.check(&mut held).await;
                        if matches!(checked, Ok(true)) && waiting.is_empty() {
                            count(&self.store.counters.repairs);
                        }
                        let told = checked.as_ref().map_or_else(Failure::told, |_changed| Ok(()));
                        for answer in waiting.drain(..) {
                            drop(answer.send(told.clone()));
                        }
                        match checked {
                            Ok(_changed) => {
                                self.backoff.reset();
                                due = None;
                            }
                            Err(Failure::Store(error)) => {
                                debug!(%error, "own keys could not be looked at");
                                due = Some(Instant::now() + self.backoff.pause(&mut self.rng));
                            }
                            Err(Failure::LeaseGone) => {
                                self.lose(StoreError::LeaseLost(held.lease));
                                return Ok(());
                            }
                            Err(Failure::Held(holder)) => return self.lose_name(held, holder).await,
                        }
                    }
                },
            }
        }
    }

    /// Looks at lease and keys, and writes what is not as it should be; tells whether anything was.
    async fn check(&mut self, held: &mut Held) -> Result<bool, Failure> {
        let question = LeaseTimeToLiveRequest {
            id: held.lease,
            keys: false,
        };
        let left = bounded(self.store.kv.lease_time_to_live(question)).await?;
        if left.ttl <= 0 {
            return Err(Failure::LeaseGone);
        }
        // Whoever took the name while it was held here keeps it.
        let may_take_over = std::mem::replace(&mut self.may_take_over, false);
        let written = self.write(held.lease).await;
        self.may_take_over = may_take_over;
        let written = written?;
        held.eyes = Some(written.eyes);
        self.show_standing(held.lease, written.revision);
        Ok(written.changed)
    }

    /// The keys that are left are taken away, so that the instance is not half there; then the name is waited for.
    async fn lose_name(&mut self, held: Held, holder: Holder) -> Result<(), End> {
        count(&self.store.counters.losses);
        self.may_take_over = false;
        held.keep_alive.stop();
        if let Err(error) = bounded(self.store.kv.lease_revoke(held.lease)).await {
            debug!(%error, "a lease is left to run out");
        }
        self.wait_free(holder).await
    }

    fn lose(&self, error: StoreError) {
        count(&self.store.counters.losses);
        warn!(service = %self.instance.service, id = self.instance.id, %error, "registration lost");
        self.state.send_replace(RegState::Lost {
            since: Instant::now(),
            attempt: 0,
            last_error: Some(error.into()),
        });
    }

    /// Waits until nobody else holds the name.
    async fn wait_free(&mut self, holder: Holder) -> Result<(), End> {
        count(&self.store.counters.conflicts);
        self.show_conflict(Instant::now(), holder);
        let mut until = Instant::now() + CONFLICT_POLL;
        loop {
            match self.wait(until).await {
                Woken::Time | Woken::Returned => {}
                Woken::Changed(answer) => {
                    drop(answer.send(Ok(())));
                    continue;
                }
                Woken::End(end) => return Err(end),
            }
            let claim = self.claim(0);
            match self.look(&claim).await {
                Ok(seen) => match claim.find(&seen, &self.leases) {
                    Finding::Held(_) => {}
                    Finding::Stands | Finding::Differs => return Ok(()),
                },
                Err(error) => debug!(%error, "a name that is held could not be looked at"),
            }
            until = Instant::now() + CONFLICT_POLL;
        }
    }

    /// What stands under the keys of a claim. Not in one transaction: etcd before 3.5.5 ends when the caller of one that only reads
    /// gives it up.
    async fn look(&self, claim: &Claim) -> catena_client::Result<Seen> {
        let read = |key: &Bytes| self.store.kv.range(request::get(key.clone()));
        let answers = bounded(future::try_join_all(claim.keys().map(read))).await?;
        let first = |answer: &RangeResponse| answer.kvs.first().map(|kv| kv.view());
        Ok(answers.iter().map(first).collect())
    }

    /// Takes away what stands, as far as the store can be reached.
    async fn leave(&mut self) -> Result<()> {
        let Some(last) = self.leases.pop() else {
            return Ok(());
        };
        match bounded(self.store.kv.lease_revoke(last)).await {
            Err(error) if !error.is_lease_not_found() => Err(error.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn show_standing(&self, lease: i64, revision: i64) {
        if self.instance.status == Status::Draining {
            self.state.send_replace(RegState::Draining);
            return;
        }
        self.state.send_modify(|state| {
            let since = match state {
                RegState::Registered { lease: had, since, .. } if *had == lease => *since,
                _ => {
                    info!(service = %self.instance.service, id = self.instance.id, revision, "registered");
                    Instant::now()
                }
            };
            *state = RegState::Registered {
                lease,
                revision,
                since,
            };
        });
    }

    fn show_failure(&self, since: Instant, attempt: u64, failure: Failure) {
        count(&self.store.counters.failures);
        let last_error = failure.told().err();
        debug!(attempt, error = ?last_error, "not registered, trying again");
        let state = if self.stood {
            let lost = match &*self.state.borrow() {
                RegState::Lost { since, .. } => *since,
                _ => since,
            };
            RegState::Lost {
                since: lost,
                attempt,
                last_error,
            }
        } else {
            RegState::Registering {
                since,
                attempt,
                last_error,
            }
        };
        self.state.send_replace(state);
    }

    fn show_conflict(&self, since: Instant, holder: Holder) {
        warn!(key = holder.key, epoch = ?holder.epoch, "the name is held by another process");
        self.state.send_replace(RegState::Conflict {
            since,
            key: holder.key,
            holder_epoch: holder.epoch,
        });
    }
}

impl Failure {
    /// What the owner is told.
    fn told(&self) -> Result<()> {
        match self {
            Self::Store(error) => Err(Error::Store(error.clone())),
            // The registration comes back by itself, with what was to be written.
            Self::LeaseGone | Self::Held(_) => Ok(()),
        }
    }
}

/// A store's answer within the time of a step.
async fn bounded<T>(
    call: impl Future<Output = catena_client::Result<T>>,
) -> catena_client::Result<T> {
    timeout(STEP_WITHIN, call)
        .await
        .unwrap_or(Err(StoreError::Deadline))
}

/// The next that happens to an own key; never, if none is watched.
async fn look(eyes: &mut Option<Eyes>) -> Sight {
    let Some(eyes) = eyes else {
        return std::future::pending().await;
    };
    loop {
        match eyes.next().await {
            // Marks of progress tell nothing of the key.
            Some(Sight::Response(response)) if response.is_progress() => {}
            Some(sight) => return sight,
            None => return Sight::Ended(StoreError::Closed),
        }
    }
}

/// The sooner of two times.
fn sooner(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}

/// A time that does not come.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
