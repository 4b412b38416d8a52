//! The table against the list of etcd's own flags, and against the code that reads it.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Flags that etcd does not know.
const OWN: [&str; 1] = ["storage-engine"];

/// Names and defaults of the list, current ones and old ones.
fn listed() -> (BTreeMap<&'static str, &'static str>, BTreeSet<&'static str>) {
    let text = include_str!("etcd-3.7.txt");
    let (current, old) = text.split_once("# Names no longer current.\n").unwrap();
    let lines = |part: &'static str| part.lines().filter(|line| !line.starts_with('#'));
    let current = lines(current).map(|line| line.split_once(' ').unwrap_or((line, "")));
    (current.collect(), lines(old).collect())
}

#[test]
fn every_flag_of_etcd_is_in_the_table_with_its_default() {
    let (current, old) = listed();
    let table: BTreeMap<&str, &str> = TOPICS
        .iter()
        .flat_map(|topic| topic.flags)
        .filter(|flag| !OWN.contains(&flag.name))
        .map(|flag| (flag.name, flag.default))
        .collect();
    assert_eq!(table, current);
    let table: BTreeSet<&str> = OLD.iter().map(|flag| flag.name).collect();
    assert_eq!(table, old);
}

#[test]
fn no_name_stands_twice_and_every_default_can_be_read() {
    let mut seen = BTreeSet::new();
    for flag in all() {
        assert!(seen.insert(flag.name), "{} stands twice", flag.name);
        if let Treatment::Renamed(name) = flag.treatment {
            let target = find(name).unwrap();
            assert_eq!(target.kind.is_bare(), flag.kind.is_bare(), "{}", flag.name);
        } else if !flag.default.is_empty() {
            assert_eq!(flag.kind.check(flag.default), Ok(()), "{}", flag.name);
        }
    }
}

#[test]
fn every_gate_that_a_flag_became_exists() {
    for flag in all() {
        if let Treatment::Gate(name) = flag.treatment {
            assert!(
                crate::config::gates::GATES
                    .iter()
                    .any(|gate| gate.name == name),
                "{name}"
            );
        }
    }
}

#[test]
fn every_built_flag_is_read_somewhere() {
    let readers = [
        include_str!("settings.rs"),
        include_str!("validate.rs"),
        include_str!("gates.rs"),
        include_str!("parse.rs"),
    ]
    .concat();
    for flag in all().filter(|flag| flag.treatment == Treatment::Built) {
        let quoted = format!("\"{}\"", flag.name);
        assert!(readers.contains(&quoted), "nobody reads {}", flag.name);
    }
}

#[test]
fn what_keeps_a_cluster_safe_is_built_or_refused() {
    for name in [
        "cert-file",
        "key-file",
        "client-cert-auth",
        "trusted-ca-file",
        "auto-tls",
        "peer-cert-file",
        "peer-client-cert-auth",
        "peer-trusted-ca-file",
        "client-crl-file",
        "auth-token",
        "host-whitelist",
        "force-new-cluster",
        "discovery",
        "discovery-srv",
        "discovery-token",
        "discovery-endpoints",
        "corrupt-check-time",
        "listen-client-http-urls",
        "listen-metrics-urls",
        "wal-dir",
        "proxy",
    ] {
        let treatment = find(name).unwrap().treatment;
        assert!(
            matches!(treatment, Treatment::Built | Treatment::Refused(_)),
            "{name} is {treatment:?}"
        );
    }
}

#[test]
fn the_nearest_name_is_found_only_when_it_is_near() {
    assert_eq!(nearest("nme"), Some("name"));
    assert_eq!(nearest("listen-client-url"), Some("listen-client-urls"));
    assert_eq!(
        nearest("initial-clster-token"),
        Some("initial-cluster-token")
    );
    assert_eq!(nearest("frobnicate-the-thing"), None);
    assert_eq!(edit_distance("kitten", "sitting"), 3);
    assert_eq!(edit_distance("", "abc"), 3);
}
