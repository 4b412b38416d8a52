//! From command line, environment and file to what a process runs.
//!
//! ```text
//! flags  >  CATENA_… variables  >  file  >  defaults of the table
//! ```
//!
//! The member of `--registry embedded` has etcd's own flags, in the same order of precedence: `--data-dir`, `ETCD_DATA_DIR`, and
//! `data-dir` in the file's table `[member]`.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, anyhow, bail, ensure};
use catena_middleware::lifecycle::PROPAGATION;
use catena_registry::config::Keyring;
use catena_server::Url;
use catena_telemetry::log::LogConfig;
use toml::{Table, Value};

use super::{
    flags::{self, Options},
    keys::{self, KEYS, Key},
    live::Own,
};
use crate::config::{self, Layer, flags::Flag, syntax};

/// A service that this binary can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    User,
    Gateway,
}

impl Service {
    pub(crate) const ALL: [Self; 2] = [Self::User, Self::Gateway];

    /// The name under which it is found and configured.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Gateway => "gateway",
        }
    }
}

/// What is known of [`keys::FOLLOWED`] without the store, in the layers of its documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers {
    /// A map with the table's defaults and what the file says.
    pub(crate) defaults: serde_json::Value,
    /// Paths and values.
    pub(crate) environment: Vec<(String, String)>,
    /// Paths and values.
    pub(crate) flags: Vec<(String, String)>,
}

/// The store behind the registry.
#[derive(Clone, Debug)]
pub(crate) enum StoreSettings {
    /// A member in this process.
    Embedded(Box<config::Settings>),
    /// Endpoints.
    Etcd(Vec<Url>),
}

/// What the user service is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserSettings {
    pub(crate) listen: String,
    pub(crate) advertise: Option<String>,
    pub(crate) id: Option<String>,
    pub(crate) database: String,
    pub(crate) age_min: u8,
}

/// All that a process needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) services: Vec<Service>,
    pub(crate) store: StoreSettings,
    pub(crate) namespace: String,
    pub(crate) cold_file: Option<std::path::PathBuf>,
    pub(crate) insecure: bool,
    pub(crate) user: UserSettings,
    pub(crate) gateway_listen: String,
    pub(crate) gateway_nacos: bool,
    /// How long callers have to hear that an instance leaves, before it does.
    pub(crate) propagation: Duration,
    pub(crate) log: LogConfig,
    pub(crate) own: Own,
}

/// The shortest time that every store grants.
pub(super) const TTL_MIN: Duration = Duration::from_secs(1);

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    text: String,
    origin: String,
}

/// What was found of every key, before it is understood.
#[derive(Debug, Default)]
pub(crate) struct Values {
    own: BTreeMap<&'static str, Found>,
    member: Vec<Layer>,
    /// What the variable says that holds keys itself.
    config_key: Option<String>,
}

impl Values {
    /// Reads the file that the command line names, the variables, and the command line.
    pub(crate) fn gather(
        options: &Options,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut values = Self::default();
        let is_file = |what: &&String| what.ends_with(".toml");
        let (files, names): (Vec<&String>, Vec<&String>) = options.what.iter().partition(is_file);
        ensure!(
            files.len() < 2,
            "one file with settings is enough, not {}",
            files.len()
        );
        if let Some(path) = files.first() {
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
            values.file(path, &text)?;
        }
        values.environment(variables)?;
        for (key, text) in &options.given.own {
            values.set(key, text, format!("--{}", key.flag))?;
        }
        for (flag, text) in &options.given.member {
            let origin = format!("--{}", flag.name);
            values.member.push(layer(flag, text, origin));
        }
        if !names.is_empty() {
            let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
            let key = keys::find(keys::SERVICES).context("the table has `services`")?;
            values.set(key, &names.join(","), "arguments".to_owned())?;
        }
        Ok(values)
    }

    fn set(&mut self, key: &'static Key, text: &str, origin: String) -> Result<()> {
        if let Err(error) = key.kind.check(text) {
            bail!(
                "invalid value {:?} of {origin}: {error}; it is for {}",
                key.shown(text),
                key.about
            );
        }
        let text = text.to_owned();
        self.own.insert(key.name, Found { text, origin });
        Ok(())
    }

    fn file(&mut self, path: &str, text: &str) -> Result<()> {
        let table: Table = text.parse().with_context(|| format!("{path} is no TOML"))?;
        for (name, value) in table {
            match value {
                Value::Table(inner) if name == keys::MEMBER => {
                    for (name, value) in inner {
                        let flag = flags::of_members().find(|flag| flag.name == name);
                        let flag = flag.with_context(|| {
                            format!("{path}: {name:?} in [member] is no flag of `catena server`")
                        })?;
                        let text = text_of(&value).with_context(|| {
                            format!(
                                "{path}: the value of {name:?} is neither text, number nor list"
                            )
                        })?;
                        self.member
                            .push(layer(flag, &text, format!("{path}: member.{name}")));
                    }
                }
                Value::Table(inner) => {
                    for (inner, value) in inner {
                        self.line(path, &format!("{name}.{inner}"), &value)?;
                    }
                }
                value => self.line(path, &name, &value)?,
            }
        }
        Ok(())
    }

    fn line(&mut self, path: &str, name: &str, value: &Value) -> Result<()> {
        let key = keys::find(name).ok_or_else(|| {
            let near = config::flags::nearest_of(name, KEYS.iter().map(|key| key.name));
            let near = near
                .map(|near| format!("; did you mean {near}?"))
                .unwrap_or_default();
            anyhow!(
                "{path}: there is no setting {name:?}{near} (`catena config explain` lists them)"
            )
        })?;
        let text = text_of(value).with_context(|| {
            format!("{path}: the value of {name:?} is neither text, number nor list")
        })?;
        self.set(key, &text, format!("{path}: {name}"))
    }

    fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let mut variables: Vec<_> = variables
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .collect();
        variables.sort();
        for (name, text) in variables {
            if name == CONFIG_KEY {
                self.config_key = Some(text);
            } else if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
                self.set(key, &text, name)?;
            } else if let Some(flag) = config::flag_of_variable(&name)
                && flags::of_members().any(|known| known.name == flag.name)
            {
                self.member.push(layer(flag, &text, name));
            }
        }
        Ok(())
    }

    /// The value of a key.
    fn text(&self, name: &'static str) -> &str {
        let default = || keys::find(name).map_or("", |key| key.default);
        self.own.get(name).map_or_else(default, |found| &found.text)
    }

    fn optional(&self, name: &'static str) -> Option<String> {
        Some(self.text(name).to_owned()).filter(|text| !text.is_empty())
    }

    fn is_embedded(&self) -> bool {
        self.text(keys::REGISTRY) == keys::EMBEDDED
    }

    /// Understands them.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let (store, log) = self.store()?;
        let age_min = syntax::uint_of(self.text(keys::USER_AGE_MIN)).ok();
        let age_min = age_min.and_then(|age| u8::try_from(age).ok());
        let ttl = syntax::duration_of(self.text(keys::USER_TTL)).unwrap_or_default();
        ensure!(
            ttl >= TTL_MIN,
            "user.ttl: a second is the least that every store grants"
        );
        Ok(Settings {
            services: self.services()?,
            store,
            namespace: self.text(keys::NAMESPACE).to_owned(),
            cold_file: self.optional(keys::COLD_FILE).map(Into::into),
            insecure: syntax::bool_of(self.text(keys::INSECURE)).unwrap_or(false),
            user: UserSettings {
                listen: self.text(keys::USER_LISTEN).to_owned(),
                advertise: self.optional(keys::USER_ADVERTISE),
                id: self.optional(keys::USER_ID),
                database: self.text(keys::USER_DATABASE).to_owned(),
                age_min: age_min.context("user.age-min: nobody grows older than 255")?,
            },
            gateway_listen: self.text(keys::GATEWAY_LISTEN).to_owned(),
            gateway_nacos: syntax::bool_of(self.text(keys::GATEWAY_NACOS)).unwrap_or(false),
            propagation: PROPAGATION,
            log,
            own: Own {
                layers: self.layers(),
                keys: self.config_keys()?,
                beside: self.optional(keys::COLD_FILE).map(Into::into),
            },
        })
    }

    /// What opens sealed values.
    pub(crate) fn config_keys(&self) -> Result<Keyring> {
        let file = self.optional(keys::CONFIG_KEYS);
        keyring(file.as_deref(), self.config_key.as_deref())
    }

    /// What documents in the store may say otherwise, unless a flag or a variable says it.
    pub(crate) fn layers(&self) -> Layers {
        let mut layers = Layers::default();
        for key in keys::FOLLOWED.into_iter().filter_map(keys::find) {
            let pair = (key.name.to_owned(), self.text(key.name).to_owned());
            match self.own.get(key.name) {
                Some(found) if found.origin.starts_with("--") => layers.flags.push(pair),
                Some(found) if found.origin == key.variable() => layers.environment.push(pair),
                Some(_) | None => {}
            }
            let text = self.text(key.name);
            match key.name.split_once('.') {
                Some((table, name)) => layers.defaults[table][name] = text.into(),
                None => layers.defaults[key.name] = text.into(),
            }
        }
        layers
    }

    /// Where nobody says which services are to run, all of them are meant.
    pub(crate) fn name_services(&mut self) {
        self.own.entry(keys::SERVICES).or_insert_with(|| Found {
            text: Service::ALL.map(Service::name).join(","),
            origin: "default".to_owned(),
        });
    }

    fn services(&self) -> Result<Vec<Service>> {
        let text = self.text(keys::SERVICES);
        let names = text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        let mut services = names
            .map(|name| match name {
                "user" => Ok(Service::User),
                "gateway" => Ok(Service::Gateway),
                other => bail!(
                    "there is no service {other:?}: say user, gateway, or a file that ends in .toml"
                ),
            })
            .collect::<Result<Vec<_>>>()?;
        services.sort();
        services.dedup();
        ensure!(
            !services.is_empty(),
            "nothing to run: say `catena run user`, `catena run gateway`, both, or a file with `services = [\"user\", \"gateway\"]`"
        );
        Ok(services)
    }

    fn store(&self) -> Result<(StoreSettings, LogConfig)> {
        let mut layers = Vec::new();
        if self.is_embedded() {
            if let Some(found) = self.own.get(keys::ENDPOINTS) {
                bail!(
                    "{} says where another store is, but the store is embedded: leave it out, or say --registry etcd",
                    found.origin
                );
            }
            layers.clone_from(&self.member);
        } else if let Some(given) = self
            .member
            .iter()
            .find(|given| !given.origin.starts_with("ETCD_"))
        {
            bail!(
                "{} is for a member, and there is none with --registry etcd: leave it out, or say --registry embedded",
                given.origin
            );
        }
        for name in [keys::LOG_LEVEL, keys::LOG_FORMAT] {
            let flag = config::flags::find(name).context("etcd has these flags too")?;
            layers.push(layer(flag, self.text(name), format!("--{name}")));
        }
        let settings = config::of_layers(&layers).map_err(|error| anyhow!("{error}"))?;
        let log = settings.log.clone();
        let store = match self.is_embedded() {
            true => StoreSettings::Embedded(Box::new(settings)),
            false => {
                let endpoints = syntax::urls_of(self.text(keys::ENDPOINTS));
                StoreSettings::Etcd(endpoints.map_err(|error| anyhow!("--endpoints: {error}"))?)
            }
        };
        Ok((store, log))
    }

    /// Key, value and origin of every setting, for people.
    pub(crate) fn explain(&self) -> Vec<[String; 3]> {
        let origin =
            |found: Option<&Found>| found.map_or("default", |found| &found.origin).to_owned();
        let mut rows: Vec<[String; 3]> = KEYS
            .iter()
            .map(|key| {
                let found = self.own.get(key.name);
                [
                    key.name.to_owned(),
                    key.shown(self.text(key.name)),
                    origin(found),
                ]
            })
            .collect();
        if self.is_embedded() {
            for flag in flags::of_members().filter(|flag| flag.is_current()) {
                let last = self
                    .member
                    .iter()
                    .rev()
                    .find(|given| given.flag.name == flag.name);
                let text = last.map_or(flag.default, |given| &given.text);
                let origin = last.map_or("default", |given| &given.origin);
                rows.push([
                    format!("{}.{}", keys::MEMBER, flag.name),
                    text.to_owned(),
                    origin.to_owned(),
                ]);
            }
        }
        rows
    }
}

/// The variable that holds keys itself, for those who have no file to put them into.
pub(crate) const CONFIG_KEY: &str = "CATENA_CONFIG_KEY";

/// The keys of a file, and those of a variable behind them.
pub(crate) fn keyring(file: Option<&str>, variable: Option<&str>) -> Result<Keyring> {
    let mut text = match file {
        Some(path) => fs::read_to_string(path)
            .with_context(|| format!("cannot read the keys of the configuration in {path}"))?,
        None => String::new(),
    };
    // Whether a fault is in the file or in the variable shows in the number of its line.
    text.push('\n');
    text.push_str(variable.unwrap_or_default());
    Keyring::parse(&text).with_context(|| {
        let path = file.map_or_else(String::new, |path| format!("{path} and "));
        format!("the keys of the configuration, in {path}{CONFIG_KEY}")
    })
}

fn layer(flag: &'static Flag, text: &str, origin: String) -> Layer {
    let text = text.to_owned();
    Layer { flag, text, origin }
}

/// A value of a file in the form that the command line would have.
fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Array(values) => {
            let texts = values.iter().map(text_of).collect::<Option<Vec<_>>>()?;
            texts.join(",")
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => return None,
    })
}

#[cfg(test)]
#[path = "settings_test.rs"]
mod tests;
