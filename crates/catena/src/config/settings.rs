//! From flags to what a member is started with.

use std::{path::PathBuf, time::Duration};

use catena_server::{AutoCompaction, InitialState, MetricsDetail, ServerConfig, Url};
use catena_store::backend::Engine;
use catena_telemetry::log::{Format, LogConfig, Output};
use tracing::Level;

use super::{flags, host, notice::Notice, syntax, validate, values::Values};

/// All that `catena server` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) server: ServerConfig,
    pub(crate) log: LogConfig,
    /// What is to be logged first.
    pub(crate) notices: Vec<Notice>,
}

/// Checks the values and turns them into settings. The error is one sentence for the user.
pub(crate) fn settings(mut values: Values) -> Result<Settings, String> {
    let mut notices = std::mem::take(&mut values.notices);
    validate::validate(&values, &mut notices)?;
    let server = server(&values, &mut notices)?;
    let log = log(&values)?;
    Ok(Settings {
        server,
        log,
        notices,
    })
}

fn server(values: &Values, notices: &mut Vec<Notice>) -> Result<ServerConfig, String> {
    let name = values.text("name").to_owned();
    let listen_peer = values.urls("listen-peer-urls");
    let listen_client = values.urls("listen-client-urls");
    let advertised = Advertised::resolve(values, &listen_peer, &listen_client, notices);
    let mut config = ServerConfig::new(name, data_dir(values, notices));
    config.listen_peer = listen_peer;
    config.listen_client = listen_client;
    config.listen_client_http = values.urls("listen-client-http-urls");
    config.listen_metrics = values.urls("listen-metrics-urls");
    config.advertise_peer = advertised.peer;
    config.advertise_client = advertised.client;
    config.initial_cluster = syntax::cluster_of(&advertised.cluster);
    config.initial_state = match values.text("initial-cluster-state") {
        "existing" => InitialState::Existing,
        _ => InitialState::New,
    };
    config.token = values.text("initial-cluster-token").to_owned();
    config.snapshot_count = values.uint("snapshot-count");
    config.catchup_entries = values.uint("snapshot-catchup-entries");
    config.heartbeat = Duration::from_millis(values.uint("heartbeat-interval"));
    config.election = Duration::from_millis(values.uint("election-timeout"));
    config.pre_vote = values.bool("pre-vote");
    config.strict_reconfig = values.bool("strict-reconfig-check");
    config.max_learners = count(values.int("max-learners"));
    config.quota_bytes = values.int("quota-backend-bytes");
    config.max_request_bytes = size(values.uint("max-request-bytes"));
    config.max_txn_ops = size(values.uint("max-txn-ops"));
    config.max_concurrent_streams =
        u32::try_from(values.uint("max-concurrent-streams")).unwrap_or(u32::MAX);
    config.keepalive_interval = values.duration("grpc-keepalive-interval");
    config.keepalive_timeout = values.duration("grpc-keepalive-timeout");
    config.auto_compaction = auto_compaction(values)?;
    config.compaction_batch_limit = count(values.int("compaction-batch-limit"));
    config.compaction_pause = values.duration("compaction-sleep-interval");
    config.watch_progress_interval = values.duration("watch-progress-notify-interval");
    config.warning_unary_duration = values.duration("warning-unary-request-duration");
    config.metrics = match values.text("metrics") {
        "extensive" => MetricsDetail::Extensive,
        _ => MetricsDetail::Basic,
    };
    config.engine = match values.text("storage-engine") {
        "sled" => Engine::Sled,
        _ => Engine::Redb,
    };
    Ok(config)
}

/// A number that etcd keeps as a signed one, although none below zero makes sense.
fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn data_dir(values: &Values, notices: &mut Vec<Notice>) -> PathBuf {
    match values.text("data-dir") {
        "" => {
            let data_dir = format!("{}.etcd", values.text("name"));
            notices.push(Notice::DefaultDataDir {
                data_dir: data_dir.clone(),
            });
            data_dir.into()
        }
        dir => dir.into(),
    }
}

/// What the member tells others, after etcd's rules for what was not said.
#[derive(Debug, PartialEq, Eq)]
struct Advertised {
    peer: Vec<String>,
    client: Vec<String>,
    cluster: String,
}

impl Advertised {
    /// A member that listens on 0.0.0.0 and was not told what to advertise advertises the address of the default route. A member
    /// that was only told its name is a cluster of its own under that name.
    fn resolve(
        values: &Values,
        listen_peer: &[Url],
        listen_client: &[Url],
        notices: &mut Vec<Notice>,
    ) -> Self {
        let peer = advertised(values, "initial-advertise-peer-urls", listen_peer, notices);
        let client = advertised(values, "advertise-client-urls", listen_client, notices);
        let name = values.text("name");
        let given = values.text("initial-cluster");
        let cluster = match name != "default" && given == default_of("initial-cluster") {
            true => {
                let pairs: Vec<String> = peer.iter().map(|url| format!("{name}={url}")).collect();
                pairs.join(",")
            }
            false => given.to_owned(),
        };
        Self {
            peer,
            client,
            cluster,
        }
    }
}

fn default_of(name: &str) -> &'static str {
    flags::find(name).map_or("", |flag| flag.default)
}

fn advertised(
    values: &Values,
    flag: &'static str,
    listen: &[Url],
    notices: &mut Vec<Notice>,
) -> Vec<String> {
    let texts: Vec<String> = values.urls(flag).iter().map(Url::to_string).collect();
    let port = match listen.first() {
        Some(Url::Http { host, port }) if host == "0.0.0.0" => *port,
        _ => return texts,
    };
    if texts != [default_of(flag)] {
        return texts;
    }
    let Some(host) = host::of_default_route() else {
        notices.push(Notice::NoDefaultHost);
        return texts;
    };
    notices.push(Notice::DefaultHost { host: host.clone() });
    vec![Url::http(host, port).to_string()]
}

/// What `--auto-compaction-mode` and `--auto-compaction-retention` say together. As in etcd a bare number means hours or revisions,
/// and anything else is a duration, whose nanoseconds count as revisions where revisions are wanted.
pub(crate) fn auto_compaction(values: &Values) -> Result<Option<AutoCompaction>, String> {
    let periodic = match values.text("auto-compaction-mode") {
        "periodic" => true,
        "revision" => false,
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        other => return Err(format!("unknown auto-compaction-mode \"{other}\"")),
    };
    let text = values.text("auto-compaction-retention");
    let number = text.parse::<u32>();
    let retained = match &number {
        Ok(number) => i64::from(*number),
        Err(_) => syntax::nanos_of(text).ok_or_else(|| {
            format!("error parsing CompactionRetention: time: invalid duration \"{text}\"")
        })?,
    };
    let retained = u64::try_from(retained).unwrap_or(0);
    Ok(match (retained, periodic) {
        (0, _) => None,
        (retained, true) if number.is_ok() => Some(AutoCompaction::Periodic(Duration::from_secs(
            3600 * retained,
        ))),
        (retained, true) => Some(AutoCompaction::Periodic(Duration::from_nanos(retained))),
        (retained, false) => Some(AutoCompaction::Revision(retained.cast_signed())),
    })
}

fn log(values: &Values) -> Result<LogConfig, String> {
    let mut outputs = Vec::new();
    for text in validate::log_outputs(values) {
        if text == "systemd/journal" {
            return Err("--log-outputs=systemd/journal is refused: under systemd stderr goes to the journal already".to_owned());
        }
        let Ok(output) = text.parse::<Output>();
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    Ok(LogConfig {
        level: log_level(values.text("log-level"))?,
        format: match values.text("log-format") {
            "console" => Format::Console,
            _ => Format::Json,
        },
        outputs,
    })
}

/// The levels above error do not exist here: what etcd writes as panic or fatal is an error line before the exit.
pub(crate) fn log_level(text: &str) -> Result<Level, String> {
    match text {
        "debug" => Ok(Level::DEBUG),
        "info" | "" => Ok(Level::INFO),
        "warn" => Ok(Level::WARN),
        "error" | "dpanic" | "panic" | "fatal" => Ok(Level::ERROR),
        other => Err(format!("unrecognized level: \"{other}\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn read(arguments: &[&str]) -> Settings {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        settings(parse::command_line(&arguments).unwrap().values).unwrap()
    }

    fn pair(name: &str, url: &str) -> (String, String) {
        (name.to_owned(), url.to_owned())
    }

    #[test]
    fn nothing_given_is_etcds_default_member() {
        let settings = read(&[]);
        assert_eq!(
            settings.server,
            ServerConfig::new("default", "default.etcd")
        );
        assert_eq!(settings.log, LogConfig::default());
    }

    #[test]
    fn a_name_alone_makes_a_cluster_under_that_name() {
        let server = read(&["--name", "a"]).server;
        assert_eq!(server, ServerConfig::new("a", "a.etcd"));
        assert_eq!(server.initial_cluster, [pair("a", "http://localhost:2380")]);
        let peers = "http://10.0.0.1:2380,http://10.0.0.1:7001";
        let server = read(&["--name", "a", "--initial-advertise-peer-urls", peers]).server;
        assert_eq!(
            server.initial_cluster,
            [
                pair("a", "http://10.0.0.1:2380"),
                pair("a", "http://10.0.0.1:7001")
            ]
        );
    }

    #[test]
    fn every_setting_of_the_member_can_be_set() {
        let flags = "--name=a --data-dir=d --listen-peer-urls=http://127.0.0.1:1 \
            --listen-client-urls=http://127.0.0.1:2 --listen-client-http-urls=http://127.0.0.1:3 \
            --listen-metrics-urls=http://127.0.0.1:4 --initial-advertise-peer-urls=http://p:1 \
            --advertise-client-urls=http://c:2 --initial-cluster=a=http://p:1,b=http://q:1 \
            --initial-cluster-state=existing --initial-cluster-token=t --snapshot-count=12 --snapshot-catchup-entries=13 \
            --heartbeat-interval=10 \
            --election-timeout=50 --pre-vote=false --strict-reconfig-check=false --max-learners=2 \
            --quota-backend-bytes=-1 --max-request-bytes=7 --max-txn-ops=8 --max-concurrent-streams=9 \
            --grpc-keepalive-interval=1s --grpc-keepalive-timeout=2s --auto-compaction-mode=revision \
            --auto-compaction-retention=1000 --compaction-batch-limit=11 --compaction-sleep-interval=2s \
            --watch-progress-notify-interval=3s --warning-unary-request-duration=4s --metrics=extensive \
            --storage-engine=sled";
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let url = |port| vec![Url::http("127.0.0.1", port)];
        let expected = ServerConfig {
            name: "a".to_owned(),
            data_dir: "d".into(),
            listen_client: url(2),
            listen_client_http: url(3),
            listen_metrics: url(4),
            listen_peer: url(1),
            advertise_client: vec!["http://c:2".to_owned()],
            advertise_peer: vec!["http://p:1".to_owned()],
            initial_cluster: vec![pair("a", "http://p:1"), pair("b", "http://q:1")],
            initial_state: InitialState::Existing,
            token: "t".to_owned(),
            snapshot_count: 12,
            catchup_entries: 13,
            heartbeat: Duration::from_millis(10),
            election: Duration::from_millis(50),
            pre_vote: false,
            strict_reconfig: false,
            max_learners: 2,
            quota_bytes: -1,
            max_request_bytes: 7,
            max_txn_ops: 8,
            max_concurrent_streams: 9,
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            auto_compaction: Some(AutoCompaction::Revision(1000)),
            compaction_batch_limit: 11,
            compaction_pause: Duration::from_secs(2),
            watch_progress_interval: Duration::from_secs(3),
            warning_unary_duration: Duration::from_secs(4),
            metrics: MetricsDetail::Extensive,
            engine: Engine::Sled,
        };
        assert_eq!(read(&flags).server, expected);
    }

    #[test]
    fn listening_everywhere_advertises_the_default_route_unless_told_otherwise() {
        let flags = ["--listen-peer-urls", "http://0.0.0.0:7", "--name", "a"];
        let settings = read(&flags);
        let found = settings.notices.iter().find_map(|notice| match notice {
            Notice::DefaultHost { host } => Some(host.clone()),
            _ => None,
        });
        // A machine without a default route keeps localhost.
        let expected = match &found {
            Some(host) => Url::http(host.clone(), 7).to_string(),
            None => "http://localhost:2380".to_owned(),
        };
        assert_eq!(
            settings.server.advertise_peer,
            std::slice::from_ref(&expected)
        );
        assert_eq!(settings.server.initial_cluster, [pair("a", &expected)]);
        let told = [&flags[..], &["--initial-advertise-peer-urls", "http://x:7"]].concat();
        assert_eq!(read(&told).server.advertise_peer, ["http://x:7"]);
    }

    #[test]
    fn retention_is_hours_or_a_duration_or_revisions() {
        let hour = Duration::from_secs(3600);
        for (mode, retention, expected) in [
            ("periodic", "0", None),
            ("periodic", "2", Some(AutoCompaction::Periodic(2 * hour))),
            ("periodic", "30m", Some(AutoCompaction::Periodic(hour / 2))),
            ("periodic", "-1h", None),
            ("revision", "0", None),
            ("revision", "500", Some(AutoCompaction::Revision(500))),
        ] {
            let mode = format!("--auto-compaction-mode={mode}");
            let retention = format!("--auto-compaction-retention={retention}");
            assert_eq!(read(&[&mode, &retention]).server.auto_compaction, expected);
        }
    }

    #[test]
    fn logs_go_where_and_as_they_are_told() {
        let flags = [
            "--log-level=warn",
            "--log-format=console",
            "--log-outputs=stdout,/tmp/a.log",
        ];
        assert_eq!(
            read(&flags).log,
            LogConfig {
                level: Level::WARN,
                format: Format::Console,
                outputs: vec![Output::Stdout, Output::File("/tmp/a.log".into())],
            }
        );
    }
}
