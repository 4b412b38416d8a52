//! The binary as its users meet it: what it prints, what it refuses, how it ends, and what a local cluster does when it is killed.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends at the first surprise, in its helpers too"
)]

mod completions;
mod flags;
mod local;
mod signals;
mod snapshot;

use std::{
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

/// Time for anything that should happen; it is far above what any step takes, so that a loaded machine fails nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The binary, in an environment without variables of ours.
fn catena() -> Command {
    under_name(Path::new(env!("CARGO_BIN_EXE_catena")))
}

/// The binary under another name.
fn under_name(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        let name = variable.to_string_lossy().into_owned();
        if name.starts_with("ETCD_") || name.starts_with("CATENA_") || name.starts_with("NOTIFY_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command that ends by itself.
fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A running program whose lines are read as they come. Dropping it kills it.
struct Running {
    child: Child,
    lines: Receiver<String>,
    /// All lines read so far, for the message of a failing test.
    seen: Vec<String>,
}

impl Running {
    /// Starts `command` and reads its stdout and stderr together.
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let out: Box<dyn std::io::Read + Send> = Box::new(child.stdout.take().unwrap());
        let err: Box<dyn std::io::Read + Send> = Box::new(child.stderr.take().unwrap());
        for stream in [out, err] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // The test no longer listens.
                    let _deaf = sender.send(line);
                }
            });
        }
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that contains `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {text:?} in:\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits until the program ends.
    fn wait(&mut self) -> ExitStatus {
        wait_until("the program ends", || {
            self.child.try_wait().unwrap().is_some()
        });
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status();
    assert!(sent.unwrap().success(), "kill -{name} {pid}");
}

/// Whether a process still runs; one that ended and was not yet waited for does not.
fn runs(pid: u32) -> bool {
    let shown = Command::new("ps")
        .args(["-o", "stat=", "-p", &pid.to_string()])
        .output()
        .unwrap();
    let state = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port that is free with all those of three members counted from it. Each caller gets another one.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 400) as u16 * 20;
    loop {
        let port = first + NEXT.fetch_add(2, Ordering::Relaxed) % 2000;
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if [0, 20_000, 30_000]
            .iter()
            .all(|step| free(port + step) && free(port + step + 1))
        {
            return port;
        }
    }
}

/// The first of three free ports in a row, above the range of outgoing connections. Each caller gets others.
fn free_row() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 61_000 + (std::process::id() % 200) as u16 * 20;
    loop {
        let port = first + NEXT.fetch_add(3, Ordering::Relaxed) % 500;
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (port..port + 3).all(free) {
            return port;
        }
    }
}
