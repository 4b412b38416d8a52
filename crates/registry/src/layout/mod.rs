//! How instances stand in the store.
//!
//! | layout | key | value |
//! |---|---|---|
//! | `native` | `/registry/v1/{ns}/{service}/{id}` | all that is known, as JSON |
//! | `kratos` | `/microservices/{name}/{id}` | kratos' JSON |
//! | `naming` | `{service}/{address}` | grpc naming's JSON |
//! | `plain`: go-zero | `{service}/{lease id}` | `host:port` |
//! | `plain`: the article's | `/services/{service}/{id}` | `host:port` |
//! | `settings`: override | `/registry-override/v1/{ns}/{service}/{id}` | what operators set for an instance |
//! | `settings`: service | `/registry-service/v1/{ns}/{service}` | what operators set for a service |
//! | `settings`: client slot | `/registry-client/v1/{ns}/{service}/{slot}` | the consumer's instance id |
//!
//! Foreign keys and values are written as their own programs write them, to the byte. Of those layouts none can say that an instance
//! wants no calls, so a key of theirs stands only while it does ([`Layout::shows`]). go-zero and grpc naming share a prefix; which of
//! them wrote a key shows in its value.
//!
//! Known imperfection: go-zero's own clients do not look. They take every value under the prefix for an address, grpc naming's JSON
//! too, so a service that they call is not to be written in both.

mod go_json;
mod kratos;
mod naming;
mod native;
mod plain;
mod settings;

use bytes::Bytes;

pub use settings::{Override, ServiceSettings};

use crate::{Instance, ServiceName};

/// The longest value that is read: an instance with all that it may carry, several times over.
const VALUE_BYTES_MAX: usize = 256 << 10;

/// A way to write an instance. The order is that of what they can say: where several speak of one address, the first is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// `/registry/v1/{ns}/{service}/{id}`, everything that is known of an instance as JSON.
    Native,
    /// kratos: `/microservices/{name}/{id}`, its JSON.
    Kratos,
    /// `go.etcd.io/etcd/client/v3/naming`: `{service}/{address}`, its JSON.
    GrpcNaming,
    /// go-zero: `{service}/{lease id}`, `host:port`.
    GoZero,
    /// The article: `/services/{service}/{id}`, `host:port`.
    Article,
}

impl Layout {
    /// All layouts.
    pub const ALL: [Self; 5] = [
        Self::Native,
        Self::Kratos,
        Self::GrpcNaming,
        Self::GoZero,
        Self::Article,
    ];

    /// The name in configuration and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Kratos => "kratos",
            Self::GrpcNaming => "grpc-naming",
            Self::GoZero => "go-zero",
            Self::Article => "article",
        }
    }

    /// The key under which an instance is written on a lease.
    pub fn key(self, namespace: &str, instance: &Instance, lease: i64) -> String {
        let prefix = self.prefix(namespace, &instance.service);
        match self {
            Self::Native | Self::Kratos | Self::Article => prefix + &instance.id,
            Self::GrpcNaming => prefix + &plain::rpc_address(instance),
            Self::GoZero => prefix + &lease.to_string(),
        }
    }

    /// What is written there.
    pub fn value(self, instance: &Instance) -> String {
        match self {
            Self::Native => native::encode(instance),
            Self::Kratos => kratos::encode(instance),
            Self::GrpcNaming => naming::encode(&plain::rpc_address(instance)),
            Self::GoZero => plain::rpc_address(instance),
            Self::Article => plain::any_address(instance),
        }
    }

    /// The prefix of all keys of a service.
    pub fn prefix(self, namespace: &str, service: &ServiceName) -> String {
        match self {
            Self::Native => format!("/registry/v1/{namespace}/{service}/"),
            Self::Kratos => format!("/microservices/{service}/"),
            Self::GrpcNaming | Self::GoZero => format!("{service}/"),
            Self::Article => format!("/services/{service}/"),
        }
    }

    /// Whether the instance has a key in this layout as it is now.
    pub fn shows(self, instance: &Instance) -> bool {
        self == Self::Native || instance.is_callable()
    }
}

/// Where keys are looked for: the prefixes and the key that a reader watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Area {
    /// Native instances.
    Native,
    /// kratos' instances.
    Kratos,
    /// Instances of go-zero and grpc naming.
    Root,
    /// The article's instances.
    Article,
    /// Overrides.
    Overrides,
    /// The service's settings: one key.
    Settings,
}

impl Area {
    pub(crate) const ALL: [Self; 6] = [
        Self::Native,
        Self::Kratos,
        Self::Root,
        Self::Article,
        Self::Overrides,
        Self::Settings,
    ];

    /// The prefix; of [`Area::Settings`] the key.
    pub(crate) fn prefix(self, namespace: &str, service: &ServiceName) -> String {
        match self {
            Self::Native => Layout::Native.prefix(namespace, service),
            Self::Kratos => Layout::Kratos.prefix(namespace, service),
            Self::Root => Layout::GoZero.prefix(namespace, service),
            Self::Article => Layout::Article.prefix(namespace, service),
            Self::Overrides => settings::override_prefix(namespace, service),
            Self::Settings => settings::service_key(namespace, service),
        }
    }

    /// What precedes the services' names, where services can be listed.
    pub(crate) fn root(self, namespace: &str) -> Option<String> {
        match self {
            Self::Native => Some(format!("/registry/v1/{namespace}/")),
            Self::Kratos => Some("/microservices/".to_owned()),
            Self::Article => Some("/services/".to_owned()),
            Self::Settings => Some(format!("/registry-service/v1/{namespace}/")),
            Self::Root | Self::Overrides => None,
        }
    }
}

/// The key of an override.
pub(crate) fn override_key(namespace: &str, service: &ServiceName, id: &str) -> String {
    settings::override_prefix(namespace, service) + id
}

/// The key of a service's settings.
pub(crate) fn settings_key(namespace: &str, service: &ServiceName) -> String {
    settings::service_key(namespace, service)
}

/// The prefix of a service's client slots.
pub(crate) fn slot_prefix(namespace: &str, service: &ServiceName) -> String {
    settings::slot_prefix(namespace, service)
}

/// An instance, and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) layout: Layout,
    pub(crate) instance: Instance,
}

/// A value that no layout can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Reads what stands in one of the areas of instances. `rest` is the key behind the prefix.
pub(crate) fn decode(
    area: Area,
    service: &ServiceName,
    rest: &str,
    value: &Bytes,
    revision: i64,
) -> Result<Entry, Unreadable> {
    if rest.is_empty() || value.len() > VALUE_BYTES_MAX {
        return Err(Unreadable);
    }
    let text = std::str::from_utf8(value).map_err(|_not_utf8| Unreadable)?;
    let (layout, instance) = match area {
        Area::Native => (Layout::Native, native::decode(service, rest, text)),
        Area::Kratos => (Layout::Kratos, kratos::decode(service, text)),
        Area::Root if text.starts_with('{') => {
            (Layout::GrpcNaming, naming::decode(service, rest, text))
        }
        Area::Root => (Layout::GoZero, plain::decode_go_zero(service, rest, text)),
        Area::Article => (Layout::Article, plain::decode_article(service, rest, text)),
        Area::Overrides | Area::Settings => return Err(Unreadable),
    };
    let mut instance = instance.ok_or(Unreadable)?;
    instance.revision = revision;
    Ok(Entry { layout, instance })
}

/// An instance in the form of [`Layout::Native`], for the file of last known instances.
pub(crate) fn to_json(instance: &Instance) -> serde_json::Value {
    native::to_json(instance)
}

/// Reads what [`to_json`] made.
pub(crate) fn from_json(service: &ServiceName, json: serde_json::Value) -> Option<Instance> {
    native::from_json(service, json)
}

#[cfg(test)]
mod fixtures_test;
