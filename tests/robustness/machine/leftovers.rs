//! Whether a test process left anything on the machine.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    MARK,
    command::{at_end, run},
    net::{OWNERS, down},
    tool,
};

/// Where groups of processes are, in both versions of the interface.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu"];

/// Where name spaces of the network are.
const SPACES: &str = "/run/netns";

/// What is left of this process's runs: mounts, loop devices, name spaces of the network, processes on its files, groups of
/// processes. Nothing, if every guard did its work.
pub(crate) async fn leftovers() -> Vec<String> {
    let mark = format!("{MARK}{}-", process::id());
    let spaces = format!("f{}x", process::id() % OWNERS);
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let loops = run(&["losetup", "-a"]).await.unwrap_or_default();
    let nets = run(&["ip", "netns", "list"]).await.unwrap_or_default();
    let mut left: Vec<String> = Vec::new();
    let mut add = |what: &str, text: &str, mark: &str| {
        let lines = text.lines().filter(|line| line.contains(mark));
        left.extend(lines.map(|line| format!("{what}: {line}")));
    };
    add("mount", &mounts, &mark);
    add("loop device", &loops, &mark);
    add("network", &nets, &spaces);
    let processes = command_lines().into_iter();
    let processes: Vec<_> = processes.map(|(_, line)| line).collect();
    add("process", &processes.join("\n"), &mark);
    add("group of processes", &groups(), &mark);
    left
}

/// Removes what runs left whose process was killed before it could clean up: first the members, which may hold everything else.
pub(crate) fn sweep() {
    for (pid, owner) in members() {
        eprintln!("killing process {pid}, a member that process {owner} left");
        // It may have ended meanwhile.
        let _gone = kill_process(pid, Signal::KILL);
    }
    for name in networks() {
        eprintln!("removing the network {name}, which nobody owns any more");
        down(&name);
    }
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if let (Some(owner), Some(dir)) = (dead_owner(mount), Path::new(mount).parent()) {
            eprintln!("removing what process {owner} left: {}", dir.display());
            let script = tool("powercut.sh");
            at_end(&[script.as_os_str(), "remove".as_ref(), dir.as_os_str()]);
        }
    }
    let in_tmp = entries(&env::temp_dir());
    for dir in in_tmp.filter(|path| dead_owner(&path.to_string_lossy()).is_some()) {
        if let Err(error) = fs::remove_dir_all(&dir) {
            eprintln!("{}: {error}", dir.display());
        }
    }
    let groups = GROUPS.into_iter().flat_map(|dir| entries(Path::new(dir)));
    for group in groups.filter(|path| dead_owner(&path.to_string_lossy()).is_some()) {
        if let Err(error) = fs::remove_dir(&group) {
            eprintln!("{}: {error}", group.display());
        }
    }
}

/// The process that made something, by its mark, if that runs no longer.
fn dead_owner(name: &str) -> Option<&str> {
    let (_, rest) = name.split_once(MARK)?;
    let (owner, _) = rest.split_once('-')?;
    let is_pid = !owner.is_empty() && owner.bytes().all(|byte| byte.is_ascii_digit());
    (is_pid && !Path::new("/proc").join(owner).exists()).then_some(owner)
}

/// Members that run on files of a process that runs no longer, and that process.
fn members() -> Vec<(Pid, String)> {
    let member = |(pid, line): (Pid, String)| {
        let mut words = line.split(' ').skip_while(|word| *word != "--data-dir");
        let owner = dead_owner(words.nth(1)?)?;
        Some((pid, owner.to_owned()))
    };
    command_lines().into_iter().filter_map(member).collect()
}

/// Networks whose owner runs no longer.
fn networks() -> BTreeSet<String> {
    let running: BTreeSet<u32> = command_lines()
        .iter()
        .map(|(pid, _)| pid.as_raw_nonzero().get().unsigned_abs() % OWNERS)
        .collect();
    let spaces = entries(Path::new(SPACES));
    let name = |path: PathBuf| {
        let name = path.file_name()?.to_str()?;
        // One of its five spaces: `f123x7sw`, and `f123x71` to `f123x7c`.
        let network = name.strip_suffix("sw")?;
        let (owner, _) = network.strip_prefix('f')?.split_once('x')?;
        let owner: u32 = owner.parse().ok()?;
        (!running.contains(&owner)).then(|| network.to_owned())
    };
    spaces.filter_map(name).collect()
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// The groups that share a quota of the processor.
fn groups() -> String {
    let groups = GROUPS.into_iter().flat_map(|dir| entries(Path::new(dir)));
    let names = groups.map(|path| path.display().to_string());
    names.collect::<Vec<_>>().join("\n")
}

/// Every process, and its command line.
fn command_lines() -> Vec<(Pid, String)> {
    let line = |path: PathBuf| {
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        let line = fs::read(path.join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        Some((Pid::from_raw(pid)?, line))
    };
    entries(Path::new("/proc")).filter_map(line).collect()
}
