//! Whether what lies in a data directory belongs together.
//!
//! A member that starts without a part of its log has forgotten votes and entries that it acknowledged, and must not take part.

use std::path::Path;

use catena_runtime::Disk;
use catena_store::Position;
use catena_wal::Recovered;

use crate::{StartError, identity::Layout};

/// How the names of the log's segments end.
const SEGMENT: &str = ".wal";

/// What to do about a member that has lost a part of its files.
const REMEDY: &str = "put the files back, or remove the member from the cluster (`etcdctl member remove`), empty its data directory \
                      and add it again (`etcdctl member add`); a cluster of one member: restore a backup";

fn refuse(path: &Path, what: &str) -> StartError {
    StartError::DataDir {
        path: path.to_owned(),
        what: format!(
            "{what}: entries and votes that this member acknowledged may be lost; {REMEDY}"
        ),
    }
}

/// Refuses a directory that has an engine and no log. The log is made first, so a start that was interrupted leaves no such thing.
pub(crate) fn check_log(disk: &dyn Disk, layout: &Layout) -> Result<(), StartError> {
    let has_engine = disk
        .list(&layout.snap())
        .is_ok_and(|names| !names.is_empty());
    let has_log = disk
        .list(&layout.wal())
        .is_ok_and(|names| names.iter().any(|name| name.ends_with(SEGMENT)));
    match has_engine && !has_log {
        true => Err(refuse(&layout.wal(), "the log is missing")),
        false => Ok(()),
    }
}

/// Refuses a log that does not begin where it was purged or has no vote, and an engine that is behind it.
pub(crate) fn check_fit(
    layout: &Layout,
    log: &Recovered,
    applied: Option<Position>,
) -> Result<(), StartError> {
    let begin = log.purge.as_ref().map_or(0, |(upto, _)| upto + 1);
    if log.first.is_some_and(|first| first != begin) {
        return Err(refuse(&layout.wal(), "the log has lost its beginning"));
    }
    // Nothing is applied that no leader sent, and a leader's vote is noted first.
    if applied.is_some() && log.vote.is_none() {
        return Err(refuse(&layout.wal(), "the log has lost its vote"));
    }
    let next = applied.map_or(0, |applied| applied.index + 1);
    if next < begin {
        return Err(refuse(
            &layout.snap(),
            "the applied state is missing, and the log behind it was dropped",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use catena_runtime::SystemDisk;

    use super::*;

    fn fit(purge: Option<u64>, first: Option<u64>, applied: Option<u64>) -> bool {
        let log = Recovered {
            vote: Some(Bytes::new()),
            purge: purge.map(|upto| (upto, Bytes::new())),
            first,
            ..Recovered::default()
        };
        let applied = applied.map(|index| Position { term: 1, index });
        check_fit(&Layout::new(Path::new("/d")), &log, applied).is_ok()
    }

    #[test]
    fn log_and_engine_must_meet() {
        assert!(fit(None, None, None));
        assert!(fit(None, Some(0), None));
        assert!(fit(None, Some(0), Some(7)));
        assert!(fit(Some(5), Some(6), Some(5)));
        assert!(fit(Some(5), None, Some(5)));
        assert!(!fit(Some(5), Some(6), Some(4)));
        assert!(!fit(Some(5), Some(6), None));
        assert!(!fit(Some(5), Some(8), Some(9)));
        assert!(!fit(None, Some(3), Some(9)));
        let applied = Some(Position { term: 1, index: 0 });
        let blank = Recovered::default();
        let layout = Layout::new(Path::new("/d"));
        assert!(check_fit(&layout, &blank, None).is_ok());
        assert!(check_fit(&layout, &blank, applied).is_err());
    }

    #[test]
    fn engine_without_a_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert!(check_log(&SystemDisk, &layout).is_ok());
        std::fs::create_dir_all(layout.snap()).unwrap();
        std::fs::create_dir_all(layout.wal()).unwrap();
        assert!(check_log(&SystemDisk, &layout).is_ok());
        std::fs::write(layout.snap().join("db.redb"), "x").unwrap();
        let refused = check_log(&SystemDisk, &layout).unwrap_err();
        assert!(refused.to_string().contains("the log is missing"));
        std::fs::write(layout.wal().join("1.wal"), "x").unwrap();
        assert!(check_log(&SystemDisk, &layout).is_ok());
    }
}
