//! One instance of a service as every part of the house sees it.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{Error, Result, ServiceName, Ulid, name};

/// The weight of an instance that says nothing else.
pub const WEIGHT_DEFAULT: u32 = 100;

/// The greatest weight; balancers count with sums of them.
pub const WEIGHT_MAX: u32 = 10_000;

/// Endpoints of one instance: each is a listener, of which a process has a few.
const ENDPOINTS_MAX: usize = 16;

/// What the metadata of one instance may take: every reader of the service holds it.
const METADATA_BYTES_MAX: usize = 16 << 10;

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP without encryption.
    Http,
    /// HTTP over TLS.
    Https,
    /// gRPC without encryption.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
}

impl Scheme {
    /// As it stands before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
            Self::Grpcs => "grpcs",
        }
    }

    /// Whether the endpoint speaks TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Self::Https | Self::Grpcs)
    }

    /// The scheme of the HTTP below it, as it stands in a request.
    pub fn as_http(self) -> &'static str {
        match self.is_secure() {
            true => "https",
            false => "http",
        }
    }

    /// The same over TLS.
    pub fn secure(self) -> Self {
        match self {
            Self::Http | Self::Https => Self::Https,
            Self::Grpc | Self::Grpcs => Self::Grpcs,
        }
    }

    /// Whether the endpoint speaks gRPC.
    pub fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::Grpcs)
    }
}

/// Where an instance listens: `scheme://host:port`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// A host name or an address; of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// `host:port`, with brackets around an IPv6 address: what instances of all layouts are compared by.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// An endpoint of a scheme and `host:port`.
    pub fn at(scheme: Scheme, address: &str) -> Result<Self> {
        let bad = || Error::BadEndpoint(address.chars().take(ADDRESS_SHOWN).collect());
        let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(host) if host.contains(':') => host,
            None if !host.contains(':') => host,
            Some(_) | None => return Err(bad()),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(plain) {
            return Err(bad());
        }
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port: port.parse().map_err(|_not_a_port| bad())?,
        })
    }
}

/// The longest name that DNS knows.
const HOST_BYTES_MAX: usize = 253;

/// How much of an address that is none an error shows.
const ADDRESS_SHOWN: usize = 80;

impl FromStr for Endpoint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadEndpoint(text.chars().take(ADDRESS_SHOWN).collect());
        let (scheme, address) = text.split_once("://").ok_or_else(bad)?;
        let schemes = [Scheme::Http, Scheme::Https, Scheme::Grpc, Scheme::Grpcs];
        let scheme = schemes.into_iter().find(|known| known.as_str() == scheme);
        Self::at(scheme.ok_or_else(bad)?, address).map_err(|_address| bad())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// What an instance says of itself.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not ready for calls yet.
    Starting,
    /// Takes calls.
    #[default]
    Up,
    /// Finishes the calls it has and wants no more.
    Draining,
    /// Takes no calls.
    Down,
}

/// One instance of a service.
///
/// Equality takes in every field; whether a *reader* sees something new is [`Instance::same_for_callers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Unique within the service. Instances of other layouts are known by the ids of theirs, which need not keep our grammar.
    pub id: String,
    /// The service.
    pub service: ServiceName,
    /// The version, as its operators name it.
    pub version: String,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// Its share of calls beside the others' weights; 0 is chosen only if all are 0.
    pub weight: u32,
    /// Whether operators let it be called.
    pub enabled: bool,
    /// What it says of itself.
    pub status: Status,
    /// Where it runs, coarsely.
    pub region: Option<String>,
    /// Where it runs, finely.
    pub zone: Option<String>,
    /// Labels and whatever else callers match on.
    pub metadata: BTreeMap<String, String>,
    /// When it was registered, in milliseconds since 1970; 0 lets the registrar fill it in.
    pub registered_at_ms: u64,
    /// Which run of a process registered it; [`Ulid::NIL`] lets the registrar choose.
    pub epoch: Ulid,
    /// The store's revision at which what is seen here was written; 0 on its way to the store.
    pub revision: i64,
}

impl Instance {
    /// An instance with the defaults: weight 100, enabled, up.
    pub fn new(service: ServiceName, id: &str, endpoints: Vec<Endpoint>) -> Self {
        Self {
            id: id.to_owned(),
            service,
            version: String::new(),
            endpoints,
            weight: WEIGHT_DEFAULT,
            enabled: true,
            status: Status::Up,
            region: None,
            zone: None,
            metadata: BTreeMap::new(),
            registered_at_ms: 0,
            epoch: Ulid::NIL,
            revision: 0,
        }
    }

    /// Whether the instance may be called at all, as far as it and its operators say.
    pub fn is_callable(&self) -> bool {
        self.enabled && self.status == Status::Up
    }

    /// The first endpoint that speaks one of the schemes.
    pub fn endpoint(&self, schemes: &[Scheme]) -> Option<&Endpoint> {
        let wanted = |endpoint: &&Endpoint| schemes.contains(&endpoint.scheme);
        self.endpoints.iter().find(wanted)
    }

    /// Whether callers see no difference: all but the revision is equal.
    pub fn same_for_callers(&self, other: &Self) -> bool {
        let Self {
            id,
            service,
            version,
            endpoints,
            weight,
            enabled,
            status,
            region,
            zone,
            metadata,
            registered_at_ms,
            epoch,
            revision: _,
        } = self;
        *id == other.id
            && *service == other.service
            && *version == other.version
            && *endpoints == other.endpoints
            && *weight == other.weight
            && *enabled == other.enabled
            && *status == other.status
            && *region == other.region
            && *zone == other.zone
            && *metadata == other.metadata
            && *registered_at_ms == other.registered_at_ms
            && *epoch == other.epoch
    }

    /// Whether the instance can be written.
    pub(crate) fn check(&self) -> Result<()> {
        name::check("instance", &self.id)?;
        let metadata = self.metadata.iter();
        let metadata_bytes: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
        let reason = if self.endpoints.is_empty() {
            "has no endpoint".to_owned()
        } else if self.endpoints.len() > ENDPOINTS_MAX {
            let count = self.endpoints.len();
            format!("has {count} endpoints where {ENDPOINTS_MAX} are the most")
        } else if self.weight > WEIGHT_MAX {
            format!("weighs {} where {WEIGHT_MAX} is the most", self.weight)
        } else if metadata_bytes > METADATA_BYTES_MAX {
            format!(
                "has {metadata_bytes} bytes of metadata where {METADATA_BYTES_MAX} are the most"
            )
        } else {
            return Ok(());
        };
        Err(Error::BadInstance {
            service: self.service.to_string(),
            id: self.id.clone(),
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_they_are_written() {
        for text in [
            "grpc://10.0.0.3:50051",
            "https://a.example:443",
            "http://[::1]:80",
            "grpcs://h_1:1",
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
        }
        for bad in [
            "",
            "10.0.0.3:50051",
            "ftp://a:1",
            "grpc://a",
            "grpc://:1",
            "grpc://a:65536",
            "grpc://::1:80",
            "grpc://[a]:1",
            "grpc://a b:1",
            "http://a:1/x",
        ] {
            let error = bad.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.reason(), "BAD_ENDPOINT", "{bad}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let service = ServiceName::new("user").unwrap();
        let endpoint: Endpoint = "grpc://a:1".parse().unwrap();
        let good = Instance::new(service, "1", vec![endpoint.clone()]);
        assert_eq!(good.check(), Ok(()));
        let reason = |change: fn(&mut Instance)| {
            let mut instance = good.clone();
            change(&mut instance);
            instance.check().unwrap_err().reason()
        };
        assert_eq!(reason(|i| i.id = "A".to_owned()), "BAD_NAME");
        assert_eq!(reason(|i| i.endpoints.clear()), "BAD_INSTANCE");
        assert_eq!(reason(|i| i.weight = 10_001), "BAD_INSTANCE");
        assert_eq!(
            reason(|i| i.endpoints = vec![i.endpoints[0].clone(); 17]),
            "BAD_INSTANCE"
        );
        let long = |i: &mut Instance| {
            i.metadata.insert("k".to_owned(), "v".repeat(16 << 10));
        };
        assert_eq!(reason(long), "BAD_INSTANCE");
    }
}
