//! Every setting of the services: its names in a file, in the environment and on the command line, its default, what it is about.
//!
//! The table is all there is: flags, help, completions and `catena config explain` are made from it.

use crate::config::Kind;

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Key {
    /// In a file; `user.listen` is `listen` in the table `[user]`.
    pub(crate) name: &'static str,
    /// On the command line, without the dashes: the name with `-` for the dot.
    pub(crate) flag: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    /// How the value is named in the help.
    pub(crate) value: &'static str,
    /// The heading in the help.
    pub(crate) topic: &'static str,
    pub(crate) about: &'static str,
}

impl Key {
    /// In the environment: `CATENA_USER_LISTEN`.
    pub(crate) fn variable(&self) -> String {
        let name = self.flag.to_ascii_uppercase().replace('-', "_");
        format!("{VARIABLE_PREFIX}{name}")
    }

    /// The value as it may be shown to anyone: without the password of a URL.
    pub(crate) fn shown(&self, text: &str) -> String {
        match self.name {
            USER_DATABASE => without_password(text),
            _ => text.to_owned(),
        }
    }
}

/// What every variable of the services begins with.
pub(crate) const VARIABLE_PREFIX: &str = "CATENA_";

pub(crate) const SERVICES: &str = "services";
pub(crate) const REGISTRY: &str = "registry";
pub(crate) const ENDPOINTS: &str = "endpoints";
pub(crate) const NAMESPACE: &str = "namespace";
pub(crate) const COLD_FILE: &str = "cold-file";
pub(crate) const CONFIG_KEYS: &str = "config-keys";
pub(crate) const INSECURE: &str = "insecure";
pub(crate) const LOG_LEVEL: &str = "log-level";
pub(crate) const LOG_FORMAT: &str = "log-format";
pub(crate) const USER_LISTEN: &str = "user.listen";
pub(crate) const USER_ADVERTISE: &str = "user.advertise";
pub(crate) const USER_ID: &str = "user.id";
pub(crate) const USER_DATABASE: &str = "user.database";
pub(crate) const USER_AGE_MIN: &str = "user.age-min";
pub(crate) const USER_TTL: &str = "user.ttl";
pub(crate) const USER_CALL_TIMEOUT: &str = "user.call-timeout";
pub(crate) const GATEWAY_LISTEN: &str = "gateway.listen";
pub(crate) const GATEWAY_NACOS: &str = "gateway.nacos";
pub(crate) const GATEWAY_BODY_BYTES_MAX: &str = "gateway.body-bytes-max";
pub(crate) const GATEWAY_BODY_IDLE: &str = "gateway.body-idle";
pub(crate) const GATEWAY_REQUEST_TIMEOUT: &str = "gateway.request-timeout";
pub(crate) const GATEWAY_CALL_TIMEOUT: &str = "gateway.call-timeout";

/// Those that documents in the store may say too. What is given on the command line or in a variable wins over them, they win over the
/// file.
pub(crate) const FOLLOWED: [&str; 7] = [
    LOG_LEVEL,
    USER_TTL,
    USER_CALL_TIMEOUT,
    GATEWAY_BODY_BYTES_MAX,
    GATEWAY_BODY_IDLE,
    GATEWAY_REQUEST_TIMEOUT,
    GATEWAY_CALL_TIMEOUT,
];

/// The file's table with the settings of a member in the process.
pub(crate) const MEMBER: &str = "member";

/// The values of `registry`.
pub(crate) const EMBEDDED: &str = "embedded";
pub(crate) const ETCD: &str = "etcd";

#[rustfmt::skip]
pub(crate) static KEYS: &[Key] = &[
    Key { name: SERVICES, flag: "services", kind: Kind::Text, default: "", value: "NAMES", topic: "Services",
        about: "Which services this process runs: user, gateway, or both, separated by commas" },
    Key { name: INSECURE, flag: "insecure", kind: Kind::Bool, default: "false", value: "BOOL", topic: "Services",
        about: "Listen where other machines reach it and serve any Host: there are no tokens yet" },
    Key { name: REGISTRY, flag: "registry", kind: Kind::OneOf(&[EMBEDDED, ETCD]), default: ETCD, value: "STORE", topic: "Store",
        about: "embedded: this process carries a member, told what to do by the flags of `catena server`; etcd: --endpoints" },
    Key { name: ENDPOINTS, flag: "endpoints", kind: Kind::Urls, default: "http://127.0.0.1:2379", value: "URLS", topic: "Store",
        about: "Client URLs of the store, separated by commas: of a Catena cluster or of a real etcd" },
    Key { name: NAMESPACE, flag: "namespace", kind: Kind::Text, default: "default", value: "NAME", topic: "Store",
        about: "Keeps environments apart that share a store" },
    Key { name: COLD_FILE, flag: "cold-file", kind: Kind::Text, default: "", value: "FILE", topic: "Store",
        about: "Keeps the last known instances for a start without the store, and beside it the last documents; one file for each process" },
    Key { name: CONFIG_KEYS, flag: "config-keys", kind: Kind::Text, default: "", value: "FILE", topic: "Store",
        about: "The keys that open sealed values of documents (`catena ctl config key` makes one); also in CATENA_CONFIG_KEY" },
    Key { name: USER_LISTEN, flag: "user-listen", kind: Kind::Text, default: "127.0.0.1:50051", value: "HOST:PORT", topic: "User service",
        about: "Where it listens for gRPC; port 0 takes a free one" },
    Key { name: USER_ADVERTISE, flag: "user-advertise", kind: Kind::Text, default: "", value: "HOST:PORT", topic: "User service",
        about: "Where callers reach it; empty: where it listens" },
    Key { name: USER_ID, flag: "user-id", kind: Kind::Text, default: "", value: "NAME", topic: "User service",
        about: "Its name among the instances; empty: made of host and port" },
    Key { name: USER_DATABASE, flag: "user-database", kind: Kind::Text, default: "sqlite:users.db", value: "URL", topic: "User service",
        about: "sqlite:FILE, mysql://…, mariadb://… or postgres://…" },
    Key { name: USER_AGE_MIN, flag: "user-age-min", kind: Kind::Uint, default: "0", value: "YEARS", topic: "User service",
        about: "The least age that a user may have" },
    Key { name: USER_TTL, flag: "user-ttl", kind: Kind::Duration, default: "10s", value: "TIME", topic: "User service",
        about: "How long its registration outlives it when it is killed" },
    Key { name: USER_CALL_TIMEOUT, flag: "user-call-timeout", kind: Kind::Duration, default: "30s", value: "TIME", topic: "User service",
        about: "The most that a call to it may take, whatever its caller says" },
    Key { name: GATEWAY_LISTEN, flag: "gateway-listen", kind: Kind::Text, default: "127.0.0.1:8080", value: "HOST:PORT", topic: "Gateway",
        about: "Where it listens for HTTP; port 0 takes a free one" },
    Key { name: GATEWAY_BODY_BYTES_MAX, flag: "gateway-body-bytes-max", kind: Kind::Uint, default: "1048576", value: "BYTES", topic: "Gateway",
        about: "The longest body of a request" },
    Key { name: GATEWAY_BODY_IDLE, flag: "gateway-body-idle", kind: Kind::Duration, default: "10s", value: "TIME", topic: "Gateway",
        about: "The time in which some of a body has to come" },
    Key { name: GATEWAY_REQUEST_TIMEOUT, flag: "gateway-request-timeout", kind: Kind::Duration, default: "3s", value: "TIME", topic: "Gateway",
        about: "The most that a request may take that neither waits nor streams" },
    Key { name: GATEWAY_CALL_TIMEOUT, flag: "gateway-call-timeout", kind: Kind::Duration, default: "2s", value: "TIME", topic: "Gateway",
        about: "The most that one call to a service behind it may take" },
    Key { name: GATEWAY_NACOS, flag: "gateway-nacos", kind: Kind::Bool, default: "false", value: "BOOL", topic: "Gateway",
        about: "Serve the configuration to clients of Nacos' HTTP API too, below /nacos" },
    Key { name: LOG_LEVEL, flag: "log-level", kind: Kind::OneOf(&["debug", "info", "warn", "error"]), default: "info", value: "LEVEL", topic: "Logging",
        about: "Lowest level of log lines that are written: debug, info, warn or error" },
    Key { name: LOG_FORMAT, flag: "log-format", kind: Kind::OneOf(&["json", "console"]), default: "json", value: "FORMAT", topic: "Logging",
        about: "json or console" },
];

/// A key by its name in a file.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// `scheme://user:password@host` with stars for the password.
fn without_password(url: &str) -> String {
    let hidden = || {
        let (scheme, rest) = url.split_once("://")?;
        let (login, host) = rest.rsplit_once('@')?;
        let (user, _password) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    };
    hidden().unwrap_or_else(|| url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_its_key_with_dashes() {
        for key in KEYS {
            assert_eq!(key.flag, key.name.replace('.', "-"));
            assert_eq!(key.kind.check(key.default), Ok(()), "{}", key.name);
        }
        assert_eq!(find(USER_LISTEN).unwrap().variable(), "CATENA_USER_LISTEN");
    }

    #[test]
    fn a_password_is_never_shown() {
        let key = find(USER_DATABASE).unwrap();
        for (text, shown) in [
            ("sqlite:users.db", "sqlite:users.db"),
            ("mysql://u@h/d", "mysql://u@h/d"),
            ("postgres://u:p@ss:w@h:5432/d", "postgres://u:***@h:5432/d"),
        ] {
            assert_eq!(key.shown(text), shown);
        }
    }
}
