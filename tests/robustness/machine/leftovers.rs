//! Whether a test process left anything on the machine.

use std::{fs, path::Path, process};

use super::{
    MARK,
    command::{at_end, run},
    tool,
};

/// What is left of this process's runs: mounts, loop devices, name spaces of the network, processes on its files, groups of
/// processes. Nothing, if every guard did its work.
pub(crate) async fn leftovers() -> Vec<String> {
    let mark = format!("{MARK}{}-", process::id());
    let spaces = format!("f{}x", process::id() % 1_000_000);
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
    add("process", &command_lines(), &mark);
    add("group of processes", &groups(), &mark);
    left
}

/// Removes what runs left whose process was killed before it could clean up.
pub(crate) fn sweep() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        let Some((_, rest)) = mount.split_once(MARK) else {
            continue;
        };
        let owner = rest.split('-').next().unwrap_or_default();
        if let (false, Some(dir)) = (lives(owner), Path::new(mount).parent()) {
            eprintln!("removing what process {owner} left: {}", dir.display());
            let script = tool("powercut.sh");
            at_end(&[script.as_os_str(), "remove".as_ref(), dir.as_os_str()]);
        }
    }
}

fn lives(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

/// The groups that share a quota of the processor, in both versions of the interface.
fn groups() -> String {
    let dirs = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu"];
    let entries = dirs.into_iter().filter_map(|dir| fs::read_dir(dir).ok());
    let names = entries
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect::<Vec<_>>().join("\n")
}

fn command_lines() -> String {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = entries.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        Some(format!("{} {line}", entry.file_name().to_string_lossy()))
    });
    lines.collect::<Vec<_>>().join("\n")
}
