//! What a member that ended had to say, read from the end of its log.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::ExitStatus,
};

use serde_json::Value;

/// How much of a log's end is looked at: the last error stands close to it, unless the member went on for long.
const TAIL_BYTES_MAX: u64 = 64 << 10;

/// The levels that are worth telling.
const LEVELS: [&str; 4] = ["error", "dpanic", "panic", "fatal"];

/// Fields in which a line says what happened, the first one that it has.
const REASONS: [&str; 2] = ["error", "reason"];

/// The field in which a line says what to run next.
const NEXT: &str = "next";

/// Words of an error after which another start ends the same way until the user has done something. The log is all that a member
/// leaves behind, and etcd's one exit code for all failures has no room for the difference.
const FINAL: [&str; 4] = [
    "removed from the cluster",
    "refused by the cluster",
    "member has lost its data",
    "no member of the running cluster has the peer URLs",
];

/// What the log says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LastWords {
    /// The member was removed from the cluster, or is refused by it, for this reason.
    Out(String),
    /// The last error.
    Error(String),
    /// Nothing, or the log cannot be read.
    None,
}

/// The last words in `log`, of which the first `from` bytes are of earlier runs.
pub(super) fn of(log: &Path, from: u64, status: ExitStatus) -> LastWords {
    if status.success() {
        // The only end that is a success without having been asked for; see `member`.
        return LastWords::Out("it was removed from the cluster".to_owned());
    }
    let error = tail(log, from).ok().and_then(|tail| last_error(&tail));
    match error {
        Some(error) if FINAL.iter().any(|words| error.contains(words)) => LastWords::Out(error),
        Some(error) => LastWords::Error(error),
        None => LastWords::None,
    }
}

fn tail(log: &Path, from: u64) -> io::Result<String> {
    let mut log = File::open(log)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(
        from.max(length.saturating_sub(TAIL_BYTES_MAX)),
    ))?;
    let mut bytes = Vec::new();
    log.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The message of the last line of such a level, with its reason and what to run next if it has them. Lines that are no JSON are passed over, as is a line
/// that the tail begins in the middle of.
fn last_error(tail: &str) -> Option<String> {
    tail.lines().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        if !LEVELS.contains(&text("level")?) {
            return None;
        }
        let message = text("msg")?;
        let reason = REASONS.into_iter().find_map(text);
        let parts = [Some(message), reason, text(NEXT)];
        let parts: Vec<&str> = parts.into_iter().flatten().collect();
        Some(parts.join(": "))
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::process::ExitStatusExt};

    use super::*;

    const OLD: &str = r#"{"level":"error","msg":"old","error":"of an earlier run"}"#;
    const FULL: &str = r#"{"level":"error","ts":"1","caller":"a:1","msg":"the member cannot go on","error":"log failed: disk full"}"#;
    const INFO: &str = r#"{"level":"info","ts":"2","caller":"a:2","msg":"closing"}"#;
    const WIPED: &str = r#"{"level":"error","msg":"failed to start","error":"member has lost its data","next":"run …"}"#;

    fn words(lines: &[&str], exit_code: i32) -> LastWords {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let before = format!("{OLD}\n");
        fs::write(&path, format!("{before}{}", lines.join("\n"))).unwrap();
        of(
            &path,
            before.len() as u64,
            ExitStatus::from_raw(exit_code << 8),
        )
    }

    #[test]
    fn the_last_error_of_this_run_is_found_among_other_lines() {
        let full = "the member cannot go on: log failed: disk full".to_owned();
        assert_eq!(
            words(&[FULL, INFO, "thread panicked"], 1),
            LastWords::Error(full)
        );
        assert_eq!(words(&[INFO], 1), LastWords::None);
        assert_eq!(words(&[], 1), LastWords::None);
    }

    #[test]
    fn a_removed_or_refused_member_is_out() {
        let wiped = "failed to start: member has lost its data: run …".to_owned();
        assert_eq!(words(&[WIPED, INFO], 1), LastWords::Out(wiped));
        let removed = "it was removed from the cluster".to_owned();
        assert_eq!(words(&[INFO], 0), LastWords::Out(removed));
    }

    #[test]
    fn the_tail_of_a_long_log_is_enough() {
        let long = vec![INFO; 2000];
        assert_eq!(words(&[&[FULL], &long[..]].concat(), 1), LastWords::None);
        assert!(matches!(
            words(&[&long[..], &[FULL]].concat(), 1),
            LastWords::Error(_)
        ));
    }

    #[test]
    fn a_log_that_cannot_be_read_says_nothing() {
        let path = Path::new("/nonexistent/log");
        assert_eq!(of(path, 0, ExitStatus::from_raw(256)), LastWords::None);
    }
}
