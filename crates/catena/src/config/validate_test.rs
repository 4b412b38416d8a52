//! Each rule of the validation, in etcd's words.

use super::*;
use crate::config::{config_file, parse};

fn check(flags: &str) -> Result<Vec<Notice>, String> {
    let arguments: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    let values = parse::command_line(&arguments).unwrap().values;
    let mut notices = Vec::new();
    validate(&values, &mut notices).map(|()| notices)
}

#[test]
fn wrong_settings_get_etcds_words() {
    for (flags, error) in [
        ("--logger=foo", "unknown logger option \"foo\""),
        ("--logger=capnslog", "--logger=capnslog is removed in v3.5"),
        (
            "--log-outputs=default,stderr",
            "multi logoutput for \"default\" is not supported yet",
        ),
        (
            "--enable-log-rotation",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            "--enable-log-rotation --log-outputs=a,b",
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            "--log-format=xml",
            "unknown log format: xml, supported values json, console",
        ),
        ("--log-level=loud", "unrecognized level: \"loud\""),
        (
            "--listen-peer-urls=http://example.com:1",
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            "--listen-metrics-urls=http://:1",
            "expected IP in URL for binding (http://:1)",
        ),
        (
            "--initial-advertise-peer-urls=http://:1",
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" (unexpected empty host (http://:1))",
        ),
        (
            "--advertise-client-urls=http://:1",
            "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:1))",
        ),
        (
            "--initial-cluster=a=http://a:1 --discovery-srv=example.com",
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
        ),
        (
            "--discovery-token=x",
            "both --discovery-token and --discovery-endpoints must be set",
        ),
        (
            "--heartbeat-interval=0",
            "--heartbeat-interval must be >0 (set to 0ms)",
        ),
        (
            "--election-timeout=0",
            "--election-timeout must be >0 (set to 0ms)",
        ),
        (
            "--heartbeat-interval=300",
            "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
        ),
        (
            "--election-timeout=50001",
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (
            "--listen-client-urls=http://127.0.0.1:1",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            "--auto-compaction-mode=foo",
            "unknown auto-compaction-mode \"foo\"",
        ),
        (
            "--auto-compaction-retention=foo",
            "error parsing CompactionRetention: time: invalid duration \"foo\"",
        ),
        (
            "--enable-distributed-tracing --distributed-tracing-sampling-rate=-1",
            "distributed tracing configurition is not valid: (tracing sampling rate must be positive)",
        ),
        (
            "--feature-gates=LeaseCheckpointPersist=true",
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ),
        (
            "--compact-hash-check-time=0",
            "--compact-hash-check-time must be >0 (set to 0s)",
        ),
        (
            "--compact-hash-check-time=-1h",
            "--compact-hash-check-time must be >0 (set to -1h)",
        ),
        (
            "--tls-min-version=TLS1.1",
            "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
        ),
        (
            "--tls-min-version=TLS1.3 --tls-max-version=TLS1.2",
            "min version (TLS1.3) is greater than max version (TLS1.2)",
        ),
        (
            "--tls-min-version=TLS1.3 --cipher-suites=X",
            "cipher suites cannot be configured when only TLS1.3 is enabled",
        ),
    ] {
        assert_eq!(check(flags).unwrap_err(), error, "{flags}");
    }
}

#[test]
fn the_first_wrong_setting_in_etcds_order_is_reported() {
    let error = check("--heartbeat-interval=0 --listen-peer-urls=http://x:1 --logger=foo");
    assert!(error.unwrap_err().contains("logger"));
    let error = check("--heartbeat-interval=0 --listen-peer-urls=http://x:1");
    assert!(error.unwrap_err().contains("expected IP"));
}

#[test]
fn what_is_not_built_is_refused_by_name_unless_it_has_its_default() {
    for (flags, named) in [
        ("--cert-file=a.pem", "--cert-file"),
        ("--client-cert-auth", "--client-cert-auth"),
        ("--auth-token=jwt,sign-method=RS256", "--auth-token"),
        ("--force-new-cluster", "--force-new-cluster"),
        ("--wal-dir=w", "--wal-dir"),
        ("--host-whitelist=example.com", "--host-whitelist"),
        ("--discovery=http://x/y", "--discovery"),
        ("--discovery-srv=example.com", "--discovery-srv"),
        ("--proxy=on", "--proxy"),
        ("--corrupt-check-time=1h", "--corrupt-check-time"),
        (
            "--experimental-corrupt-check-time=1h",
            "--experimental-corrupt-check-time",
        ),
        (
            "--feature-gates=InitialCorruptCheck=true",
            "InitialCorruptCheck",
        ),
        (
            "--experimental-initial-corrupt-check",
            "InitialCorruptCheck",
        ),
        ("--feature-gates=AllAlpha=true", "CompactHashCheck"),
    ] {
        let error = check(flags).unwrap_err();
        assert!(
            error.contains(named) && error.contains("is refused: "),
            "{flags}: {error}"
        );
    }
    let defaults = "--wal-dir= --cert-file= --client-cert-auth=0 --auth-token=simple --force-new-cluster=false \
        --host-whitelist=* --discovery= --proxy=off --corrupt-check-time=0 \
        --feature-gates=InitialCorruptCheck=false --experimental-initial-corrupt-check=false";
    assert!(check(defaults).is_ok());
}

#[test]
fn all_that_is_refused_is_named_at_once() {
    let error = check("--cert-file=a --key-file=b").unwrap_err();
    assert!(
        error.contains("--cert-file") && error.contains("--key-file"),
        "{error}"
    );
}

#[test]
fn tuning_is_accepted_with_one_warning_each() {
    let notices = check("--max-wals=9 --unsafe-no-fsync --name=a").unwrap();
    let tuned: Vec<&str> = notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Tuning { flag, .. } => Some(flag.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(tuned, ["--max-wals", "--unsafe-no-fsync"]);
    // With its default it is not worth a line.
    assert_eq!(
        check("--max-wals=5 --name=a").unwrap(),
        [Notice::SinglePort]
    );
}

#[test]
fn the_default_name_is_warned_about() {
    assert_eq!(
        check("").unwrap(),
        [Notice::SinglePort, Notice::DefaultName]
    );
}

#[test]
fn a_file_need_not_say_what_to_advertise() {
    let values = config_file::read("listen-client-urls: http://127.0.0.1:1").unwrap();
    assert!(validate(&values, &mut Vec::new()).is_ok());
}

#[test]
fn a_file_is_refused_by_its_own_key() {
    let text = "client-transport-security:\n  cert-file: a.pem\n";
    let values = config_file::read(text).unwrap();
    let error = validate(&values, &mut Vec::new()).unwrap_err();
    assert!(
        error.starts_with("client-transport-security.cert-file is refused"),
        "{error}"
    );
}
