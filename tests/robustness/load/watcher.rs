//! Watchers: witnesses of everything, one a member, and others that see a part and come back at random.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use catena_api::{Event, etcd::etcdserverpb as pb};
use framework::{
    WatchStream,
    history::{Change, ChangeKind, Pair, Scope, Watch, WatchArgs, WatchEvent},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use super::{client::Desk, seats::Seat};

/// A watcher whose stream broke comes back after so long.
const REST: Duration = Duration::from_millis(100);
/// A watcher asks again for progress after so long without a response.
const QUIET: Duration = Duration::from_millis(250);
/// A watcher that is no witness leaves after between one and so many milliseconds, and comes back.
const STAYS_MS_MAX: u64 = 6000;

/// What a watcher wants when it resumes its watch. If it is no witness, it asks for something else every other time.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// The key, the interval, the filters. A witness wants everything.
    pub(crate) args: WatchArgs,
    /// The member it stays with; none: any, another each time.
    pub(crate) witness_of: Option<Arc<Seat>>,
    /// What it draws its chances from.
    pub(crate) seed: u64,
}

/// How far a watcher is, seen from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    seen: Arc<AtomicI64>,
    /// Up to which revision it has to see; 0 while nobody knows.
    until: Arc<AtomicI64>,
    ended: Arc<AtomicBool>,
}

impl Progress {
    /// Up to which revision everything has arrived.
    pub(crate) fn seen(&self) -> i64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Tells the watcher to end once it has everything up to `revision`.
    pub(crate) fn end_at(&self, revision: i64) {
        self.until.store(revision, Ordering::Release);
    }

    /// Whether the watcher has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn until(&self) -> Option<i64> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then_some(until)
    }

    fn is_ending(&self) -> bool {
        self.until().is_some()
    }

    fn saw(&self, revision: i64) {
        self.seen.fetch_max(revision, Ordering::AcqRel);
    }

    fn is_complete(&self) -> bool {
        self.until().is_some_and(|until| self.seen() >= until)
    }
}

/// Watches until it is told where to end and has everything up to there.
pub(crate) async fn watcher(desk: Desk, wish: Wish, progress: Progress) {
    let mut random = StdRng::seed_from_u64(wish.seed);
    let mut next = wish.args.start_revision;
    while !progress.is_complete() {
        let seat = match &wish.witness_of {
            Some(seat) if seat.is_gone() => break,
            Some(seat) => seat.clone(),
            None => desk.seats.at(random.random_range(0..60)),
        };
        let mut args = WatchArgs {
            start_revision: next,
            ..wish.args.clone()
        };
        let resumes = wish.witness_of.is_some() || progress.is_ending() || random.random_bool(0.5);
        if !resumes {
            args = desk.mix.lock().watch();
        }
        let visit = Visit {
            resumes,
            witness: wish.witness_of.is_some(),
            ..Visit::new(&desk, &seat, &progress)
        };
        let stays = match wish.witness_of {
            Some(_) => Duration::MAX,
            None => Duration::from_millis(random.random_range(1..STAYS_MS_MAX)),
        };
        let comes_back_at = visit.stay(args, stays).await;
        if resumes {
            next = comes_back_at;
        }
        sleep(REST).await;
    }
    progress.ended.store(true, Ordering::Release);
}

/// One watch on one stream.
struct Visit<'a> {
    desk: &'a Desk,
    seat: &'a Seat,
    progress: &'a Progress,
    /// Whether it goes on with what an earlier visit has seen.
    resumes: bool,
    witness: bool,
    stream: u64,
    watch: u64,
    next: i64,
}

impl<'a> Visit<'a> {
    fn new(desk: &'a Desk, seat: &'a Seat, progress: &'a Progress) -> Self {
        Self {
            desk,
            seat,
            progress,
            resumes: true,
            witness: false,
            stream: desk.recorder.new_client(),
            watch: desk.recorder.new_watch(),
            next: 0,
        }
    }

    fn record(&self, event: WatchEvent) {
        self.desk.recorder.watch(Watch {
            client: self.stream,
            watch: self.watch,
            endpoint: self.seat.endpoint.clone(),
            ns: self.desk.seats.now_ns(),
            event,
        });
    }

    /// Watches until the stream ends, the time is over or everything is there; gives the revision to come back at.
    async fn stay(mut self, args: WatchArgs, stays: Duration) -> i64 {
        self.next = args.start_revision;
        let request = pb::WatchCreateRequest::from(&args);
        self.record(WatchEvent::Create { args });
        let until = Instant::now().checked_add(stays);
        let error = match self.follow(request, until).await {
            Ok(()) => String::new(),
            Err(error) => format!("{error:#}"),
        };
        self.record(WatchEvent::Closed { error });
        self.next
    }

    async fn follow(
        &mut self,
        request: pb::WatchCreateRequest,
        until: Option<Instant>,
    ) -> Result<()> {
        use pb::watch_request::RequestUnion;
        let mut stream = WatchStream::open(&self.seat.client);
        stream.send(RequestUnion::CreateRequest(request)).await?;
        let mut created = false;
        loop {
            let leaves = until.is_some_and(|until| Instant::now() >= until);
            let ending = self.progress.is_ending();
            // At the end, whoever resumes stays until the last event or bookmark. The others may have asked for the far future.
            let goes = if ending { !self.resumes } else { leaves };
            if goes || self.progress.is_complete() {
                return Ok(());
            }
            let Ok(response) = timeout(QUIET, stream.raw()).await else {
                if created && ending {
                    stream.progress().await?;
                }
                if self.seat.is_gone() {
                    return Ok(());
                }
                continue;
            };
            let Some(response) = response? else {
                anyhow::bail!("the stream ended");
            };
            let mut response = response?;
            created |= response.created;
            if let Some(until) = self.progress.until()
                && is_beyond(&mut response, until)
            {
                // Everything before was sent before.
                self.saw(until);
                continue;
            }
            if self.take(&response) {
                return Ok(());
            }
        }
    }

    /// Records a response; says whether the watch is over.
    fn take(&mut self, response: &pb::WatchResponse) -> bool {
        let header = response.header.unwrap_or_default();
        if response.canceled {
            self.record(WatchEvent::Canceled {
                compact_revision: response.compact_revision,
                reason: response.cancel_reason.clone(),
            });
            // What was compacted cannot be had any more: the watch goes on behind it.
            self.next = self.next.max(response.compact_revision);
            return true;
        }
        if response.created {
            self.record(WatchEvent::Created {
                revision: header.revision,
                member: header.member_id,
            });
            if self.next == 0 {
                self.next = header.revision + 1;
            }
            return false;
        }
        if response.events.is_empty() {
            let scope = if response.watch_id == -1 {
                Scope::Stream
            } else {
                Scope::Watch
            };
            let revision = header.revision;
            self.record(WatchEvent::Progress { revision, scope });
            self.saw(revision);
            return false;
        }
        self.record(WatchEvent::Batch {
            revision: header.revision,
            fragment: response.fragment,
            events: response.events.iter().map(change).collect(),
        });
        let last = response.events.last().and_then(Event::kv);
        if let Some(kv) = last.filter(|_| !response.fragment) {
            self.saw(kv.view().mod_revision);
        }
        false
    }

    fn saw(&mut self, revision: i64) {
        self.next = self.next.max(revision + 1);
        if self.resumes {
            self.progress.saw(revision);
        }
        if self.witness {
            self.desk.seats.witness(revision);
        }
    }
}

/// Takes out what happened after `until`, where the history ends: a lease may end with its keys while watchers are told to. Says
/// whether nothing is left of the response.
fn is_beyond(response: &mut pb::WatchResponse, until: i64) -> bool {
    if response.created || response.canceled {
        return false;
    }
    let header = response.header.unwrap_or_default();
    let is_progress = response.events.is_empty();
    let revision = |event: &Event| event.kv().map_or(0, |kv| kv.view().mod_revision);
    response.events.retain(|event| revision(event) <= until);
    match is_progress {
        true => header.revision > until,
        false => response.events.is_empty(),
    }
}

fn change(event: &Event) -> Change {
    let kind = match event.kind() {
        catena_api::EventType::Put => ChangeKind::Put,
        catena_api::EventType::Delete => ChangeKind::Delete,
    };
    Change {
        kind,
        kv: event.kv().map(|kv| Pair::from(&kv)).unwrap_or_default(),
        prev: event.prev_kv().map(|kv| Pair::from(&kv)),
    }
}
