//! What to run next when a member does not start or cannot go on.
//!
//! The error says what is wrong and where; this adds the commands that help, complete, so that they can be copied from the log: for
//! the member's own name, id, URLs and directory, and with the addresses of the members that still run, which are asked for them.
//! Commands stand in backquotes.

use std::{
    fmt::Write,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use catena_raft::{
    identity,
    transport::{self, Cluster},
};
use catena_runtime::Runtime;
use catena_server::{Remedy, ServerConfig};
use catena_store::{Member, backend::Engine};

use crate::version;

/// Time that each other member has to say who is in the cluster. The member has failed already, and its operator waits.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Files whose lock says which process uses a data directory.
const LOCKED: [&str; 2] = ["member/wal/lock", "member/snap/db.redb"];

/// The advice, or nothing where the error has said all.
pub(crate) async fn next(remedy: Remedy, config: &ServerConfig) -> Option<String> {
    let dir = quoted(&config.data_dir);
    Some(match remedy {
        Remedy::AsSaid => return None,
        Remedy::Replace => replace(config).await,
        Remedy::FreeSpace => format!(
            "free space on the file system of the data directory, which `df -h {dir}` shows, and start the member again: it goes on \
             where it stopped"
        ),
        Remedy::CheckDisk => format!(
            "look for the cause in what the system says about the disk of {dir}, with `dmesg`; once it is gone, start the member \
             again: it goes on where it stopped"
        ),
        Remedy::StopOther => stop_other(config),
        Remedy::OtherDirectory => "give this member its own directory with --data-dir; the member that this directory belongs to \
                                   starts from it under its own name and URLs"
            .to_owned(),
        Remedy::OtherVersion => format!(
            "this is catena {}: start the member with the version that wrote the directory, or with a newer one; `catena version` \
             tells the version of a program",
            version::own()
        ),
    })
}

/// How to go on without the data: with the help of the other members, or of a snapshot.
async fn replace(config: &ServerConfig) -> String {
    let others = peers_of_others(config);
    if others.is_empty() {
        return format!(
            "{}; if the cluster has other members, name them in --initial-cluster and start again to be told the commands for that",
            restore(config)
        );
    }
    match transport::discover(&others, ASK_TIMEOUT).await {
        Ok(cluster) => readd(config, &cluster),
        Err(_) => format!(
            "none of {} answers: when a majority of the members runs, start this one again to be told how to replace it; if no \
             majority is left, begin a new cluster from a snapshot, on each member: {}",
            others.join(","),
            restore(config)
        ),
    }
}

fn peers_of_others(config: &ServerConfig) -> Vec<String> {
    let urls = config.initial_cluster.iter().map(|(_, url)| url.clone());
    urls.filter(|url| !config.advertise_peer.contains(url))
        .collect()
}

/// Out of the cluster and in again.
fn readd(config: &ServerConfig, cluster: &Cluster) -> String {
    let own = own_record(config, cluster);
    let others = cluster.members.iter().filter(|member| Some(*member) != own);
    let endpoints: Vec<&str> = others
        .flat_map(|member| &member.client_urls)
        .map(String::as_str)
        .collect();
    let etcdctl = format!("etcdctl --endpoints={}", endpoints.join(","));
    let mut text = "the other members have the data: run ".to_owned();
    if let Some(own) = own {
        push(
            &mut text,
            format_args!("`{etcdctl} member remove {:x}`, ", own.id),
        );
    }
    let member = config.data_dir.join("member");
    if member.exists() {
        push(&mut text, format_args!("`{}`, ", move_aside(&member)));
    }
    let (name, urls) = (quoted(&config.name), config.advertise_peer.join(","));
    push(
        &mut text,
        format_args!(
            "`{etcdctl} member add {name} --peer-urls={urls}`, and start this member as before, but with \
             `--initial-cluster-state=existing`"
        ),
    );
    text
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part)
        .expect("a string takes all that is written");
}

/// The member in its cluster's record: by its id, if its directory still tells it, else by its URLs.
fn own_record<'a>(config: &ServerConfig, cluster: &'a Cluster) -> Option<&'a Member> {
    let identity = identity::read(Runtime::system().disk.as_ref(), &config.data_dir);
    let id = identity
        .ok()
        .flatten()
        .filter(|own| own.cluster_id == cluster.cluster_id)
        .map(|own| own.member_id);
    let by_id = cluster.members.iter().find(|member| Some(member.id) == id);
    by_id.or_else(|| {
        let mut members = cluster.members.iter();
        members.find(|member| {
            let mut urls = member.peer_urls.iter();
            urls.any(|url| config.advertise_peer.contains(url))
        })
    })
}

/// A new cluster from a snapshot file. The name of that file is the one thing that is not known here.
fn restore(config: &ServerConfig) -> String {
    let pairs = config.initial_cluster.iter();
    let cluster: Vec<String> = pairs.map(|(name, url)| format!("{name}={url}")).collect();
    let engine = match config.engine {
        Engine::Sled => " --storage-engine sled",
        Engine::Redb | Engine::Memory => "",
    };
    let aside = match config.data_dir.exists() {
        true => format!("`{}`, ", move_aside(&config.data_dir)),
        false => String::new(),
    };
    format!(
        "run {aside}`catena restore SNAPSHOT --name {} --data-dir {} --initial-cluster {} --initial-cluster-token {} \
         --initial-advertise-peer-urls {}{engine}`, where SNAPSHOT is the latest file that etcdctl snapshot save made, and start \
         this member as before",
        quoted(&config.name),
        quoted(&config.data_dir),
        quoted(cluster.join(",")),
        quoted(&config.token),
        config.advertise_peer.join(","),
    )
}

/// Nothing is thrown away: somebody may want to look at it, or need it after all.
fn move_aside(path: &Path) -> String {
    let aside = |n: u32| match n {
        1 => with_suffix(path, ".damaged"),
        n => with_suffix(path, &format!(".damaged{n}")),
    };
    let free = (1..).map(aside).find(|aside| !aside.exists());
    let free = free.unwrap_or_else(|| aside(1));
    format!("mv {} {}", quoted(path), quoted(free))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    // Without the slash that a user may have put behind it.
    let mut text = path.components().as_path().as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

fn stop_other(config: &ServerConfig) -> String {
    let else_where = "or give this member a directory of its own with --data-dir";
    match LOCKED
        .iter()
        .find_map(|file| holder(&config.data_dir.join(file)))
    {
        Some(pid) => format!("process {pid} has it: stop that one with `kill {pid}`, {else_where}"),
        None => format!(
            "find the process with `fuser {}` and stop it, {else_where}",
            quoted(config.data_dir.join(LOCKED[0]))
        ),
    }
}

/// The process that holds the lock of a file, as Linux lists it; processes of another container are not told.
fn holder(path: &Path) -> Option<u32> {
    let file = fs::metadata(path).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks
        .lines()
        .find_map(|line| holder_in(line, file.ino()))
        .filter(|pid| *pid != std::process::id())
}

/// `1: FLOCK  ADVISORY  WRITE 5120 fd:00:1327 0 EOF`
fn holder_in(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(4);
    let (pid, file) = (words.next()?, words.next()?);
    let (_, found) = file.rsplit_once(':')?;
    (found.parse() == Ok(inode)).then(|| pid.parse().ok())?
}

/// A word as a shell takes it.
fn quoted(word: impl AsRef<Path>) -> String {
    let word = word.as_ref().to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:,@+%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn config(cluster: &str) -> ServerConfig {
        let mut config = ServerConfig::new("a", "/no where/a.etcd/");
        config.initial_cluster = crate::config::cluster_of(cluster);
        config.advertise_peer = vec!["http://a:1".to_owned()];
        config
    }

    #[tokio::test]
    async fn a_single_member_is_told_to_restore() {
        let text = next(Remedy::Replace, &config("a=http://a:1"))
            .await
            .unwrap();
        let command = "`catena restore SNAPSHOT --name a --data-dir '/no where/a.etcd/' --initial-cluster a=http://a:1 \
                       --initial-cluster-token etcd-cluster --initial-advertise-peer-urls http://a:1`";
        assert!(text.contains(command), "{text}");
    }

    #[test]
    fn a_member_of_several_is_told_to_be_added_again_through_the_others() {
        let member = |id: u64, name: &str| Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://{name}:1")],
            client_urls: vec![format!("http://{name}:2")],
            is_learner: false,
        };
        let cluster = Cluster {
            cluster_id: 9,
            members: vec![member(0xa, "a"), member(0xb, "b"), member(0xc, "c")],
            met: BTreeSet::new(),
        };
        let text = readd(&config("a=http://a:1,b=http://b:1"), &cluster);
        let etcdctl = "etcdctl --endpoints=http://b:2,http://c:2";
        assert!(
            text.contains(&format!("`{etcdctl} member remove a`")),
            "{text}"
        );
        let add = format!("`{etcdctl} member add a --peer-urls=http://a:1`");
        assert!(text.contains(&add), "{text}");
        assert!(
            text.contains("`--initial-cluster-state=existing`"),
            "{text}"
        );
    }

    #[test]
    fn what_is_moved_aside_overwrites_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("member");
        let moved = |aside: &str| format!("mv {} {aside}", path.display());
        let first = dir.path().join("member.damaged").display().to_string();
        assert_eq!(move_aside(&path), moved(&first));
        fs::create_dir(&first).unwrap();
        assert_eq!(move_aside(&path), moved(&format!("{first}2")));
    }

    #[test]
    fn the_holder_of_a_lock_is_read_from_the_systems_list() {
        let line = "1: FLOCK  ADVISORY  WRITE 5120 fd:00:1327 0 EOF";
        assert_eq!(holder_in(line, 1327), Some(5120));
        assert_eq!(holder_in(line, 327), None);
        assert_eq!(holder_in("", 1327), None);
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_them() {
        assert_eq!(quoted("/d/m-1.etcd"), "/d/m-1.etcd");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
        assert_eq!(quoted(""), "''");
    }
}
