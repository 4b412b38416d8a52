//! What the machine has to give: ports, files, a disk that keeps what it is told.

use std::{
    fs::File,
    io::{self, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use catena_server::Url;
use rustix::process::{Resource, getrlimit};

use super::Finding;
use crate::run::settings::{Service, Settings, StoreSettings};

/// Files that a process should be able to have open: the connections that its listeners take, and some for itself.
const FILES_MIN: u64 = 16_384;

/// Writes that are measured: enough for a 99th percentile, and done in a second on a disk that is fit.
const WRITES: usize = 100;

/// Bytes of one: about what one round of proposals is in the log.
const WRITE_BYTES: usize = 4096;

/// No longer than this is the disk measured, however slow it is.
const MEASURED_FOR: Duration = Duration::from_secs(5);

/// Above this, elections and leases begin to depend on the disk: etcd's own advice.
const FSYNC_P99_MAX: Duration = Duration::from_millis(10);

/// Every address that would be listened on, with the flag that gives it.
fn addresses(settings: &Settings) -> Vec<(String, &'static str)> {
    let mut all = Vec::new();
    if settings.services.contains(&Service::User) {
        all.push((settings.user.listen.clone(), "--user-listen"));
    }
    if settings.services.contains(&Service::Gateway) {
        all.push((settings.gateway_listen.clone(), "--gateway-listen"));
    }
    if let StoreSettings::Embedded(member) = &settings.store {
        let clients = member
            .server
            .listen_client
            .iter()
            .map(|url| (url, "--listen-client-urls"));
        let peers = member
            .server
            .listen_peer
            .iter()
            .map(|url| (url, "--listen-peer-urls"));
        all.extend(clients.chain(peers).filter_map(|(url, flag)| match url {
            Url::Http { host, port } => Some((format!("{host}:{port}"), flag)),
            _ => None,
        }));
    }
    all
}

/// Whether every port can be listened on.
pub(super) fn ports(settings: &Settings) -> Vec<Finding> {
    let find = |(address, flag): (String, &str)| match TcpListener::bind(&address) {
        Ok(_listener) => Finding::good("port", format!("{address} is free")),
        Err(error) => port_taken(&address, flag, &error),
    };
    addresses(settings).into_iter().map(find).collect()
}

fn port_taken(address: &str, flag: &str, error: &io::Error) -> Finding {
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "`ss -ltnp 'sport = :{port}'` shows who listens there: stop that, or give another address with {flag}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 need a right of their own: give a higher one with {flag}")
        }
        _ => format!("give an address of this machine with {flag}; `ip address` lists them"),
    };
    Finding::bad(
        "port",
        format!("cannot listen on {address}: {error}"),
        remedy,
    )
}

/// Whether enough files can be open at once.
pub(super) fn files() -> Finding {
    files_of(getrlimit(Resource::Nofile).current)
}

/// No limit is `None`.
fn files_of(limit: Option<u64>) -> Finding {
    match limit {
        Some(limit) if limit < FILES_MIN => Finding::doubtful(
            "file limit",
            format!("{limit} open files, which is also the most connections"),
            format!(
                "`ulimit -n {FILES_MIN}` before the start, or LimitNOFILE={FILES_MIN} in the unit of systemd"
            ),
        ),
        Some(limit) => Finding::good("file limit", format!("{limit} open files")),
        None => Finding::good("file limit", "none"),
    }
}

/// The directory whose disk matters: the member's, or that of the users' SQLite file. It need not exist yet.
pub(super) fn directory(settings: &Settings) -> Option<PathBuf> {
    if let StoreSettings::Embedded(member) = &settings.store {
        return Some(member.server.data_dir.clone());
    }
    let file = settings.user.database.strip_prefix("sqlite:")?;
    let file = file.trim_start_matches("//").split('?').next()?;
    let runs = settings.services.contains(&Service::User);
    (runs && file != ":memory:")
        .then(|| Path::new(file).parent().unwrap_or(Path::new("")).to_owned())
}

/// How long the disk takes until a write is safe.
pub(super) fn disk(dir: &Path) -> Finding {
    let existing = dir.ancestors().find(|dir| dir.is_dir());
    // The parent of a name alone is empty, and means the current directory.
    let existing = existing.unwrap_or(Path::new("."));
    match measure(existing) {
        Ok(times) => disk_of(existing, times),
        Err(error) => Finding::bad(
            "disk",
            format!("cannot write in {}: {error}", existing.display()),
            "give a directory that can be written to: --data-dir for a member, --user-database for the users",
        ),
    }
}

fn measure(dir: &Path) -> io::Result<Vec<Duration>> {
    let mut file: File = tempfile::tempfile_in(dir)?;
    let (begin, block) = (Instant::now(), [0x5a; WRITE_BYTES]);
    let mut times = Vec::with_capacity(WRITES);
    while times.len() < WRITES && begin.elapsed() < MEASURED_FOR {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn disk_of(dir: &Path, mut times: Vec<Duration>) -> Finding {
    times.sort_unstable();
    let place = (times.len() * 99).div_ceil(100).saturating_sub(1);
    let p99 = times.get(place).copied().unwrap_or(MEASURED_FOR);
    let millis = p99.as_secs_f64() * 1000.0;
    let seen = format!("fsync p99 {millis:.2} ms in {}", dir.display());
    if p99 <= FSYNC_P99_MAX {
        return Finding::good("disk", seen);
    }
    let max = FSYNC_P99_MAX.as_millis();
    Finding::doubtful(
        "disk",
        seen,
        format!(
            "above {max} ms leases and elections wait for the disk: put the directory on a local SSD, keep other writers off it, or \
             raise --heartbeat-interval and --election-timeout of all members"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn a_port_in_use_is_named_with_its_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = TcpListener::bind(&address).unwrap_err();
        let found = port_taken(&address, "--user-listen", &error);
        assert_eq!(found.verdict, Verdict::Bad);
        let remedy = found.remedy.unwrap();
        assert!(
            remedy.contains("ss -ltnp") && remedy.contains("--user-listen"),
            "{remedy}"
        );
    }

    #[test]
    fn a_low_limit_of_files_is_doubtful() {
        assert_eq!(files_of(Some(1024)).verdict, Verdict::Doubtful);
        assert_eq!(files_of(Some(FILES_MIN)).verdict, Verdict::Good);
        assert_eq!(files_of(None).verdict, Verdict::Good);
    }

    #[test]
    fn a_slow_disk_is_doubtful() {
        let dir = Path::new("/d");
        let mut times = vec![Duration::from_millis(1); WRITES];
        times[0] = Duration::from_secs(1);
        assert_eq!(disk_of(dir, times.clone()).verdict, Verdict::Good);
        times[1] = Duration::from_millis(20);
        let found = disk_of(dir, times);
        assert_eq!(found.verdict, Verdict::Doubtful);
        assert!(found.seen.contains("20.00 ms"), "{}", found.seen);
        // So slow that nothing was measured in time.
        assert_eq!(disk_of(dir, Vec::new()).verdict, Verdict::Doubtful);
    }

    #[test]
    fn a_disk_is_measured_where_the_directory_will_be() {
        let dir = tempfile::tempdir().unwrap();
        let found = disk(&dir.path().join("not/yet"));
        assert!(
            found.seen.contains(&dir.path().display().to_string()),
            "{found:?}"
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = disk(Path::new("/proc/x"));
        assert_eq!(nowhere.verdict, Verdict::Bad);
    }
}
