//! The programs, and how each is made.
//!
//! | language | client | needs |
//! |---|---|---|
//! | Go | clientv3 3.7.1 | go |
//! | Python | aetcd 1.0.0 | python3 with venv and pip |
//! | JavaScript | etcd3 1.1.2 | node, npm |
//! | Java | jetcd 0.8.6 | java 17, mvn |
//! | Rust | etcd-client 0.21.1 | cargo; python3 for protoc, which PyPI's grpcio-tools carries |

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use framework::{
    Tool,
    peers::{self, Missing, module_dir},
};

const GRPCIO_TOOLS: &str = "grpcio-tools==1.85.1";

/// A language that etcd has a client in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    Go,
    Python,
    Node,
    Java,
    Rust,
}

/// A program to run with the endpoint as one more argument.
pub(crate) struct Program {
    pub(crate) tool: Tool,
    pub(crate) args: Vec<OsString>,
}

impl Language {
    pub(crate) const ALL: [Self; 5] = [Self::Go, Self::Python, Self::Node, Self::Java, Self::Rust];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Python => "python",
            Self::Node => "node",
            Self::Java => "java",
            Self::Rust => "rust",
        }
    }

    /// The program, made if it is not there yet.
    pub(crate) fn program(self) -> Result<Program, Missing> {
        let made = match self {
            Self::Go => go(),
            Self::Python => python(),
            Self::Node => node(),
            Self::Java => java(),
            Self::Rust => rust(),
        };
        made.map_err(|error| Missing::new(&format!("the client in {}", self.name()), error))
    }
}

fn go() -> io::Result<Program> {
    let pin = read(&[
        module_dir().join("go.sum"),
        module_dir().join("client/main.go"),
    ])?;
    let dir = peers::provide("client-go", &pin, |dir| {
        let mut go = Command::new("go");
        go.current_dir(module_dir())
            .args(["build", "-trimpath", "-o"])
            .arg(dir.join("client"))
            .arg("./client");
        peers::run(go, "go")
    })?;
    Ok(program(dir.join("client"), &[]))
}

fn python() -> io::Result<Program> {
    let requirements = source("python/requirements.txt");
    let dir = peers::provide("client-python", &fs::read(&requirements)?, |dir| {
        install(dir, &["--requirement".into(), requirements.into()])
    })?;
    Ok(program(
        dir.join("bin/python"),
        &[source("python/client.py")],
    ))
}

fn node() -> io::Result<Program> {
    let (package, lock) = (
        source("node/package.json"),
        source("node/package-lock.json"),
    );
    let dir = peers::provide("client-node", &fs::read(&lock)?, |dir| {
        fs::copy(&package, dir.join("package.json"))?;
        fs::copy(&lock, dir.join("package-lock.json"))?;
        let mut npm = Command::new("npm");
        npm.current_dir(dir).args(["ci", "--silent"]);
        peers::run(npm, "node with npm")
    })?;
    let Program { tool, args } = program("node", &[source("node/client.js")]);
    let modules = dir.join("node_modules").to_string_lossy().into_owned();
    Ok(Program {
        tool: tool.env("NODE_PATH", &modules),
        args,
    })
}

fn java() -> io::Result<Program> {
    let pom = source("java/pom.xml");
    let dir = peers::provide("client-java", &fs::read(&pom)?, |dir| {
        let mut mvn = Command::new("mvn");
        mvn.args(["--batch-mode", "--quiet", "--file"])
            .arg(&pom)
            .arg("dependency:copy-dependencies")
            .arg(format!("-DoutputDirectory={}", dir.display()));
        peers::run(mvn, "java 17 and mvn")
    })?;
    let classes = dir.join("*");
    Ok(program(
        "java",
        &["-cp".into(), classes, source("java/Client.java")],
    ))
}

fn rust() -> io::Result<Program> {
    let (lock, main) = (source("rust/Cargo.lock"), source("rust/src/main.rs"));
    let dir = peers::provide("client-rust", &read(&[lock, main])?, |dir| {
        let target = dir.join("target");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .current_dir(source("rust"))
            .args(["build", "--quiet", "--locked"])
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("PROTOC", protoc(dir)?);
        peers::run(cargo, "cargo")?;
        fs::rename(target.join("debug/client"), dir.join("client"))?;
        fs::remove_dir_all(target)
    })?;
    Ok(program(dir.join("client"), &[]))
}

/// A protoc: the one inside `grpcio-tools` behind a script of that name.
fn protoc(dir: &Path) -> io::Result<PathBuf> {
    let python = dir.join("python");
    install(&python, &[GRPCIO_TOOLS.into()])?;
    let script = python.join("bin/protoc");
    let interpreter = python.join("bin/python");
    let text = format!(
        "#!/bin/sh\nexec '{}' -m grpc_tools.protoc \"$@\"\n",
        interpreter.display()
    );
    fs::write(&script, text)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// Makes a virtual environment of Python in `dir` with what `packages` names.
fn install(dir: &Path, packages: &[OsString]) -> io::Result<()> {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(dir);
    peers::run(venv, "python3 with venv")?;
    let mut pip = Command::new(dir.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ])
    .args(packages);
    peers::run(pip, "python3 with pip")
}

fn program(path: impl Into<PathBuf>, args: &[PathBuf]) -> Program {
    Program {
        tool: Tool::new(path.into()),
        args: args.iter().map(|arg| arg.clone().into()).collect(),
    }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(path)
}

fn read(paths: &[PathBuf]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(fs::read(path)?);
    }
    Ok(all)
}
