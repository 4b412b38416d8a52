//! One service's feed: the task that reads and watches the store for all who ask in this process.
//!
//! The store is read at one revision, in one transaction over all areas, and watched from the next revision on. What the watches
//! deliver is gathered for some milliseconds and shown as one. The feed knows of each area up to which revision it has seen
//! everything (*mark*); a watch that ends goes on from there.
//!
//! That the store is still the one whose history was followed cannot be seen from a watch: after a restore the numbers of revisions
//! begin anew, and soon mean something else. So when a watch was interrupted, when the store answers again after it did not, and every
//! minute, the feed *compares*: it asks what the store held at the marks. If that is what the feed knows, history goes on; if it is anything else, the store has lost
//! what it knew, and is read anew ([`History::Lost`]). The watches' events between are kept back meanwhile, so a comparison is exact.
//!
//! Known imperfection: etcd before 3.5.8 may send a mark of progress ahead of events. Then a comparison fails although nothing was lost,
//! and an instance that was just deleted stays for [`RegistryOptions::keep_last`](crate::RegistryOptions), marked stale.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catena_client::{
    Error, Kv, WatchResponse,
    pb::{KeyValueView, RangeRequest, RangeResponse, WatchCreateRequest},
    request,
};
use futures_util::{
    StreamExt, future,
    stream::{BoxStream, SelectAll},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Cold, Snapshot,
    table::{History, Table},
};
use crate::{
    ServiceName,
    backoff::Backoff,
    layout::Area,
    pulse::{Pulse, returned},
    sight::{self, Sight},
};

/// A reading, or the opening of a watch, is given up after this time.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The first attempt of all is decided sooner: those who ask at start are waiting.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Events are gathered until none has come for this time…
const QUIET: Duration = Duration::from_millis(10);

/// …but no longer than this after the first.
const GATHER_MAX: Duration = Duration::from_millis(50);

/// What is known is compared with the store this often, give or take a quarter.
const COMPARE_EVERY: Duration = Duration::from_secs(60);

/// What those who ask see of a feed.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Whether the first attempt to read the store is decided, either way.
    pub(crate) decided: bool,
}

/// The feed of one service.
pub(crate) struct Feed {
    kv: Arc<dyn Kv>,
    service: ServiceName,
    table: Table,
    views: watch::Sender<View>,
    pulse: watch::Receiver<Pulse>,
    /// How many returns of the store it has heard of.
    returns: u64,
    cold: Option<Arc<Cold>>,
    cluster_id: u64,
    /// Up to which revision everything has been seen, for each area.
    marks: BTreeMap<Area, i64>,
    synced: bool,
    backoff: Backoff,
    rng: SmallRng,
}

/// The watches on all areas.
type Watches = SelectAll<BoxStream<'static, (Area, Sight)>>;

/// What a comparison with the store says.
enum Compared {
    /// The store's history is the one that was followed.
    Agrees,
    /// The store has to be read anew.
    Differs(History),
    /// The store did not say.
    Unknown,
}

impl Feed {
    pub(crate) fn new(
        kv: Arc<dyn Kv>,
        namespace: &str,
        service: ServiceName,
        keep_last: Duration,
        pulse: watch::Receiver<Pulse>,
        cold: Option<Arc<Cold>>,
    ) -> (Self, watch::Receiver<View>) {
        let returns = pulse.borrow().returns;
        let (views, shown) = watch::channel(View {
            snapshot: Arc::new(Snapshot::unknown()),
            decided: false,
        });
        let feed = Self {
            kv,
            table: Table::new(namespace, service.clone(), keep_last),
            service,
            views,
            returns,
            pulse,
            cold,
            cluster_id: 0,
            marks: BTreeMap::new(),
            synced: false,
            backoff: Backoff::default(),
            rng: SmallRng::from_os_rng(),
        };
        (feed, shown)
    }

    /// Follows the service for ever.
    pub(crate) async fn run(mut self) {
        let mut history = History::Same;
        loop {
            self.read(history).await;
            history = self.follow().await;
        }
    }

    /// Reads everything, as often as it takes.
    async fn read(&mut self, history: History) {
        loop {
            let within = if self.synced {
                ANSWER_WITHIN
            } else {
                FIRST_ANSWER_WITHIN
            };
            let ranges = self.ranges(|range, _| range);
            match self.areas(ranges, within).await {
                Ok(reading) => {
                    let lost = self.cluster_id != 0 && reading.cluster_id != self.cluster_id;
                    let history = if lost { History::Lost } else { history };
                    if history == History::Lost {
                        warn!(service = %self.service, "the store has lost what it knew; instances are kept");
                    }
                    self.cluster_id = reading.cluster_id;
                    self.table.load(reading.areas, history, Instant::now());
                    self.marks = Area::ALL.map(|area| (area, reading.revision)).into();
                    self.synced = true;
                    self.backoff.reset();
                    return self.show();
                }
                // Between two of the ranges: the next reading is at a newer revision.
                Err(error) if error.is_compacted() => {}
                Err(error) => {
                    debug!(service = %self.service, %error, "the store cannot be read");
                    self.pause().await;
                }
            }
        }
    }

    /// Rests after a failure, at most until the store is back.
    async fn pause(&mut self) {
        if self.synced {
            self.table.expire(Instant::now());
            self.show();
        } else {
            self.show_recalled();
        }
        let pause = self.backoff.pause(&mut self.rng);
        tokio::select! {
            () = sleep(pause) => {}
            () = returned(&mut self.pulse, &mut self.returns) => {}
        }
    }

    /// Watches until the store has to be read anew.
    async fn follow(&mut self) -> History {
        loop {
            let mut watches = match self.watch().await {
                Ok(watches) => watches,
                Err(error) if error.is_compacted() => return History::Same,
                Err(error) => {
                    debug!(service = %self.service, %error, "the store cannot be watched");
                    self.pause().await;
                    continue;
                }
            };
            match self.deliver(&mut watches).await {
                Ended::Anew(history) => return history,
                Ended::Again(error) => {
                    debug!(service = %self.service, %error, "a watch ended, and goes on");
                    self.pause().await;
                }
            }
        }
    }

    /// Delivers what the watches bring.
    async fn deliver(&mut self, watches: &mut Watches) -> Ended {
        let mut gathering: Option<Gathering> = None;
        // Between the reading and the opening of the watches the store may have been restored as well, and no watch could tell.
        let mut compare_at = Instant::now();
        loop {
            let show_at = gathering.map_or_else(far, |gathering| gathering.until());
            let expiry = self.table.next_expiry().unwrap_or_else(far);
            tokio::select! {
                next = watches.next() => match next {
                    Some((area, Sight::Response(response))) => {
                        self.backoff.reset();
                        if self.take(area, &response) {
                            let now = Instant::now();
                            gathering = Some(gathering.map_or_else(|| Gathering::begin(now), |had| had.more(now)));
                        }
                    }
                    Some((_, Sight::Resumed)) => compare_at = Instant::now(),
                    Some((_, Sight::Ended(Error::Compacted { .. }))) => return Ended::Anew(History::Same),
                    Some((_, Sight::Ended(Error::OtherCluster { .. }))) => return Ended::Anew(History::Lost),
                    Some((_, Sight::Ended(error))) => return Ended::Again(error),
                    None => return Ended::Again(Error::Closed),
                },
                () = sleep_until(show_at) => {
                    gathering = None;
                    self.show();
                }
                changed = self.pulse.changed() => {
                    if changed.is_err() {
                        // The registry is closing, and this task with it.
                        return std::future::pending().await;
                    }
                    let pulse = *self.pulse.borrow_and_update();
                    self.show();
                    if pulse.returns != self.returns {
                        self.returns = pulse.returns;
                        compare_at = Instant::now();
                    }
                }
                () = sleep_until(compare_at) => compare_at = match self.compare().await {
                    Compared::Agrees => self.next_comparison(),
                    Compared::Differs(history) => return Ended::Anew(history),
                    Compared::Unknown => Instant::now() + self.backoff.pause(&mut self.rng),
                },
                () = sleep_until(expiry) => {
                    if self.table.expire(Instant::now()) {
                        self.show();
                    }
                }
            }
        }
    }

    /// Takes a response of a watch; tells whether it changed anything.
    fn take(&mut self, area: Area, response: &WatchResponse) -> bool {
        for event in &response.events {
            self.table.apply(area, event);
        }
        let last = response.events.last().and_then(|event| event.kv());
        let seen = last.map_or(response.header.revision, |kv| kv.view().mod_revision);
        let mark = self.marks.entry(area).or_default();
        *mark = seen.max(*mark);
        !response.events.is_empty()
    }

    /// Asks whether the store's history is the one that was followed.
    async fn compare(&self) -> Compared {
        let marks = self.marks.clone();
        let ranges = self.ranges(|range, area| RangeRequest {
            keys_only: true,
            revision: marks.get(&area).copied().unwrap_or_default(),
            ..range
        });
        let then = match self.areas(ranges, ANSWER_WITHIN).await {
            Ok(then) => then,
            Err(error) if error.is_future_revision() => return Compared::Differs(History::Lost),
            Err(error) if error.is_compacted() => return Compared::Differs(History::Same),
            Err(error) => {
                debug!(service = %self.service, %error, "the store cannot be compared");
                return Compared::Unknown;
            }
        };
        let agrees = |(area, kvs): &(Area, Vec<KeyValueView>)| self.table.agrees(*area, kvs);
        if then.cluster_id == self.cluster_id && then.areas.iter().all(agrees) {
            return Compared::Agrees;
        }
        info!(service = %self.service, "the store's history is another");
        Compared::Differs(History::Lost)
    }

    /// Opens the watches behind the marks.
    async fn watch(&self) -> Result<Watches, Error> {
        let mut watches = Watches::new();
        for area in Area::ALL {
            let prefix = self.table.prefix(area).to_owned();
            let range = match area {
                Area::Settings => request::watch(prefix),
                Area::Native | Area::Kratos | Area::Root | Area::Article | Area::Overrides => {
                    request::watch_prefix(prefix)
                }
            };
            let mark = self.marks.get(&area).copied().unwrap_or_default();
            let watch = self.kv.watch(WatchCreateRequest {
                start_revision: mark + 1,
                progress_notify: true,
                ..range
            });
            let watcher = timeout(ANSWER_WITHIN, watch)
                .await
                .unwrap_or(Err(Error::Deadline))?;
            let seen = sight::follow(watcher);
            watches.push(seen.map(move |sight| (area, sight)).boxed());
        }
        Ok(watches)
    }

    /// A range over each area, each made into what is asked.
    fn ranges(&self, shape: impl Fn(RangeRequest, Area) -> RangeRequest) -> Ranges {
        let range = |area: Area| {
            let prefix = self.table.prefix(area).to_owned();
            let range = match area {
                Area::Settings => request::get(prefix),
                Area::Native | Area::Kratos | Area::Root | Area::Article | Area::Overrides => {
                    request::get_prefix(prefix)
                }
            };
            shape(range, area)
        };
        Area::ALL.map(range)
    }

    /// Reads a range of each area: those without a revision all at the one that the first is answered at.
    ///
    /// Not in one transaction: etcd before 3.5.5 ends when the caller of one that only reads gives it up.
    async fn areas(&self, ranges: Ranges, within: Duration) -> Result<Reading, Error> {
        let [first, others @ ..] = ranges;
        let read = async {
            let first = self.kv.range(first).await?;
            let revision = first.header.unwrap_or_default().revision;
            let others = others.map(|range| {
                self.kv.range(RangeRequest {
                    revision: match range.revision {
                        0 => revision,
                        asked => asked,
                    },
                    ..range
                })
            });
            Ok((first, future::try_join_all(others).await?))
        };
        let read = timeout(within, read).await;
        let (first, others) = read.unwrap_or(Err(Error::Deadline))?;
        let header = first.header.unwrap_or_default();
        let kvs = |range: RangeResponse| range.kvs.iter().map(|kv| kv.view()).collect();
        let answers = [first].into_iter().chain(others).map(kvs);
        Ok(Reading {
            revision: header.revision,
            cluster_id: header.cluster_id,
            areas: Area::ALL.into_iter().zip(answers).collect(),
        })
    }

    /// Shows what is known, to those who follow if it differs from what they were shown.
    fn show(&mut self) {
        let snapshot = Snapshot {
            revision: self.marks.values().copied().max().unwrap_or_default(),
            instances: self.table.instances(),
            settings: self.table.settings(),
            synced: true,
            stale: !self.pulse.borrow().up || self.table.is_keeping(),
            skipped: self.table.skipped(),
        };
        self.replace(snapshot);
    }

    /// Shows what was known last time, while the store has never been read.
    fn show_recalled(&mut self) {
        if let Some((instances, settings)) = self
            .cold
            .as_ref()
            .and_then(|cold| cold.recall(&self.service))
        {
            self.table.remember(instances, settings);
        }
        let (instances, settings) = self.table.given();
        self.replace(Snapshot {
            instances,
            settings,
            ..Snapshot::unknown()
        });
    }

    fn replace(&self, snapshot: Snapshot) {
        let news = {
            let view = self.views.borrow();
            let had = &view.snapshot;
            let same = Arc::ptr_eq(&had.instances, &snapshot.instances)
                && had.settings == snapshot.settings
                && (had.synced, had.stale, had.skipped)
                    == (snapshot.synced, snapshot.stale, snapshot.skipped);
            !same || !view.decided
        };
        // Noted first: whoever saw it may close the registry and rely on the file.
        if let Some(cold) = &self.cold
            && news
            && snapshot.synced
        {
            cold.note(&self.service, &snapshot);
        }
        self.views.send_if_modified(|view| {
            *view = View {
                snapshot: Arc::new(snapshot),
                decided: true,
            };
            news
        });
    }

    fn next_comparison(&mut self) -> Instant {
        Instant::now() + COMPARE_EVERY.mul_f64(self.rng.random_range(0.75..1.25))
    }
}

/// A range for each area.
type Ranges = [RangeRequest; Area::ALL.len()];

/// What was read of all areas.
struct Reading {
    revision: i64,
    cluster_id: u64,
    areas: Vec<(Area, Vec<KeyValueView>)>,
}

/// Why delivering ended.
enum Ended {
    /// The store has to be read anew.
    Anew(History),
    /// The watches have to be opened again.
    Again(Error),
}

/// Events that are gathered.
#[derive(Clone, Copy, Debug)]
struct Gathering {
    first: Instant,
    last: Instant,
}

impl Gathering {
    fn begin(now: Instant) -> Self {
        Self {
            first: now,
            last: now,
        }
    }

    fn more(self, now: Instant) -> Self {
        Self { last: now, ..self }
    }

    /// When they are shown.
    fn until(self) -> Instant {
        (self.last + QUIET).min(self.first + GATHER_MAX)
    }
}

/// A time that does not come.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
