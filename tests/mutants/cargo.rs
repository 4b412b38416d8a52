//! Cargo, held to a time.

use std::{
    fs::File,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{mutant, tree::Tree};

/// Longest build: all of our crates, on a machine that has other things to do.
const BUILD_MAX: Duration = Duration::from_secs(900);

/// Longest run of one test. The slowest that a mutant names takes a minute on two idle cores.
const TEST_MAX: Duration = Duration::from_secs(400);

/// Pause between two looks at a process.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Cargo runs us with variables about ourselves; some build scripts would run anew because of them.
const ABOUT_US: [&str; 5] = [
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_CRATE_",
    "CARGO_TARGET_TMPDIR",
];

/// What became of a command.
pub(crate) struct Ran {
    /// Whether it ended by itself, and well.
    pub(crate) success: bool,
    /// Its time was up.
    pub(crate) overdue: bool,
    /// All that it said.
    pub(crate) output: String,
    /// Where that is kept.
    pub(crate) log: PathBuf,
    pub(crate) took: Duration,
}

/// Builds what a command runs.
pub(crate) fn build(tree: &Tree, command: &mutant::Command, log: &str) -> Result<Ran> {
    run(tree, command, &["--no-run"], BUILD_MAX, log)
}

/// Runs the test of a command, which is built.
pub(crate) fn test(tree: &Tree, command: &mutant::Command, log: &str) -> Result<Ran> {
    let mut last = vec!["--", &command.test];
    last.extend(command.options.iter().map(String::as_str));
    run(tree, command, &last, TEST_MAX, log)
}

fn run(
    tree: &Tree,
    command: &mutant::Command,
    last: &[&str],
    max: Duration,
    log: &str,
) -> Result<Ran> {
    let folder = tree.target.with_file_name("logs");
    std::fs::create_dir_all(&folder)?;
    let log = folder.join(log);
    let file = File::create(&log)?;
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ABOUT_US.iter().any(|about| text.starts_with(about)) {
            cargo.env_remove(&name);
        }
    }
    cargo
        .args(["test", "--workspace", "--offline"])
        .args(command.binary.split(' '))
        .args(last)
        .current_dir(&tree.root)
        .env("CARGO_TARGET_DIR", &tree.target)
        .env("CARGO_TERM_COLOR", "never")
        // Property tests draw the same cases each time, and golden files stay as they are.
        .env("PROPTEST_RNG_SEED", "1")
        .env_remove("UPDATE_GOLDENFILES")
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0);
    let began = Instant::now();
    let mut group = Group(cargo.spawn().context("cargo is needed")?);
    let status = group.wait(began + max)?;
    Ok(Ran {
        success: status.is_some_and(|status| status.success()),
        overdue: status.is_none(),
        output: read(&log)?,
        log,
        took: began.elapsed(),
    })
}

fn read(log: &Path) -> Result<String> {
    let bytes = std::fs::read(log)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Cargo and what it runs; they end together.
struct Group(Child);

impl Group {
    /// The end; `None` if it does not come in time.
    fn wait(&mut self, deadline: Instant) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                if let Some(signal) = status.signal() {
                    eprintln!("cargo was ended by signal {signal}");
                }
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) else {
            return;
        };
        // An error means that the whole group is gone.
        let _gone = kill_process_group(pid, Signal::KILL);
        if let Err(error) = self.0.wait() {
            eprintln!("cargo cannot be waited for: {error}");
        }
    }
}
