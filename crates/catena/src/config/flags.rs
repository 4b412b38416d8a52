//! Every flag of etcd 3.7 and every name that its earlier versions knew: what it takes, its default, and what becomes of it here.
//!
//! A flag is *built* (it does what etcd's does), *tuning* (something here works differently, so it changes nothing that a user
//! relies on: accepted with one warning) or *refused* (without it the member would be less safe, lose data, be unreachable or start
//! as something else than asked for: the member does not start unless the flag has its default). Names no longer current are mapped
//! or ignored with a warning, so that old start scripts go on working. A test compares the table with a list of etcd's own flags.

use std::sync::LazyLock;

use super::syntax::Kind::{self, *};

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: &'static str,
    pub(crate) treatment: Treatment,
    /// For the help text.
    pub(crate) about: &'static str,
}

impl Flag {
    /// Whether the flag stands in the help text.
    pub(crate) fn is_current(&self) -> bool {
        !self.about.is_empty()
    }
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Does what etcd's does.
    Built,
    /// Accepted with one warning that says why it changes nothing.
    Tuning(&'static str),
    /// The member does not start if it has another value than its default; the text says why.
    Refused(&'static str),
    /// Another flag's earlier name.
    Renamed(&'static str),
    /// A boolean that became this feature gate.
    Gate(&'static str),
    /// Without meaning in any version that we are compatible with: ignored with a warning.
    Gone,
}

use Treatment::*;

/// Flags of one topic, in the order of etcd's help.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) title: &'static str,
    pub(crate) flags: &'static [Flag],
}

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    treatment: Treatment,
    about: &'static str,
) -> Flag {
    Flag {
        name,
        kind,
        default,
        treatment,
        about,
    }
}

/// A name that is no longer current; it does not appear in the help text.
const fn old(name: &'static str, kind: Kind, treatment: Treatment) -> Flag {
    flag(name, kind, "", treatment, "")
}

/// etcd's bool flags start out false unless said otherwise; as old names they need that default to be compared with.
const fn old_bool(name: &'static str, treatment: Treatment) -> Flag {
    flag(name, Bool, "false", treatment, "")
}

const NO_TLS: Treatment = Refused("TLS is not built yet");
const NO_DISCOVERY: Treatment =
    Refused("discovery is not built; name all members in --initial-cluster");
const NO_CHECKS: Treatment = Refused("corruption checks between members are not built yet");
const WITH_TLS: Treatment = Tuning("it concerns TLS, which is not built yet");
const WITH_AUTH: Treatment = Tuning("it concerns authentication, which is not built yet");
const NO_TRACING: Treatment = Tuning("spans are not exported yet");
const OWN_LOG: Treatment = Tuning("the log here is kept and purged by its size in bytes");
const OWN_ENGINE: Treatment = Tuning("the storage engine here is not bbolt");

/// The current flags.
#[rustfmt::skip]
pub(crate) static TOPICS: &[Topic] = &[
    Topic { title: "Member", flags: &[
        flag("name", Text, "default", Built, "Human-readable name of this member."),
        flag("data-dir", Text, "", Built, "Path of the data directory; empty: ${name}.etcd."),
        flag("wal-dir", Text, "", Refused("the log stands in the data directory"), "Path of a directory for the log alone."),
        flag("storage-engine", OneOf(&["redb", "sled"]), "redb", Built, "Engine that keeps the applied state: redb or sled."),
        flag("snapshot-count", Uint, "10000", Built, "Committed entries after which the log is cut; 0: 10000."),
        flag("snapshot-catchup-entries", Uint, "5000", Built, "Entries kept behind that cut for slow followers; 0: 5000."),
        flag("heartbeat-interval", Uint, "100", Built, "Milliseconds between heartbeats."),
        flag("election-timeout", Uint, "1000", Built, "Milliseconds without a leader before an election."),
        flag("initial-election-tick-advance", Bool, "true", Tuning("the first election needs no fast-forward here"), "Fast-forward election ticks at start."),
        flag("listen-peer-urls", Urls, "http://localhost:2380", Built, "URLs to listen on for the other members."),
        flag("listen-client-urls", Urls, "http://localhost:2379", Built, "URLs to listen on for clients."),
        flag("listen-client-http-urls", UrlsOrNone, "", Built, "URLs to listen on for HTTP only; the others then serve gRPC only."),
        flag("max-snapshots", Uint, "5", OWN_LOG, "Snapshot files to keep."),
        flag("max-wals", Uint, "5", OWN_LOG, "Log files to keep."),
        flag("memory-mlock", Bool, "false", Tuning("pages of the engine are not locked in memory"), "Keep the database in memory."),
        flag("quota-backend-bytes", Int, "0", Built, "Size of the database that raises the alarm NOSPACE; 0: 2 GiB, below 0: none."),
        flag("backend-bbolt-freelist-type", OneOf(&["map", "array"]), "map", OWN_ENGINE, "Form of bbolt's freelist."),
        flag("backend-batch-interval", Duration, "0s", OWN_ENGINE, "Longest time before the backend commits."),
        flag("backend-batch-limit", Int, "0", OWN_ENGINE, "Most operations before the backend commits."),
        flag("bootstrap-defrag-threshold-megabytes", Uint, "0", OWN_ENGINE, "Defragment at start if that frees as much."),
        flag("max-txn-ops", Uint, "128", Built, "Most operations of a transaction."),
        flag("max-request-bytes", Uint, "1572864", Built, "Largest request accepted."),
        flag("max-concurrent-streams", Uint32, "4294967295", Built, "Most streams that a client connection may have open."),
        flag("grpc-keepalive-min-time", Duration, "5s", Tuning("clients may ping as often as they like"), "Least time between a client's pings."),
        flag("grpc-keepalive-interval", Duration, "2h", Built, "Idle time after which a client connection is pinged."),
        flag("grpc-keepalive-timeout", Duration, "20s", Built, "Time for the answer to that ping."),
        flag("socket-reuse-port", Bool, "false", Refused("two processes would share a port unnoticed"), "Set SO_REUSEPORT."),
        flag("socket-reuse-address", Bool, "false", Tuning("listeners always set SO_REUSEADDR"), "Set SO_REUSEADDR."),
        flag("enable-grpc-gateway", Bool, "true", Tuning("there is no JSON gateway yet to switch off"), "Serve the JSON gateway."),
        flag("raft-read-timeout", Duration, "5s", Tuning("peer calls have their own deadlines"), "Read timeout of peer connections."),
        flag("raft-write-timeout", Duration, "5s", Tuning("peer calls have their own deadlines"), "Write timeout of peer connections."),
        flag("feature-gates", Gates, "", Built, "Name=true|false,… of etcd's feature gates."),
    ]},
    Topic { title: "Clustering", flags: &[
        flag("initial-advertise-peer-urls", Urls, "http://localhost:2380", Built, "This member's URLs for the other members."),
        flag("initial-cluster", Text, "default=http://localhost:2380", Built, "name=url,… of all members of a new cluster."),
        flag("initial-cluster-state", OneOf(&["new", "existing"]), "new", Built, "new, or existing to join a running cluster; ignored once there is data."),
        flag("initial-cluster-token", Text, "etcd-cluster", Built, "Keeps clusters apart that start from the same URLs."),
        flag("advertise-client-urls", Urls, "http://localhost:2379", Built, "This member's URLs as clients are told."),
        flag("discovery-token", Text, "", NO_DISCOVERY, "Token of a discovery."),
        flag("discovery-endpoints", Text, "", NO_DISCOVERY, "Endpoints of the discovery service."),
        flag("discovery-dial-timeout", Duration, "2s", NO_DISCOVERY, "Its dial timeout."),
        flag("discovery-request-timeout", Duration, "5s", NO_DISCOVERY, "Its request timeout."),
        flag("discovery-keepalive-time", Duration, "2s", NO_DISCOVERY, "Its keepalive time."),
        flag("discovery-keepalive-timeout", Duration, "6s", NO_DISCOVERY, "Its keepalive timeout."),
        flag("discovery-insecure-transport", Bool, "true", NO_DISCOVERY, "Without TLS."),
        flag("discovery-insecure-skip-tls-verify", Bool, "false", NO_DISCOVERY, "Without verifying its certificate."),
        flag("discovery-cert", Text, "", NO_DISCOVERY, "Client certificate for it."),
        flag("discovery-key", Text, "", NO_DISCOVERY, "Client key for it."),
        flag("discovery-cacert", Text, "", NO_DISCOVERY, "Its certificate authority."),
        flag("discovery-user", Text, "", NO_DISCOVERY, "User name for it."),
        flag("discovery-password", Text, "", NO_DISCOVERY, "Password for it."),
        flag("discovery-fallback", OneOf(&["exit", "proxy"]), "exit", Refused("there is no proxy to fall back to"), "What to do when discovery fails."),
        flag("discovery-srv", Text, "", NO_DISCOVERY, "DNS domain with SRV records of the members."),
        flag("discovery-srv-name", Text, "", NO_DISCOVERY, "Suffix of the SRV name."),
        flag("strict-reconfig-check", Bool, "true", Built, "Refuse member changes that would lose quorum."),
        flag("pre-vote", Bool, "true", Built, "Ask before standing for election, so that a member that was cut off disturbs nobody."),
        flag("auto-compaction-retention", Text, "0", Built, "History to keep: a duration, hours if it has no unit, or revisions; 0: all."),
        flag("auto-compaction-mode", Text, "periodic", Built, "What the retention counts: periodic or revision."),
        flag("max-learners", Int, "1", Built, "Most learners of the cluster."),
    ]},
    Topic { title: "Security", flags: &[
        flag("cert-file", Text, "", NO_TLS, "Certificate for clients."),
        flag("key-file", Text, "", NO_TLS, "Key for clients."),
        flag("client-cert-auth", Bool, "false", NO_TLS, "Demand client certificates."),
        flag("client-cert-file", Text, "", NO_TLS, "Certificate of the member as a client."),
        flag("client-key-file", Text, "", NO_TLS, "Key of the member as a client."),
        flag("client-crl-file", Text, "", NO_TLS, "Revoked client certificates."),
        flag("client-cert-allowed-hostname", Text, "", NO_TLS, "Host names allowed in client certificates."),
        flag("trusted-ca-file", Text, "", NO_TLS, "Authority for client certificates."),
        flag("auto-tls", Bool, "false", NO_TLS, "Generated certificate for clients."),
        flag("peer-cert-file", Text, "", NO_TLS, "Certificate for members."),
        flag("peer-key-file", Text, "", NO_TLS, "Key for members."),
        flag("peer-client-cert-auth", Bool, "false", NO_TLS, "Demand certificates of members."),
        flag("peer-client-cert-file", Text, "", NO_TLS, "Certificate towards members."),
        flag("peer-client-key-file", Text, "", NO_TLS, "Key towards members."),
        flag("peer-trusted-ca-file", Text, "", NO_TLS, "Authority for members' certificates."),
        flag("peer-cert-allowed-cn", Text, "", NO_TLS, "Common names allowed for members."),
        flag("peer-cert-allowed-hostname", Text, "", NO_TLS, "Host names allowed for members."),
        flag("peer-auto-tls", Bool, "false", NO_TLS, "Generated certificate for members."),
        flag("peer-crl-file", Text, "", NO_TLS, "Revoked certificates of members."),
        flag("peer-skip-client-san-verification", Bool, "false", NO_TLS, "Do not compare members' certificates with their addresses."),
        flag("self-signed-cert-validity", Uint, "1", WITH_TLS, "Years that a generated certificate is valid."),
        flag("cipher-suites", Text, "", WITH_TLS, "Cipher suites, by Go's names."),
        flag("tls-min-version", Text, "TLS1.2", WITH_TLS, "Lowest TLS version."),
        flag("tls-max-version", Text, "", WITH_TLS, "Highest TLS version."),
        flag("cors", Text, "*", Tuning("it concerns the JSON gateway, which is not built yet"), "Origins allowed to use the JSON gateway."),
        flag("host-whitelist", Text, "*", Refused("host names of HTTP requests are not checked yet"), "Host names that HTTP requests may carry."),
        flag("auth-token", Text, "simple", Refused("authentication is not built yet"), "Kind of authentication token and its options."),
        flag("auth-token-ttl", Uint, "300", WITH_AUTH, "Seconds that a simple token lives."),
        flag("bcrypt-cost", Uint, "10", WITH_AUTH, "Cost of hashing a password."),
    ]},
    Topic { title: "Observation", flags: &[
        flag("metrics", OneOf(&["basic", "extensive"]), "basic", Built, "basic, or extensive to measure the handling time of each RPC."),
        flag("listen-metrics-urls", UrlsOrNone, "", Built, "URLs that serve only /metrics, /health, /livez and /readyz."),
        flag("logger", Text, "zap", Built, "Only zap, the shape of etcd's logs."),
        flag("log-level", Text, "info", Built, "debug, info, warn, error, panic or fatal."),
        flag("log-format", Text, "json", Built, "json or console."),
        flag("log-outputs", Text, "default", Built, "default, stderr, stdout, or a file."),
        flag("enable-log-rotation", Bool, "false", Refused("log files are not rotated yet; let logrotate do it"), "Rotate a log file."),
        flag("log-rotation-config-json", Text, r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#, Tuning("log files are not rotated yet"), "How to rotate it."),
        flag("warning-apply-duration", Duration, "100ms", Tuning("slow requests are reported by --warning-unary-request-duration"), "Report applies that take longer."),
        flag("warning-unary-request-duration", Duration, "300ms", Built, "Report requests that take longer."),
        flag("enable-pprof", Bool, "false", Tuning("Go's profiles do not exist here"), "Serve /debug/pprof/."),
        flag("enable-distributed-tracing", Bool, "false", NO_TRACING, "Export spans."),
        flag("distributed-tracing-address", Text, "localhost:4317", NO_TRACING, "Where to."),
        flag("distributed-tracing-service-name", Text, "etcd", NO_TRACING, "Under which name."),
        flag("distributed-tracing-instance-id", Text, "", NO_TRACING, "And id."),
        flag("distributed-tracing-sampling-rate", Int, "0", NO_TRACING, "Spans exported of a million."),
    ]},
    Topic { title: "Checks and compaction", flags: &[
        flag("corrupt-check-time", Duration, "0s", NO_CHECKS, "Time between corruption checks."),
        flag("compact-hash-check-time", Duration, "1m", Tuning("corruption checks between members are not built yet"), "Time between checks of compaction hashes."),
        flag("compaction-batch-limit", Int, "1000", Built, "Revisions deleted in one step of a compaction."),
        flag("compaction-sleep-interval", Duration, "10ms", Built, "Pause between those steps."),
        flag("watch-progress-notify-interval", Duration, "10m", Built, "Time between progress notifications of an idle watch."),
        flag("downgrade-check-time", Duration, "5s", Tuning("downgrades are not built yet"), "Time between checks of a downgrade."),
    ]},
    Topic { title: "Unsafe", flags: &[
        flag("force-new-cluster", Bool, "false", Refused("it is not built; restore a snapshot with `catena restore` instead"), "Keep the data and drop all other members."),
        flag("unsafe-no-fsync", Bool, "false", Tuning("acknowledged writes are always synced"), "Do not sync files."),
    ]},
    Topic { title: "Other", flags: &[
        flag("config-file", Text, "", Built, "YAML or JSON file with the settings; all other flags and variables are then ignored."),
        flag("version", Bool, "false", Built, "Print the version and exit."),
    ]},
];

/// Names that are no longer current.
#[rustfmt::skip]
static OLD: &[Flag] = &[
    old_bool("debug", Gone),
    old("experimental-backend-bbolt-freelist-type", Text, Renamed("backend-bbolt-freelist-type")),
    old("log-output", Text, Renamed("log-outputs")),
    old("log-package-levels", Text, Gone),
    old_bool("next-cluster-version-compatible", Gone),
    old_bool("enable-v2", Gone),
    old("experimental-enable-v2v3", Text, Gone),
    flag("proxy", OneOf(&["off", "readonly", "on"]), "off", Refused("the proxy of API v2 is gone"), ""),
    old("proxy-dial-timeout", Text, Gone),
    old("proxy-failure-wait", Text, Gone),
    old("proxy-read-timeout", Text, Gone),
    old("proxy-refresh-interval", Text, Gone),
    old("proxy-write-timeout", Text, Gone),
    old("discovery", Text, NO_DISCOVERY),
    old("discovery-proxy", Text, NO_DISCOVERY),
    old("v2-deprecation", OneOf(&["not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"]), Gone),
    old_bool("experimental-compact-hash-check-enabled", Gate("CompactHashCheck")),
    old_bool("experimental-initial-corrupt-check", Gate("InitialCorruptCheck")),
    old_bool("experimental-enable-lease-checkpoint", Gate("LeaseCheckpoint")),
    old_bool("experimental-enable-lease-checkpoint-persist", Gate("LeaseCheckpointPersist")),
    old_bool("experimental-stop-grpc-service-on-defrag", Gate("StopGRPCServiceOnDefrag")),
    old_bool("experimental-txn-mode-write-with-shared-buffer", Gate("TxnModeWriteWithSharedBuffer")),
    old("experimental-snapshot-catchup-entries", Uint, Renamed("snapshot-catchup-entries")),
    old("experimental-bootstrap-defrag-threshold-megabytes", Uint, Renamed("bootstrap-defrag-threshold-megabytes")),
    old_bool("experimental-memory-mlock", Renamed("memory-mlock")),
    old("experimental-compaction-batch-limit", Int, Renamed("compaction-batch-limit")),
    old("experimental-compaction-sleep-interval", Duration, Renamed("compaction-sleep-interval")),
    old("experimental-corrupt-check-time", Duration, Renamed("corrupt-check-time")),
    old("experimental-compact-hash-check-time", Duration, Renamed("compact-hash-check-time")),
    old("experimental-watch-progress-notify-interval", Duration, Renamed("watch-progress-notify-interval")),
    old("experimental-downgrade-check-time", Duration, Renamed("downgrade-check-time")),
    old_bool("experimental-peer-skip-client-san-verification", Renamed("peer-skip-client-san-verification")),
    old("experimental-warning-apply-duration", Duration, Renamed("warning-apply-duration")),
    old("experimental-warning-unary-request-duration", Duration, Renamed("warning-unary-request-duration")),
    old_bool("experimental-enable-distributed-tracing", Renamed("enable-distributed-tracing")),
    old("experimental-distributed-tracing-address", Text, Renamed("distributed-tracing-address")),
    old("experimental-distributed-tracing-service-name", Text, Renamed("distributed-tracing-service-name")),
    old("experimental-distributed-tracing-instance-id", Text, Renamed("distributed-tracing-instance-id")),
    old("experimental-distributed-tracing-sampling-rate", Int, Renamed("distributed-tracing-sampling-rate")),
    old("cluster-active-size", Ignored, Gone),
    old("cluster-remove-delay", Ignored, Gone),
    old("cluster-sync-interval", Ignored, Gone),
    old("config", Ignored, Gone),
    old("force", Ignored, Gone),
    old("max-result-buffer", Ignored, Gone),
    old("max-retry-attempts", Ignored, Gone),
    old("peer-heartbeat-interval", Ignored, Gone),
    old("peer-election-timeout", Ignored, Gone),
    old("retry-interval", Ignored, Gone),
    old("snapshot", Ignored, Gone),
    old("v", Ignored, Gone),
    old("vv", Ignored, Gone),
    old("test.coverprofile", Ignored, Gone),
    old("test.outputdir", Ignored, Gone),
];

/// Every flag, the old names last.
pub(crate) fn all() -> impl Iterator<Item = &'static Flag> {
    TOPICS.iter().flat_map(|topic| topic.flags).chain(OLD)
}

/// A flag by its name.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    static BY_NAME: LazyLock<std::collections::HashMap<&'static str, &'static Flag>> =
        LazyLock::new(|| all().map(|flag| (flag.name, flag)).collect());
    BY_NAME.get(name).copied()
}

/// The current flag whose name is nearest to `name`, if one is near enough to be what was meant.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    let names = TOPICS
        .iter()
        .flat_map(|topic| topic.flags)
        .map(|flag| flag.name);
    nearest_of(name, names)
}

/// The name that is nearest to `name` among `names`, if one is near enough.
pub(crate) fn nearest_of(
    name: &str,
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let (distance, nearest) = names
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .min()?;
    (distance <= name.len().max(3) / 3).then_some(nearest)
}

/// Levenshtein's distance, in bytes.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "flags_test.rs"]
mod tests;
