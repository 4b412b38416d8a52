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
//! Nothing waits for the store here, and a document that is refused takes nobody down: what the process was started with holds until
//! there is one that is not, or, with `cold-file`, what documents said last; and the listener's record in the store says which was
//! refused and why.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use catena_client::Kv;
use catena_middleware::{Limits, admit::body::BodyLimits};
use catena_registry::config::{
    Config, ConfigOptions, Error, Invalid, Keyring, Outcome, StoreOptions, StoreState, Watched,
};
use catena_telemetry::log::LevelControl;
use parking_lot::Mutex;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, Unexpected},
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use tracing::Level;

use super::{
    keys,
    process::Process,
    settings::{Layers, Service, Settings, TTL_MIN},
};
use crate::config::syntax;

/// How long a store that does not answer is waited for, before what the process was started with counts as its first word.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The longest body that can be allowed: each request may hold as much.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What documents may say, and what they may not: whatever else stands in them is another's.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Told {
    #[serde(deserialize_with = "level")]
    pub(super) log_level: Level,
    pub(super) user: UserTold,
    pub(super) gateway: GatewayTold,
    services: Option<IgnoredAny>,
    insecure: Option<IgnoredAny>,
    registry: Option<IgnoredAny>,
    endpoints: Option<IgnoredAny>,
    namespace: Option<IgnoredAny>,
    cold_file: Option<IgnoredAny>,
    config_keys: Option<IgnoredAny>,
    log_format: Option<IgnoredAny>,
    member: Option<IgnoredAny>,
}

/// The same of the user service.
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
    #[serde(deserialize_with = "body_bytes")]
    body_bytes_max: u64,
    #[serde(deserialize_with = "time")]
    body_idle: Duration,
    #[serde(deserialize_with = "time")]
    request_timeout: Duration,
    #[serde(deserialize_with = "time")]
    pub(super) call_timeout: Duration,
    listen: Option<IgnoredAny>,
    nacos: Option<IgnoredAny>,
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
    let time = syntax::duration_of(&text).filter(|time| *time >= TTL_MIN);
    time.ok_or_else(|| refused(&text, "a time from 1s on"))
}

fn body_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let bytes = u64::deserialize(from)?;
    match (1..=BODY_BYTES_MAX).contains(&bytes) {
        true => Ok(bytes),
        false => {
            let expected = &"a number of bytes from 1 to 67108864";
            Err(serde::de::Error::invalid_value(
                Unexpected::Unsigned(bytes),
                expected,
            ))
        }
    }
}

fn refused<E: serde::de::Error>(text: &str, expected: &'static str) -> E {
    E::invalid_value(Unexpected::Str(text), &expected)
}

/// What a process is given before it knows the store.
fn check(told: &Told) -> Result<(), Invalid> {
    let (user, gateway) = (&told.user, &told.gateway);
    let given = [
        (keys::SERVICES, &told.services),
        (keys::INSECURE, &told.insecure),
        (keys::REGISTRY, &told.registry),
        (keys::ENDPOINTS, &told.endpoints),
        (keys::NAMESPACE, &told.namespace),
        (keys::COLD_FILE, &told.cold_file),
        (keys::CONFIG_KEYS, &told.config_keys),
        (keys::LOG_FORMAT, &told.log_format),
        (keys::MEMBER, &told.member),
        (keys::USER_LISTEN, &user.listen),
        (keys::USER_ADVERTISE, &user.advertise),
        (keys::USER_ID, &user.id),
        (keys::USER_DATABASE, &user.database),
        (keys::USER_AGE_MIN, &user.age_min),
        (keys::GATEWAY_LISTEN, &gateway.listen),
        (keys::GATEWAY_NACOS, &gateway.nacos),
    ];
    match given.into_iter().find(|(_, given)| given.is_some()) {
        Some((path, _)) => Err(Invalid {
            path,
            message: "is told to the process itself: by a flag, a variable or its file",
        }),
        None => Ok(()),
    }
}

/// What holds without the store.
pub(super) async fn local(layers: &Layers) -> Result<Told> {
    let config = Config::open(options(layers)).await;
    config
        .and_then(|config| config.get(""))
        .context("a setting cannot be followed (`catena config explain` shows them all)")
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

/// What a service follows its documents with, besides the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    /// What stands below and above the documents.
    pub(crate) layers: Layers,
    /// What opens sealed values in them.
    pub(crate) keys: Keyring,
    /// Keeps them beside this file, for a start without the store.
    pub(crate) beside: Option<PathBuf>,
}

impl Own {
    /// The file of one service: a process may run several.
    fn last_good(&self, service: Service) -> Option<PathBuf> {
        let mut path = self.beside.clone()?.into_os_string();
        path.push(format!(".{}-config", service.name()));
        Some(path.into())
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
        act: impl Fn(&Told) + Send + 'static,
    ) -> Self {
        let app = service.name();
        let mut store = StoreOptions::new(process.kv.clone(), &process.namespace, app, instance);
        store.cold_patience = ANSWER_WITHIN;
        store.begins_without = true;
        store.last_good = process.own.last_good(service);
        let options = ConfigOptions {
            store: Some(store),
            keys: process.own.keys.clone(),
            ..options(&process.own.layers)
        };
        let levels = process.levels.clone();
        let act = move |told: &Told| {
            levels.want(service, told.log_level);
            act(told);
        };
        let (sender, first) = watch::channel(None);
        let closing = process.closing.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = follow(options, act, sender, closing).await {
                tracing::error!(%error, "the configuration in the store is not followed, what the process was started with holds");
            }
        });
        Self {
            first,
            task: AbortOnDropHandle::new(task),
        }
    }

    /// Waits until the store has been told that nobody follows any more, once the process is closing.
    pub(super) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the task that follows the configuration has failed");
        }
    }
}

/// What documents say, for people.
pub(super) struct Said {
    /// Settings that one of them says: the setting, its value, the document.
    pub(super) rows: Vec<[String; 3]>,
    /// A line for each that is refused.
    pub(super) refused: Vec<String>,
}

/// What documents say to the services of these settings, without being one of those that follow them. Nothing is known of gray
/// documents, which depend on the instance.
pub(super) async fn said(kv: Arc<dyn Kv>, settings: &Settings, place: &str) -> Result<Said> {
    let mut said = Said {
        rows: Vec::new(),
        refused: Vec::new(),
    };
    for service in &settings.services {
        let app = service.name();
        let mut store = StoreOptions::new(kv.clone(), &settings.namespace, app, "nobody");
        store.cold_patience = ANSWER_WITHIN;
        store.begins_without = true;
        store.is_listed = false;
        let config = Config::open(ConfigOptions {
            store: Some(store),
            keys: settings.own.keys.clone(),
            ..options(&settings.own.layers)
        });
        let config = config.await?;
        let _watched: Watched<Told> = config.watch_checked("", check)?;
        let status = config.status().borrow().clone();
        if let StoreState::Stale(error) = status.store {
            bail!(
                "the store at {place} does not answer ({error}): start it there, or say where it is with --endpoints"
            );
        }
        for ((layer, document), state) in status.report {
            if let Outcome::Rejected(error) = state.outcome
                && layer.is_stored()
            {
                let version = state.version;
                let line = format!("{document} version {version} is refused by {app}: {error}");
                said.refused.push(line);
            }
        }
        // The other service's settings are its own documents' matter.
        let own = |key: &&str| key.split_once('.').is_none_or(|(table, _)| table == app);
        for key in keys::FOLLOWED.into_iter().filter(own) {
            let layers = config.explain(key);
            let Some(holds) = layers.last().filter(|holds| holds.layer.is_stored()) else {
                continue;
            };
            let value = match &holds.value {
                serde_json::Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            let from = format!("{} version {}", holds.document, holds.version);
            said.rows.push([key.to_owned(), value, from]);
        }
    }
    Ok(said)
}

/// Follows until the process closes.
async fn follow(
    options: ConfigOptions,
    act: impl Fn(&Told),
    first: watch::Sender<Option<Told>>,
    closing: CancellationToken,
) -> Result<(), Error> {
    let config = tokio::select! {
        config = Config::open(options) => config?,
        () = closing.cancelled() => return Ok(()),
    };
    let mut watched: Watched<Told> = config.watch_checked("", check)?;
    config.confirm();
    let told = watched.load();
    act(&told);
    first.send_replace(Some((*told).clone()));
    loop {
        tokio::select! {
            told = watched.changed() => act(&*told?),
            () = closing.cancelled() => return config.close().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::settings::Values, *};

    /// What the process is told if a document says this.
    async fn told(document: &Value) -> Result<Told, Error> {
        let mut layers = Values::default().layers();
        for (key, value) in document.as_object().unwrap() {
            match value {
                Value::Object(more) if layers.defaults[key].is_object() => {
                    let table = layers.defaults[key].as_object_mut();
                    table.unwrap().extend(more.clone());
                }
                value => layers.defaults[key] = value.clone(),
            }
        }
        let config = Config::open(options(&layers)).await.unwrap();
        Ok((*config.watch_checked("", check)?.load()).clone())
    }

    #[tokio::test]
    async fn without_documents_the_table_s_defaults_hold() {
        let told = told(&json!({})).await.unwrap();
        assert_eq!(told.log_level, Level::INFO);
        assert_eq!(told.user.ttl, Duration::from_secs(10));
        let limits = told.gateway.limits();
        let defaults = BodyLimits::default();
        assert_eq!(limits.body.bytes_max, defaults.bytes_max);
        assert_eq!(limits.body.idle, defaults.idle);
        assert_eq!(limits.route, Some(catena_middleware::chain::ROUTE_LIMIT));
        let unary = catena_middleware::outbound::UNARY_LIMIT;
        assert_eq!(told.gateway.call_timeout, unary);
    }

    #[tokio::test]
    async fn every_other_setting_is_refused_in_a_document() {
        let others = keys::KEYS.iter().map(|key| key.name);
        let others = others.filter(|name| !keys::FOLLOWED.contains(name));
        for name in others.chain([keys::MEMBER]) {
            let document = match name.split_once('.') {
                Some((table, name)) => json!({ table: { name: "hunter2" } }),
                None => json!({ name: "hunter2" }),
            };
            let error = told(&document).await.unwrap_err().to_string();
            let expected = format!("refused: {name} is told to the process itself");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_setting_is_named_and_the_value_is_not() {
        for (document, text) in [
            (
                json!({"log-level": "hunter2"}),
                "log-level: expected debug, info, warn or error, found a string",
            ),
            (
                json!({"gateway": {"request-timeout": "0s"}}),
                "gateway.request-timeout",
            ),
            (
                json!({"gateway": {"body-bytes-max": 0}}),
                "gateway.body-bytes-max",
            ),
            (
                json!({"gateway": {"body-bytes-max": 1_u64 << 40}}),
                "gateway.body-bytes-max",
            ),
            (json!({"user": {"ttl": "999ms"}}), "user.ttl"),
            (
                json!({"user": {"ttI": "9s"}}),
                "user.ttI: expected no such key",
            ),
        ] {
            let error = told(&document).await.unwrap_err().to_string();
            assert!(
                error.starts_with(text) && !error.contains("hunter2"),
                "{error}"
            );
        }
        // What others keep in the same document says nothing here.
        assert!(told(&json!({"shop": {"open": true}})).await.is_ok());
    }
}
