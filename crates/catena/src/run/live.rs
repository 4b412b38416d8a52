//! What a running process is told by documents in the store: it follows those of the applications `user` and `gateway`, whichever it
//! runs, and those of `_shared`.
//!
//! ```text
//! defaults, file  <  documents  <  CATENA_… variables  <  flags
//! ```
//!
//! [`keys::FOLLOWED`] may stand in them. All of these act from the next request on, but for `user.ttl`, which is read when the instance
//! registers: a later change is reported as waiting for a restart. What a process needs before it knows the store, such as addresses,
//! is refused in a document, since nobody would read it there.
//!
//! Nothing waits for the store here: until it answers, and where its documents are refused, what the process was started with holds.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use catena_middleware::{Limits, admit::body::BodyLimits};
use catena_registry::config::{Config, ConfigOptions, Error, Invalid, StoreOptions, Watched};
use catena_telemetry::log::LevelControl;
use parking_lot::Mutex;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, Unexpected},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Level;

use super::{
    keys,
    process::Process,
    settings::{Layers, Service},
};
use crate::config::syntax;

/// How long one attempt waits for the store; there is always another.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The pause before documents that were refused at the start are read again.
const PAUSE: Duration = Duration::from_secs(2);

/// What documents may say.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Told {
    #[serde(deserialize_with = "level")]
    pub(super) log_level: Level,
    pub(super) user: UserTold,
    pub(super) gateway: GatewayTold,
}

/// What they may say of the user service, and what they may not.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct UserTold {
    #[serde(deserialize_with = "ttl")]
    pub(super) ttl: Duration,
    #[serde(deserialize_with = "time")]
    pub(super) call_timeout: Duration,
    listen: Option<IgnoredAny>,
    advertise: Option<IgnoredAny>,
    id: Option<IgnoredAny>,
    database: Option<IgnoredAny>,
    age_min: Option<IgnoredAny>,
}

/// The same of the gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct GatewayTold {
    body_bytes_max: u64,
    #[serde(deserialize_with = "time")]
    body_idle: Duration,
    #[serde(deserialize_with = "time")]
    request_timeout: Duration,
    listen: Option<IgnoredAny>,
}

impl UserTold {
    /// Over HTTP it serves operations only, whose bodies nobody wants to be otherwise.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            body: BodyLimits::default(),
            route: Some(self.call_timeout),
        }
    }
}

impl GatewayTold {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            body: BodyLimits {
                bytes_max: self.body_bytes_max,
                idle: self.body_idle,
            },
            route: Some(self.request_timeout),
        }
    }
}

fn level<'de, D: Deserializer<'de>>(from: D) -> Result<Level, D::Error> {
    let text = String::deserialize(from)?;
    match text.as_str() {
        "debug" => Ok(Level::DEBUG),
        "info" => Ok(Level::INFO),
        "warn" => Ok(Level::WARN),
        "error" => Ok(Level::ERROR),
        _ => Err(refused(&text, "debug, info, warn or error")),
    }
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let time = syntax::duration_of(&text).filter(|time| !time.is_zero());
    time.ok_or_else(|| refused(&text, "a time above 0 such as 3s"))
}

fn ttl<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    let time = syntax::duration_of(&text).filter(|time| *time >= Duration::from_secs(1));
    time.ok_or_else(|| refused(&text, "a time from 1s on"))
}

fn refused<E: serde::de::Error>(text: &str, expected: &'static str) -> E {
    E::invalid_value(Unexpected::Str(text), &expected)
}

/// What a process is given before it knows the store.
fn check(told: &Told) -> Result<(), Invalid> {
    let user = &told.user;
    let given = [
        ("user.listen", user.listen.is_some()),
        ("user.advertise", user.advertise.is_some()),
        ("user.id", user.id.is_some()),
        ("user.database", user.database.is_some()),
        ("user.age-min", user.age_min.is_some()),
        ("gateway.listen", told.gateway.listen.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((path, _)) => Err(Invalid {
            path,
            message: "is told to the process itself: by a flag, a variable or its file",
        }),
        None => Ok(()),
    }
}

/// What holds without the store.
pub(super) async fn local(layers: &Layers) -> Result<Told> {
    let config = Config::open(options(layers)).await?;
    config.get("").context("settings")
}

fn options(layers: &Layers) -> ConfigOptions {
    ConfigOptions {
        defaults: layers.defaults.clone(),
        environment: layers.environment.clone(),
        flags: layers.flags.clone(),
        restart: vec![keys::USER_TTL.to_owned()],
        ..ConfigOptions::default()
    }
}

/// The level of the process, which every service in it has a word in: the one that says most counts.
pub(crate) struct Levels {
    control: LevelControl,
    wanted: Mutex<BTreeMap<Service, Level>>,
}

impl Levels {
    pub(crate) fn new(control: LevelControl) -> Self {
        Self {
            control,
            wanted: Mutex::default(),
        }
    }

    fn want(&self, service: Service, level: Level) {
        let mut wanted = self.wanted.lock();
        wanted.insert(service, level);
        if let Some(level) = wanted.values().max() {
            self.control.set(*level);
        }
    }
}

/// A service that follows its documents.
pub(super) struct Following {
    /// What holds once the store has been asked.
    pub(super) first: watch::Receiver<Option<Told>>,
    task: AbortOnDropHandle<()>,
}

impl Following {
    /// Begins to follow; `act` is called with what holds, and with every change of that.
    pub(super) fn start(
        process: &Process,
        (service, instance): (Service, &str),
        layers: &Layers,
        act: impl Fn(&Told) + Send + 'static,
    ) -> Self {
        let app = service.name();
        let mut store = StoreOptions::new(process.kv.clone(), &process.namespace, app, instance);
        store.cold_patience = ANSWER_WITHIN;
        let options = ConfigOptions {
            store: Some(store),
            ..options(layers)
        };
        let levels = process.levels.clone();
        let act = move |told: &Told| {
            levels.want(service, told.log_level);
            act(told);
        };
        let (sender, first) = watch::channel(None);
        let follower = Follower {
            options,
            first: sender,
            closing: process.closing.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(follower.run(act)));
        Self { first, task }
    }

    /// Waits until the store has been told that nobody follows any more, once the process is closing.
    pub(super) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that follows the configuration has failed");
        }
    }
}

struct Follower {
    options: ConfigOptions,
    first: watch::Sender<Option<Told>>,
    closing: CancellationToken,
}

impl Follower {
    async fn run(self, act: impl Fn(&Told)) {
        let closing = self.closing.clone();
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = closing.cancelled() => return,
        };
        let (config, mut watched) = opened;
        let told = watched.load();
        act(&told);
        self.first.send_replace(Some((*told).clone()));
        loop {
            tokio::select! {
                changed = watched.changed() => match changed {
                    Ok(told) => act(&told),
                    Err(_closed) => return,
                },
                () = closing.cancelled() => break,
            }
        }
        if let Err(error) = config.close().await {
            tracing::warn!(%error, "the configuration was not closed");
        }
    }

    /// Tries until the store has documents that nobody refuses, or none.
    async fn open(&self) -> (Config, Watched<Told>) {
        let mut said = None;
        loop {
            let error = match self.try_open().await {
                Ok(opened) => return opened,
                Err(error) => error,
            };
            let is_away = matches!(error, Error::NotReady { .. });
            if !is_away {
                // Documents that are refused keep nobody from being found.
                if let Ok(told) = local(&self.layers()).await {
                    self.first
                        .send_if_modified(|first| first.replace(told).is_none());
                }
                if said.as_ref() != Some(&error) {
                    tracing::warn!(%error, "configuration rejected, what the process was started with holds");
                    said = Some(error);
                }
                sleep(PAUSE).await;
            }
        }
    }

    async fn try_open(&self) -> Result<(Config, Watched<Told>), Error> {
        let config = Config::open(self.options.clone()).await?;
        let watched = config.watch_checked("", check)?;
        config.confirm();
        Ok((config, watched))
    }

    fn layers(&self) -> Layers {
        Layers {
            defaults: self.options.defaults.clone(),
            environment: self.options.environment.clone(),
            flags: self.options.flags.clone(),
        }
    }
}
