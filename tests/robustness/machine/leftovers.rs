//! Whether a test process left anything on the machine.

use std::{fs, process};

use super::{MARK, command::run};

/// What is left of this process's runs: mounts, loop devices, name spaces of the network, processes on its files. Nothing, if every
/// guard did its work.
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
    left
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
