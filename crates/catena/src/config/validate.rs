//! Which settings are refused, in etcd's order and words, and then those that etcd would take and Catena does not.

use std::net::IpAddr;

use catena_server::Url;

use super::{
    flags::{self, Flag, Treatment},
    gates::{self, GATES},
    notice::Notice,
    syntax,
    values::Values,
};

/// Longest election timeout that etcd takes.
const ELECTION_MS_MAX: u64 = 50_000;

/// One check; it may note something for the log.
type Check = fn(&Values, &mut Vec<Notice>) -> Result<(), String>;

/// All checks; the first that fails is reported.
const CHECKS: &[Check] = &[
    logging,
    listen_urls,
    advertise_urls,
    bootstrap_choice,
    timeouts,
    advertise_missing,
    auto_compaction,
    tracing_rate,
    lease_checkpoints,
    compact_hash_check,
    name,
    tls_versions,
    built,
];

/// Checks `values`; what is worth a line in the log is added to `notices`.
pub(crate) fn validate(values: &Values, notices: &mut Vec<Notice>) -> Result<(), String> {
    CHECKS.iter().try_for_each(|check| check(values, notices))
}

fn logging(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    match values.text("logger") {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option \"{other}\"")),
    }
    let outputs: Vec<&str> = log_outputs(values).collect();
    if outputs.len() > 1 && outputs.contains(&"default") {
        return Err("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    if values.bool("enable-log-rotation") {
        let is_file = |output: &&&str| !matches!(**output, "default" | "stderr" | "stdout");
        let files = outputs.iter().filter(is_file).count();
        if files > 1 || (files == 0 && outputs.len() == 1) {
            let error = "--log-outputs requires a single file path when --log-rotate-config-json is defined";
            return Err(error.to_owned());
        }
        let rotation = values.text("log-rotation-config-json");
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(rotation)
            .map_err(|error| format!("improperly formatted log rotation config: {error}"))?;
    }
    let format = values.text("log-format");
    if !matches!(format, "" | "json" | "console") {
        return Err(format!(
            "unknown log format: {format}, supported values json, console"
        ));
    }
    super::settings::log_level(values.text("log-level")).map(drop)
}

/// The elements of `--log-outputs`.
pub(crate) fn log_outputs(values: &Values) -> impl Iterator<Item = &str> {
    let outputs = match values.text("log-outputs") {
        "" => "default",
        outputs => outputs,
    };
    outputs.split(',')
}

fn listen_urls(values: &Values, notices: &mut Vec<Notice>) -> Result<(), String> {
    for flag in [
        "listen-peer-urls",
        "listen-client-urls",
        "listen-client-http-urls",
        "listen-metrics-urls",
    ] {
        values.urls(flag).iter().try_for_each(can_be_bound)?;
    }
    if values.text("listen-client-http-urls").is_empty() {
        notices.push(Notice::SinglePort);
    }
    Ok(())
}

fn can_be_bound(url: &Url) -> Result<(), String> {
    match url {
        Url::Http { host, .. } if host != "localhost" && host.parse::<IpAddr>().is_err() => {
            Err(format!("expected IP in URL for binding ({url})"))
        }
        Url::Http { .. } | Url::Unix { .. } => Ok(()),
    }
}

fn advertise_urls(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    for (flag, form) in [
        ("initial-advertise-peer-urls", "\"host:port\""),
        (
            "advertise-client-urls",
            "in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\"",
        ),
    ] {
        let urls = values.urls(flag);
        let hostless = |url: &&Url| matches!(url, Url::Http { host, .. } if host.is_empty());
        if let Some(url) = urls.iter().find(hostless) {
            let all: Vec<String> = urls.iter().map(Url::to_string).collect();
            return Err(format!(
                "--{flag} \"{}\" must be {form} (unexpected empty host ({url}))",
                all.join(",")
            ));
        }
    }
    Ok(())
}

fn bootstrap_choice(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    let given = |name: &str| values.is_set(name) && !values.text(name).is_empty();
    let ways = ["initial-cluster", "discovery-srv", "discovery-endpoints"];
    if ways.into_iter().filter(|name| given(name)).count() > 1 {
        return Err("multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"".to_owned());
    }
    if given("discovery-token") != given("discovery-endpoints") {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    Ok(())
}

fn timeouts(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    let heartbeat = values.uint("heartbeat-interval");
    let election = values.uint("election-timeout");
    if heartbeat == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_MS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
        ));
    }
    Ok(())
}

fn advertise_missing(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    let listens = values.is_set("listen-client-urls");
    if listens && !values.is_set("advertise-client-urls") && !values.from_file {
        let error =
            "--advertise-client-urls is required when --listen-client-urls is set explicitly";
        return Err(error.to_owned());
    }
    Ok(())
}

fn auto_compaction(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    super::settings::auto_compaction(values).map(drop)
}

fn tracing_rate(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    let rate = values.int("distributed-tracing-sampling-rate");
    if values.bool("enable-distributed-tracing") && !(0..=1_000_000).contains(&rate) {
        return Err(format!(
            "distributed tracing configurition is not valid: (tracing sampling rate must be {})",
            if rate < 0 {
                "positive"
            } else {
                "less than 1000000"
            }
        ));
    }
    Ok(())
}

fn lease_checkpoints(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    let gates = gates::states(values);
    if gates["LeaseCheckpointPersist"] && !gates["LeaseCheckpoint"] {
        let error = "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint";
        return Err(error.to_owned());
    }
    Ok(())
}

fn compact_hash_check(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    let text = values.text("compact-hash-check-time");
    let nanos = syntax::nanos_of(text).unwrap_or_default();
    let text = if nanos == 0 { "0s" } else { text };
    if nanos <= 0 {
        return Err(format!(
            "--compact-hash-check-time must be >0 (set to {text})"
        ));
    }
    Ok(())
}

fn name(values: &Values, notices: &mut Vec<Notice>) -> Result<(), String> {
    if values.text("name") == "default" {
        notices.push(Notice::DefaultName);
    }
    Ok(())
}

fn tls_versions(values: &Values, _: &mut Vec<Notice>) -> Result<(), String> {
    let (min, max) = (
        values.text("tls-min-version"),
        values.text("tls-max-version"),
    );
    for version in [min, max] {
        if !matches!(version, "" | "TLS1.2" | "TLS1.3") {
            return Err(format!(
                "unexpected TLS version \"{version}\" (must be one of: TLS1.2, TLS1.3)"
            ));
        }
    }
    if !max.is_empty() && min > max {
        return Err(format!(
            "min version ({min}) is greater than max version ({max})"
        ));
    }
    if min == "TLS1.3" && !values.text("cipher-suites").is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    Ok(())
}

/// Refuses what is not built and would be missed, all of it at once; notes what is accepted without effect.
fn built(values: &Values, notices: &mut Vec<Notice>) -> Result<(), String> {
    let mut refused = Vec::new();
    let mut judge = |origin: &str, treatment: Treatment| match treatment {
        Treatment::Refused(why) => refused.push(format!("{origin} is refused: {why}")),
        Treatment::Tuning(why) => {
            let flag = origin.to_owned();
            notices.push(Notice::Tuning { flag, why });
        }
        Treatment::Built | Treatment::Renamed(_) | Treatment::Gate(_) | Treatment::Gone => {}
    };
    let given = |flag: &&'static Flag| values.is_set(flag.name) && values.differs(flag);
    for flag in flags::all().filter(given) {
        judge(
            values.origin(flag.name).unwrap_or(flag.name),
            flag.treatment,
        );
    }
    let gates = gates::states(values);
    for gate in GATES.iter().filter(|gate| gates[gate.name] != gate.default) {
        judge(&format!("feature gate {}", gate.name), gate.treatment);
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(refused.join("; ")),
    }
}

#[cfg(test)]
#[path = "validate_test.rs"]
mod tests;
