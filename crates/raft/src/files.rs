//! Whether what lies in a data directory belongs together.
//!
//! A member that starts without a part of its log has forgotten votes and entries that it acknowledged, and must not take part.

use std::{collections::BTreeMap, path::Path};

use catena_runtime::Disk;
use catena_store::{Member, Position};
use catena_wal::Recovered;

use crate::{
    Expected, Remedy, StartError,
    identity::{Identity, Layout},
};

/// How the names of the log's segments end.
const SEGMENT: &str = ".wal";

fn refuse(path: &Path, what: &str) -> StartError {
    StartError::DataDir {
        path: path.to_owned(),
        what: format!(
            "{what}: entries and votes that this member acknowledged may be lost, so it must not start from this directory"
        ),
        remedy: Remedy::Replace,
    }
}

/// Refuses a directory that has log or state and no identity: it is made before them, and a restore writes it last.
pub(crate) fn check_identity(disk: &dyn Disk, layout: &Layout) -> Result<(), StartError> {
    let holds = |dir: &Path| disk.list(dir).is_ok_and(|names| !names.is_empty());
    match holds(&layout.wal()) || holds(&layout.snap()) {
        true => Err(StartError::DataDir {
            path: layout.identity(),
            what: "the file is missing, although log or applied state are there: it was lost, or a restore was interrupted".to_owned(),
            remedy: Remedy::Replace,
        }),
        false => Ok(()),
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

/// Refuses the directory of another member: one whose own record has neither the name nor a URL of the member that is started. A
/// member that was renamed or has moved still has one of the two. And refuses that of another cluster: of several members that are
/// expected, it knows none.
pub(crate) fn check_owner(
    layout: &Layout,
    identity: &Identity,
    recorded: &BTreeMap<u64, Member>,
    expected: &Expected,
) -> Result<(), StartError> {
    let Some(own) = recorded.get(&identity.member_id) else {
        return Ok(());
    };
    let refuse = |what: &str| {
        Err(StartError::DataDir {
            path: layout.identity(),
            what: format!(
                "the data directory is that of member {:x} of cluster {:x}, which has the name {:?} and the peer URLs {}: {what}",
                identity.member_id,
                identity.cluster_id,
                own.name,
                own.peer_urls.join(","),
            ),
            remedy: Remedy::OtherDirectory,
        })
    };
    let shares =
        |urls: &[String], member: &Member| member.peer_urls.iter().any(|url| urls.contains(url));
    if !own.name.is_empty() && own.name != expected.name && !shares(&expected.peer_urls, own) {
        return refuse(&format!(
            "not that of {:?} with {}",
            expected.name,
            expected.peer_urls.join(",")
        ));
    }
    let several = expected.cluster_urls.len() > expected.peer_urls.len();
    if several
        && !recorded
            .values()
            .any(|member| shares(&expected.cluster_urls, member))
    {
        return refuse("none of the peer URLs of --initial-cluster belongs to that cluster");
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

    /// Whether a directory of member 1, "a" at http://a:1 in a cluster with http://b:1, may be started so.
    fn owner(name: &str, url: &str, cluster: &[&str]) -> bool {
        let member = |id: u64, name: &str| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://{name}:1")],
            ..Member::default()
        };
        let recorded = BTreeMap::from([(1, member(1, "a")), (2, member(2, "b"))]);
        let identity = Identity {
            cluster_id: 9,
            member_id: 1,
            incarnation: 7,
        };
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect();
        let expected = Expected {
            name: name.to_owned(),
            peer_urls: urls(&[url]),
            cluster_urls: urls(cluster),
        };
        check_owner(
            &Layout::new(Path::new("/d")),
            &identity,
            &recorded,
            &expected,
        )
        .is_ok()
    }

    #[test]
    fn directory_of_another_member_is_refused_and_a_moved_one_is_not() {
        let cluster = ["http://a:1", "http://b:1"];
        assert!(owner("a", "http://a:1", &cluster));
        assert!(owner("renamed", "http://a:1", &cluster));
        assert!(owner(
            "a",
            "http://moved:1",
            &["http://moved:1", "http://b:1"]
        ));
        assert!(owner("a", "http://moved:1", &["http://moved:1"]));
        assert!(!owner("b", "http://b:1", &cluster));
        assert!(!owner("c", "http://c:1", &["http://c:1"]));
        assert!(!owner("a", "http://x:1", &["http://x:1", "http://y:1"]));
    }

    #[test]
    fn log_without_an_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir_all(layout.wal()).unwrap();
        assert!(check_identity(&SystemDisk, &layout).is_ok());
        std::fs::write(layout.wal().join("1.wal"), "x").unwrap();
        let refused = check_identity(&SystemDisk, &layout).unwrap_err();
        assert_eq!(refused.remedy(), Remedy::Replace);
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
