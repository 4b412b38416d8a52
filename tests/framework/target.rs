//! Whose members a test runs.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use anyhow::{Context, Result, bail, ensure};

use crate::peers::{Release, target_dir};

/// Whose members a test runs. All take etcd's classic flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The real etcd.
    Etcd(Release),
    /// Our binary.
    Catena,
    /// Our server in the test's own process: without signals, logs and most flags.
    InProcess,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Etcd(release) => write!(f, "etcd_{}", release.version().replace('.', "_")),
            Target::Catena => f.write_str("catena"),
            Target::InProcess => f.write_str("in_process"),
        }
    }
}

impl Target {
    /// Whether the members are ours.
    pub fn is_catena(self) -> bool {
        matches!(self, Target::Catena | Target::InProcess)
    }

    /// The program to run.
    pub fn program(self) -> Result<PathBuf> {
        match self {
            Target::Etcd(release) => Ok(release.programs()?.etcd),
            Target::Catena => catena(),
            Target::InProcess => bail!("a member in process has no program"),
        }
    }

    /// The command that runs one member, from another program if one is given; flags follow.
    pub(crate) fn command(self, program: Option<&Path>) -> Result<Command> {
        let program = program.map_or_else(|| self.program(), |program| Ok(program.to_owned()))?;
        let mut command = Command::new(program);
        if self.is_catena() {
            command.arg("server");
        }
        Ok(command)
    }
}

/// Our binary: the one named by `CATENA_BINARY`, else the one of the profile that the tests were built with, which cargo brings up to
/// date once in a test process.
fn catena() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| {
        if let Some(path) = env::var_os("CATENA_BINARY") {
            return Ok(PathBuf::from(path));
        }
        build().map_err(|error| format!("{error:#}"))
    });
    found.clone().map_err(anyhow::Error::msg)
}

fn build() -> Result<PathBuf> {
    let profile = if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    };
    let folder = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--quiet",
            // Of the whole workspace: a package alone would be built with other features.
            "--workspace",
            "--bin",
            "catena",
            "--profile",
            profile,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .context("cargo cannot be run")?;
    ensure!(
        output.status.success(),
        "cargo build --bin catena failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(target_dir().join(folder).join("catena").canonicalize()?)
}
