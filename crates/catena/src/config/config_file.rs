//! The configuration file: YAML or JSON, keys as the flags with a few differences.

use serde_yaml_ng::Value;

use super::{
    flags::{self, Flag},
    notice::Notice,
    syntax::Kind,
    values::Values,
};

/// Keys inside of sections and the flags that they stand for. The client section has no flag for allowed common names and for
/// skipping the verification of addresses; they stand beside the flags that are refused for the same reason.
const NESTED: &[(&str, &str)] = &[
    ("client-transport-security.cert-file", "cert-file"),
    ("client-transport-security.key-file", "key-file"),
    (
        "client-transport-security.client-cert-file",
        "client-cert-file",
    ),
    (
        "client-transport-security.client-key-file",
        "client-key-file",
    ),
    (
        "client-transport-security.client-cert-auth",
        "client-cert-auth",
    ),
    (
        "client-transport-security.trusted-ca-file",
        "trusted-ca-file",
    ),
    ("client-transport-security.auto-tls", "auto-tls"),
    (
        "client-transport-security.allowed-cn",
        "client-cert-allowed-hostname",
    ),
    (
        "client-transport-security.allowed-hostname",
        "client-cert-allowed-hostname",
    ),
    (
        "client-transport-security.skip-client-san-verification",
        "peer-skip-client-san-verification",
    ),
    ("peer-transport-security.cert-file", "peer-cert-file"),
    ("peer-transport-security.key-file", "peer-key-file"),
    (
        "peer-transport-security.client-cert-file",
        "peer-client-cert-file",
    ),
    (
        "peer-transport-security.client-key-file",
        "peer-client-key-file",
    ),
    (
        "peer-transport-security.client-cert-auth",
        "peer-client-cert-auth",
    ),
    (
        "peer-transport-security.trusted-ca-file",
        "peer-trusted-ca-file",
    ),
    ("peer-transport-security.auto-tls", "peer-auto-tls"),
    ("peer-transport-security.allowed-cn", "peer-cert-allowed-cn"),
    (
        "peer-transport-security.allowed-hostname",
        "peer-cert-allowed-hostname",
    ),
    (
        "peer-transport-security.skip-client-san-verification",
        "peer-skip-client-san-verification",
    ),
    ("discovery-config.token", "discovery-token"),
    ("discovery-config.client.endpoints", "discovery-endpoints"),
    (
        "discovery-config.client.dial-timeout",
        "discovery-dial-timeout",
    ),
    (
        "discovery-config.client.request-timeout",
        "discovery-request-timeout",
    ),
    (
        "discovery-config.client.keepalive-time",
        "discovery-keepalive-time",
    ),
    (
        "discovery-config.client.keepalive-timeout",
        "discovery-keepalive-timeout",
    ),
    ("discovery-config.client.secure.cert", "discovery-cert"),
    ("discovery-config.client.secure.key", "discovery-key"),
    ("discovery-config.client.secure.cacert", "discovery-cacert"),
    (
        "discovery-config.client.secure.insecure-transport",
        "discovery-insecure-transport",
    ),
    (
        "discovery-config.client.secure.insecure-skip-tls-verify",
        "discovery-insecure-skip-tls-verify",
    ),
    ("discovery-config.client.auth.username", "discovery-user"),
    (
        "discovery-config.client.auth.password",
        "discovery-password",
    ),
    ("socket-options.reuse-port", "socket-reuse-port"),
    ("socket-options.reuse-address", "socket-reuse-address"),
];

/// Keys whose value may be a list.
const LISTS: &[&str] = &[
    "log-outputs",
    "cipher-suites",
    "client-cert-allowed-hostname",
    "peer-cert-allowed-cn",
    "peer-cert-allowed-hostname",
    "discovery-endpoints",
];

/// Reads the contents of a configuration file. The error says which key is wrong.
pub(crate) fn read(contents: &str) -> Result<Values, String> {
    // JSON may be indented by tabs, which YAML forbids.
    let document: Value = match contents.trim_start().starts_with('{') {
        true => serde_json::from_str(contents).map_err(|error| error.to_string())?,
        false => serde_yaml_ng::from_str(contents).map_err(|error| error.to_string())?,
    };
    let mut values = Values::default();
    values.from_file = true;
    match document {
        Value::Null => {}
        Value::Mapping(mapping) => section(&mut values, "", mapping)?,
        _ => return Err("the file does not hold keys and values".to_owned()),
    }
    Ok(values)
}

fn section(
    values: &mut Values,
    prefix: &str,
    mapping: serde_yaml_ng::Mapping,
) -> Result<(), String> {
    for (key, value) in mapping {
        let Some(key) = key.as_str() else {
            return Err(format!("{prefix}{key:?} is no key"));
        };
        let path = format!("{prefix}{key}");
        match (flag_of(&path), value) {
            (_, Value::Null) => {}
            (Some(flag), value) => one(values, flag, &path, &value)?,
            (None, Value::Mapping(inner)) if is_section(&path) => {
                section(values, &format!("{path}."), inner)?;
            }
            (None, _) => values.notices.push(Notice::KeyUnknown { key: path }),
        }
    }
    Ok(())
}

fn is_section(path: &str) -> bool {
    NESTED.iter().any(|(nested, _)| {
        nested
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// The flag that a key stands for. Flags that are nested in the file, lost their meaning or concern the command line have no key.
fn flag_of(path: &str) -> Option<&'static Flag> {
    if let Some((_, name)) = NESTED.iter().find(|(nested, _)| *nested == path) {
        return flags::find(name);
    }
    let flag = flags::find(path)?;
    let nested = NESTED.iter().any(|(_, name)| *name == path);
    let of_the_command_line = matches!(path, "config-file" | "version");
    (!nested && !of_the_command_line && flag.kind != Kind::Ignored).then_some(flag)
}

fn one(values: &mut Values, flag: &'static Flag, path: &str, value: &Value) -> Result<(), String> {
    let text = text_of(flag, value).ok_or_else(|| {
        format!(
            "cannot read the value of {path}: it must be {}",
            expected(flag)
        )
    })?;
    // An empty list of URLs leaves the default.
    if matches!(flag.kind, Kind::Urls | Kind::UrlsOrNone) && text.is_empty() {
        return Ok(());
    }
    values.set(flag, &text, path).map_err(|error| match path {
        "initial-cluster-state" => format!("unexpected clusterState \"{text}\""),
        _ => format!("invalid value \"{text}\" for {path}: {error}"),
    })
}

/// A value in the form that the command line would have.
fn text_of(flag: &Flag, value: &Value) -> Option<String> {
    match (flag.kind, value) {
        (Kind::Bool, Value::Bool(value)) => Some(value.to_string()),
        (Kind::Int | Kind::Uint | Kind::Uint32, Value::Number(number)) => Some(number.to_string()),
        (Kind::Duration, Value::Number(number)) => {
            number.as_i64().map(|nanos| format!("{nanos}ns"))
        }
        (Kind::Bool | Kind::Int | Kind::Uint | Kind::Uint32 | Kind::Duration, _) => None,
        (_, Value::Sequence(list)) if LISTS.contains(&flag.name) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            Some(texts?.join(","))
        }
        (_, Value::String(text)) => Some(text.clone()),
        (_, Value::Number(number)) => Some(number.to_string()),
        (_, Value::Bool(value)) => Some(value.to_string()),
        (_, Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_)) => None,
    }
}

fn expected(flag: &Flag) -> &'static str {
    match flag.kind {
        Kind::Bool => "true or false",
        Kind::Int | Kind::Uint | Kind::Uint32 => "a number",
        Kind::Duration => "a whole number of nanoseconds",
        _ => "a text",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = read("name: a\nheartbeat-interval: 50\npre-vote: false\n").unwrap();
        let json =
            read("{\n\t\"name\": \"a\", \"heartbeat-interval\": 50, \"pre-vote\": false}").unwrap();
        for values in [yaml, json] {
            assert_eq!(values.text("name"), "a");
            assert_eq!(values.uint("heartbeat-interval"), 50);
            assert!(!values.bool("pre-vote"));
            assert!(values.notices.is_empty());
        }
    }

    #[test]
    fn durations_are_whole_nanoseconds() {
        let values = read("watch-progress-notify-interval: 600000000000").unwrap();
        assert_eq!(
            values.duration("watch-progress-notify-interval").as_secs(),
            600
        );
        let error = read("watch-progress-notify-interval: 10m").unwrap_err();
        assert!(error.contains("watch-progress-notify-interval"), "{error}");
        assert!(error.contains("nanoseconds"), "{error}");
    }

    #[test]
    fn nested_keys_stand_for_their_flags() {
        let values = read(
            "client-transport-security:\n  cert-file: a.pem\n  client-cert-auth: true\npeer-transport-security:\n  allowed-cn: [x, y]\nsocket-options: {reuse-port: true}\ndiscovery-config:\n  client:\n    endpoints: [http://a:1]\n    secure: {cert: c.pem}\n",
        )
        .unwrap();
        assert_eq!(values.text("cert-file"), "a.pem");
        assert_eq!(
            values.origin("cert-file"),
            Some("client-transport-security.cert-file")
        );
        assert!(values.bool("client-cert-auth"));
        assert_eq!(values.text("peer-cert-allowed-cn"), "x,y");
        assert!(values.bool("socket-reuse-port"));
        assert_eq!(values.text("discovery-endpoints"), "http://a:1");
        assert_eq!(values.text("discovery-cert"), "c.pem");
    }

    #[test]
    fn unknown_keys_are_ignored_and_named() {
        let values = read("cert-file: a\nfoo: {bar: 1}\nv: 1\nconfig-file: x\n").unwrap();
        let keys = ["cert-file", "foo", "v", "config-file"];
        let expected = keys.map(|key| Notice::KeyUnknown {
            key: key.to_owned(),
        });
        assert_eq!(values.notices, expected);
        assert!(!values.is_set("cert-file"));
    }

    #[test]
    fn empty_values_leave_the_default() {
        let values = read("listen-peer-urls: ''\ndata-dir:\nlog-outputs: [stderr]\n").unwrap();
        assert!(!values.is_set("listen-peer-urls"));
        assert!(!values.is_set("data-dir"));
        assert_eq!(values.text("log-outputs"), "stderr");
        assert!(!read("").unwrap().is_set("name"));
    }

    #[test]
    fn values_of_the_wrong_form_are_refused_with_their_key() {
        for (text, key) in [
            ("heartbeat-interval: x", "heartbeat-interval"),
            ("heartbeat-interval: -1", "heartbeat-interval"),
            ("pre-vote: 1", "pre-vote"),
            ("name: [a]", "name"),
            ("listen-client-urls: foo", "listen-client-urls"),
            (
                "initial-cluster-state: old",
                "unexpected clusterState \"old\"",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key), "{error}");
        }
        assert!(read("- a\n- b\n").is_err());
        assert!(read("name: 'a").is_err());
        // A number where a text is wanted is that text, as in etcd.
        assert_eq!(
            read("auto-compaction-retention: 1")
                .unwrap()
                .text("auto-compaction-retention"),
            "1"
        );
    }

    #[test]
    fn every_nested_key_stands_for_a_flag() {
        for (path, name) in NESTED {
            assert!(flags::find(name).is_some(), "{path}");
        }
    }

    /// The files in `cluster/` are what users start from.
    #[test]
    fn the_example_files_hold_nothing_that_is_ignored() {
        for text in [
            include_str!("../../../../cluster/m1.yml"),
            include_str!("../../../../cluster/m2.yml"),
            include_str!("../../../../cluster/m3.yml"),
        ] {
            let values = read(text).unwrap();
            assert_eq!(values.notices, []);
            let cluster = values.text("initial-cluster");
            let own = format!(
                "{}={}",
                values.text("name"),
                values.text("initial-advertise-peer-urls")
            );
            assert!(cluster.split(',').any(|member| member == own), "{own}");
        }
    }
}
