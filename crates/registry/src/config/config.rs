//! The configuration of a process: its sources, what they come to, and who wants to know.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::{info, warn};

use super::{
    ConfigOptions, Error, Invalid, LayerValue, Outcome, Result, StoreOptions, Watched,
    apply::{Applier, News, Report, Snapshot, Source},
    files,
    held::Mark,
    last_good::{self, Keeper, LastGood},
    layer::Document,
    listener::FAREWELL,
    seal::Opener,
    start::{Start, file_layers, local_documents},
    typed, watched,
};

/// Changes on their way to be applied. Each can hold every document, and sources wait while they are full.
const NEWS_MAX: usize = 4;

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StoreState {
    /// There is none among the sources.
    #[default]
    None,
    /// It is followed.
    Followed,
    /// It cannot be read; what it said last holds.
    Stale(Error),
}

/// How a configuration is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// How the store is.
    pub store: StoreState,
    /// What became of each document.
    pub report: Report,
}

/// What a process is configured to do, and its changes. Clones are the same configuration; it ends with the last of them, or with
/// [`close`](Self::close).
#[derive(Clone)]
pub struct Config {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    tasks: Mutex<JoinSet<()>>,
    /// Apart from the other tasks, for it leaves with a word.
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
    closing: CancellationToken,
    /// Keeps the last good configuration.
    keeper: Option<Arc<Keeper>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.state.lock().applier.close();
    }
}

/// What the tasks share with the handles.
struct Shared {
    /// Never held across an observer's call.
    state: Mutex<State>,
    current: Arc<ArcSwap<Snapshot>>,
    /// Somebody else than the task that applies changes has something for it to tell.
    untold: Notify,
    status: watch::Sender<Status>,
    proved: watch::Sender<LastGood>,
}

struct State {
    applier: Applier,
    mark: Mark,
    /// The order of the last good configuration that was given out last.
    order: u64,
}

impl State {
    /// What holds, as the last good configuration, once it is proved.
    fn last_good(&mut self) -> Option<LastGood> {
        let documents = self.applier.proved()?;
        self.order += 1;
        Some(LastGood {
            order: self.order,
            mark: self.mark,
            documents,
        })
    }
}

impl Config {
    /// Reads all sources, and follows them from then on. Must be called within a tokio runtime.
    ///
    /// A store that does not answer is waited for; then what it said in the last run holds, if that is on disk.
    pub async fn open(options: ConfigOptions) -> Result<Self> {
        let documents = local_documents(&options).await?;
        let mut tasks = JoinSet::new();
        let (sender, news) = mpsc::channel(NEWS_MAX);
        let stored = match &options.store {
            Some(store) => Start::of(store, &sender, &mut tasks, news).await?,
            None => Start::without_store(news),
        };
        let (shared, news) = Shared::start(documents, stored, &options)?;
        for (layer, path) in file_layers(&options.files)? {
            tasks.spawn(files::follow(layer, path, sender.clone()));
        }
        let store = options.store.as_ref();
        let path = store.and_then(|store| store.last_good.clone());
        let keeper = path.map(|path| Arc::new(Keeper::new(path)));
        if let Some(keeper) = keeper.clone() {
            tasks.spawn(last_good::keep(keeper, shared.proved.subscribe()));
        }
        let closing = CancellationToken::new();
        let listen = |store: &StoreOptions| -> Result<_> {
            let listener = store.listener(closing.clone())?;
            let telling = tokio::spawn(listener.run(shared.status.subscribe()));
            Ok(AbortOnDropHandle::new(telling))
        };
        let listener = store.filter(|store| store.is_listed);
        let listener = listener.map(listen).transpose()?;
        tasks.spawn(shared.clone().run(news));
        let inner = Inner {
            shared,
            tasks: Mutex::new(tasks),
            listener: Mutex::new(listener),
            closing,
            keeper,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What stands at a path now.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        typed::get(&self.inner.shared.current.load().tree, path)
    }

    /// What stands at a path now and from now on. A change that is no `T` is not applied.
    pub fn watch<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        path: &str,
    ) -> Result<Watched<T>> {
        self.watch_checked(path, |_: &T| Ok(()))
    }

    /// The same, where a change that `check` refuses is not applied either. It must be quick, and the same every time.
    pub fn watch_checked<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        path: &str,
        check: impl Fn(&T) -> Result<(), Invalid> + Send + Sync + 'static,
    ) -> Result<Watched<T>> {
        let check = Arc::new(check);
        let open = |tree: &Value| {
            let check = check.clone();
            watched::open(path, tree, Box::new(move |value: &T| check(value)))
        };
        let opened = self.inner.shared.state.lock().applier.watch(open);
        self.inner.shared.untold.notify_one();
        self.inner.shared.publish_report();
        opened
    }

    /// What each layer says at a path, weakest first; the last that says anything holds, unless placeholders lead elsewhere. What is
    /// sealed is masked.
    pub fn explain(&self, path: &str) -> Vec<LayerValue> {
        self.inner.shared.current.load().documents.explain(path)
    }

    /// Says that this process works: everything that it watches is registered, so what holds now may be kept as the last good
    /// configuration. A change that somebody watches says the same when it is applied.
    pub fn confirm(&self) {
        let mut state = self.inner.shared.state.lock();
        state.applier.confirm();
        self.inner.shared.publish_proved(&mut state);
    }

    /// How the configuration is, and its changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// Stops following; what holds goes on holding, and is kept. Those who wait for changes get [`Error::Closed`].
    pub async fn close(&self) -> Result<()> {
        self.inner.closing.cancel();
        let listener = self.inner.listener.lock().take();
        if let Some(listener) = listener {
            // A store that is away cannot be told; the lease tells it later.
            let _in_time = timeout(2 * FAREWELL, listener).await;
        }
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        tasks.shutdown().await;
        let last_good = {
            let mut state = self.inner.shared.state.lock();
            state.applier.close();
            state.last_good()
        };
        match (self.inner.keeper.clone(), last_good) {
            (Some(keeper), Some(last_good)) => {
                let saved = spawn_blocking(move || keeper.save(&last_good)).await;
                saved.map_err(|_stopping| Error::Closed)?
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").finish_non_exhaustive()
    }
}

impl Shared {
    /// Begins with what all sources say; gives what comes from them later too.
    fn start(
        mut documents: Vec<Document>,
        stored: Start,
        options: &ConfigOptions,
    ) -> Result<(Arc<Self>, mpsc::Receiver<News>)> {
        documents.extend(stored.documents);
        let last_good = Some(stored.last_good.documents).filter(|known| !known.is_empty());
        let store = options.store.as_ref();
        let nothing = store.is_some_and(|store| store.begins_without);
        let fallbacks = last_good.into_iter().chain(nothing.then(Vec::new));
        let opener = Opener {
            keys: options.keys.clone(),
            ns: store.map(|store| store.ns.clone()).unwrap_or_default(),
        };
        let restart = options.restart.clone();
        let applier = Applier::start(documents, fallbacks.collect(), restart, opener)?;
        let report = applier.report();
        let mut rejected = report.clone();
        rejected.retain(|_, state| matches!(state.outcome, Outcome::Rejected(_)));
        log_changes(&Report::new(), &rejected);
        let (status, _) = watch::channel(Status {
            store: stored.state,
            report,
        });
        let shared = Self {
            current: applier.current(),
            state: Mutex::new(State {
                applier,
                mark: stored.mark,
                order: 0,
            }),
            untold: Notify::new(),
            status,
            proved: watch::channel(LastGood::default()).0,
        };
        Ok((Arc::new(shared), stored.news))
    }

    /// Applies changes in the order in which they come, and tells of each before the next.
    async fn run(self: Arc<Self>, mut news: mpsc::Receiver<News>) {
        loop {
            tokio::select! {
                biased;
                () = self.untold.notified() => {}
                next = news.recv() => match next {
                    Some(News::Said(source, documents, mark)) => self.apply(source, documents, mark),
                    Some(News::Silent(source, error)) => self.note_silence(source, error),
                    None => return,
                },
            }
            let untold = self.state.lock().applier.take_untold();
            for tell in untold {
                tell();
            }
        }
    }

    fn apply(&self, source: Source, documents: Vec<Document>, mark: Mark) {
        let mut state = self.state.lock();
        if source == Source::Store {
            state.mark = mark;
        }
        if state.applier.apply(source, documents) {
            self.publish_proved(&mut state);
        }
        let report = state.applier.report();
        drop(state);
        self.status.send_if_modified(|status| {
            log_changes(&status.report, &report);
            let followed = source == Source::Store && status.store != StoreState::Followed;
            if followed {
                info!("the configuration follows the store");
                status.store = StoreState::Followed;
            }
            let changed = status.report != report;
            status.report = report;
            changed || followed
        });
    }

    fn note_silence(&self, source: Source, error: Error) {
        match source {
            Source::Store => {
                self.status.send_if_modified(|status| {
                    let first = !matches!(status.store, StoreState::Stale(_));
                    if first {
                        warn!(%error, "the store is away, the configuration that it gave last holds");
                        status.store = StoreState::Stale(error);
                    }
                    first
                });
            }
            Source::Layer(_) => {
                warn!(%error, "a file of the configuration cannot be read, what it said last holds")
            }
        }
    }

    fn publish_report(&self) {
        let report = self.state.lock().applier.report();
        self.status.send_if_modified(|status| {
            log_changes(&status.report, &report);
            let changed = status.report != report;
            status.report = report;
            changed
        });
    }

    fn publish_proved(&self, state: &mut State) {
        if let Some(last_good) = state.last_good() {
            self.proved.send_replace(last_good);
        }
    }
}

/// One line for each document whose state is another than before: what it is called and which version, never what it says.
fn log_changes(before: &Report, now: &Report) {
    for ((layer, name), state) in now {
        if before.get(&(*layer, name.clone())) == Some(state) {
            continue;
        }
        let version = state.version;
        match &state.outcome {
            Outcome::Applied => info!(%layer, document = %name, version, "configuration applied"),
            Outcome::RestartRequired => {
                warn!(%layer, document = %name, version, "configuration changed what is read at the start only");
            }
            Outcome::Rejected(error) => {
                warn!(%layer, document = %name, version, %error, "configuration rejected, the one before holds");
            }
        }
    }
}
