//! Log lines in etcd's shape.
//!
//! etcd writes one JSON object a line (zap's production encoding): `level`, `ts` with six decimals, `caller` as directory and file,
//! `msg`, then the fields of the event, whose names have dashes where Rust's have underscores. [`Format::Console`] is zap's other encoding: the same, separated by tabs, fields as JSON.
//!
//! Libraries below us (the ones of HTTP and of Raft) do not know what is normal in a cluster, where peers come and go: their events
//! are written from level warn on, one of each place in ten seconds, and never as errors, so that an error line always is one of ours and means that someone has
//! to act.

mod line;
mod sampling;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::PathBuf,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer,
    filter::Targets,
    layer::{Context, SubscriberExt},
    registry::Registry,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

pub use line::timestamp;

use self::{
    line::Line,
    sampling::{LIBRARY, OURS, Sampler},
};

/// How log lines are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Lowest level that is written.
    pub level: Level,
    /// The shape of a line.
    pub format: Format,
    /// Where lines go: to all of these.
    pub outputs: Vec<Output>,
}

impl Default for LogConfig {
    /// etcd's defaults: JSON from level info on, to stderr.
    fn default() -> Self {
        Self {
            level: Level::INFO,
            format: Format::Json,
            outputs: vec![Output::Stderr],
        }
    }
}

/// The shape of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A JSON object.
    #[default]
    Json,
    /// Columns separated by tabs.
    Console,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// Nowhere.
    Discard,
    /// The end of a file, made if missing.
    File(PathBuf),
}

impl FromStr for Output {
    type Err = std::convert::Infallible;

    /// Reads an element of `--log-outputs`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "default" | "stderr" => Self::Stderr,
            "stdout" => Self::Stdout,
            "/dev/null" => Self::Discard,
            path => Self::File(path.into()),
        })
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A log file cannot be opened.
    #[error("cannot open log file {0}: {1}")]
    File(PathBuf, io::Error),
    /// The process has a subscriber already.
    #[error("logging is already set up")]
    AlreadySet(#[from] TryInitError),
}

/// Changes the lowest level that is written, while lines are written.
#[derive(Clone, Debug)]
pub struct LevelControl {
    targets: reload::Handle<Targets, Registry>,
}

impl LevelControl {
    /// From now on this level and those above are written.
    pub fn set(&self, level: Level) {
        // Fails only once the subscriber is gone, and nothing is written any more.
        let _gone = self.targets.reload(targets(level));
    }
}

/// Makes `config` the logging of the whole process.
pub fn init(config: &LogConfig) -> Result<LevelControl, LogError> {
    let (filter, targets) = reload::Layer::new(targets(config.level));
    let layer = LineLayer::open(config)?.with_filter(filter);
    tracing_subscriber::registry().with(layer).try_init()?;
    Ok(LevelControl { targets })
}

/// What is written at a level: of libraries warnings at most.
fn targets(level: Level) -> Targets {
    let libraries = LevelFilter::from_level(level).min(LevelFilter::WARN);
    Targets::new()
        .with_default(libraries)
        .with_target("catena", level)
}

/// The layer that writes lines.
struct LineLayer {
    format: Format,
    sinks: Mutex<Vec<Sink>>,
    ours: Sampler,
    libraries: Sampler,
}

enum Sink {
    Stderr,
    Stdout,
    File(File),
}

impl LineLayer {
    fn open(config: &LogConfig) -> Result<Self, LogError> {
        let mut sinks = Vec::new();
        for output in &config.outputs {
            match output {
                Output::Stderr => sinks.push(Sink::Stderr),
                Output::Stdout => sinks.push(Sink::Stdout),
                Output::Discard => {}
                Output::File(path) => {
                    let file = OpenOptions::new().create(true).append(true).open(path);
                    sinks.push(Sink::File(
                        file.map_err(|error| LogError::File(path.clone(), error))?,
                    ));
                }
            }
        }
        Ok(Self {
            format: config.format,
            sinks: Mutex::new(sinks),
            ours: Sampler::new(OURS),
            libraries: Sampler::new(LIBRARY),
        })
    }
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let metadata = event.metadata();
        let message = line::message(event);
        let admitted = if line::is_ours(metadata) {
            self.ours.admits(now.as_secs(), &message)
        } else {
            self.libraries
                .admits(now.as_secs(), &line::caller(metadata))
        };
        // Most of a storm ends here, before its fields are looked at.
        if !admitted {
            return;
        }
        let line = Line::new(event, now, &message);
        let text = match self.format {
            Format::Json => line.to_json(),
            Format::Console => line.to_console(),
        };
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        for sink in sinks.iter_mut() {
            let written = match sink {
                Sink::Stderr => io::stderr().write_all(text.as_bytes()),
                Sink::Stdout => io::stdout().write_all(text.as_bytes()),
                Sink::File(file) => file.write_all(text.as_bytes()),
            };
            // A line that cannot be written has no place to complain to.
            drop(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What the events of `body` leave in a log file.
    fn written(format: Format, body: impl FnOnce()) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let layer = LineLayer::open(&LogConfig {
            format,
            outputs: vec![Output::File(path.clone()), Output::Discard],
            ..LogConfig::default()
        });
        let subscriber = tracing_subscriber::registry().with(layer.unwrap());
        tracing::subscriber::with_default(subscriber, body);
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_level_changes_while_lines_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let layer = LineLayer::open(&LogConfig {
            outputs: vec![Output::File(path.clone())],
            ..LogConfig::default()
        });
        let (filter, handle) = reload::Layer::new(targets(Level::WARN));
        let control = LevelControl { targets: handle };
        let subscriber = tracing_subscriber::registry().with(layer.unwrap().with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            let both = |when: &str| {
                tracing::info!(target: "catena_server", "ours {when}");
                tracing::info!(target: "hyper", "theirs {when}");
            };
            both("before");
            control.set(Level::DEBUG);
            both("while");
            control.set(Level::ERROR);
            both("after");
        });
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("ours while"), "{text}");
    }

    #[test]
    fn json_lines_have_the_shape_of_etcds() {
        let text = written(Format::Json, || {
            tracing::info!(
                target: "catena_server",
                local_member_id = "8e9e05c52164694d",
                took = ?std::time::Duration::from_millis(1500),
                count = 3,
                ok = true,
                "published \"local\" member"
            );
        });
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(
            text.starts_with("{\"level\":\"info\",\"ts\":\"20"),
            "{text}"
        );
        assert!(text.ends_with("}\n"));
        assert_eq!(value["msg"], "published \"local\" member");
        assert_eq!(value["local-member-id"], "8e9e05c52164694d");
        assert_eq!(value["took"], "1.5s");
        assert_eq!(value["count"], 3);
        assert_eq!(value["ok"], true);
        let caller = value["caller"].as_str().unwrap();
        assert!(caller.starts_with("telemetry/mod.rs:"), "{caller}");
        assert_eq!(
            value["ts"].as_str().unwrap().len(),
            "2026-01-02T15:04:05.000000Z".len()
        );
    }

    #[test]
    fn console_lines_are_columns() {
        let text = written(Format::Console, || {
            tracing::warn!(target: "catena_server", reason = "x", "slow");
            tracing::warn!(target: "catena_server", "plain");
        });
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split('\t').collect())
            .collect();
        assert_eq!(lines[0][1], "warn");
        assert_eq!(lines[0][3..], ["slow", "{\"reason\":\"x\"}"]);
        assert_eq!(lines[1][3..], ["plain"]);
    }

    #[test]
    fn errors_of_libraries_are_warnings() {
        let text = written(Format::Json, || {
            tracing::error!(target: "openraft::engine", "peer is away");
            tracing::error!(target: "catena_wal", "fsync failed");
        });
        let levels: Vec<_> = text.lines().map(|line| &line[..17]).collect();
        assert_eq!(levels, [r#"{"level":"warn",""#, r#"{"level":"error","#]);
    }

    #[test]
    fn a_library_that_repeats_itself_is_heard_once() {
        let text = written(Format::Json, || {
            for attempt in 0..50 {
                tracing::warn!(target: "openraft::engine", "peer is away, attempt {attempt}");
            }
        });
        // A window of ten seconds may end meanwhile.
        assert!((1..=2).contains(&text.lines().count()), "{text}");
    }
}
