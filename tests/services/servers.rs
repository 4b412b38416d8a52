//! Programs of Debian's database servers: those that are installed, or else the packages' own, unpacked once into `target/peers`. Nobody
//! needs to be root for that, and nothing on the machine is changed.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use framework::peers::{self, Missing, provide};

/// A server as Debian 12 has it.
pub(crate) struct Server {
    /// For people, and its directory below `target/peers`.
    name: &'static str,
    /// The packages whose programs are started; what they depend on comes with them.
    packages: &'static [&'static str],
    /// Where its programs lie, below `/` or below the unpacked packages.
    places: &'static [&'static str],
}

pub(crate) const POSTGRES: Server = Server {
    name: "postgresql-15",
    packages: &["postgresql-15", "postgresql-client-15", "libpq5"],
    places: &["usr/lib/postgresql/15/bin"],
};

pub(crate) const MARIADB: Server = Server {
    name: "mariadb-10.11",
    packages: &[
        "mariadb-server-core",
        "mariadb-client-core",
        "mariadb-common",
    ],
    places: &["usr/sbin", "usr/bin"],
};

/// What fetches packages.
const APT: &str = "apt-get of Debian 12, after apt-get update";

/// Where programs were found.
pub(crate) struct Programs {
    places: Vec<PathBuf>,
    /// The directory of unpacked packages; none if they are installed.
    pub(crate) unpacked: Option<PathBuf>,
}

impl Server {
    /// The programs, fetched if one of these is not installed.
    pub(crate) fn programs(&self, wanted: &[&str]) -> Result<Programs, Missing> {
        let path = env::var_os("PATH").unwrap_or_default();
        let installed = Programs {
            places: self
                .below(Path::new("/"))
                .chain(env::split_paths(&path))
                .collect(),
            unpacked: None,
        };
        if wanted.iter().all(|name| installed.find(name).is_some()) {
            return Ok(installed);
        }
        let pin = self.packages.join(" ");
        let dir = provide(self.name, pin.as_bytes(), |dir| self.fetch(dir))
            .map_err(|error| Missing::new(self.name, error))?;
        Ok(Programs {
            places: self.below(&dir).collect(),
            unpacked: Some(dir),
        })
    }

    fn below(&self, root: &Path) -> impl Iterator<Item = PathBuf> {
        self.places.iter().map(move |place| root.join(place))
    }

    fn fetch(&self, dir: &Path) -> io::Result<()> {
        let scratch = tempfile::tempdir_in(dir)?;
        let mut apt = Command::new("apt-get");
        apt.current_dir(scratch.path())
            .arg("download")
            .args(self.all_packages()?);
        peers::run(apt, APT)?;
        for entry in scratch.path().read_dir()? {
            let mut dpkg = Command::new("dpkg");
            dpkg.arg("-x").arg(entry?.path()).arg(dir);
            peers::run(dpkg, "dpkg")?;
        }
        Ok(())
    }

    /// The packages, and what of their dependencies is not installed.
    fn all_packages(&self) -> io::Result<BTreeSet<String>> {
        let mut apt = Command::new("apt-get");
        apt.args(["--simulate", "--no-install-recommends", "install"])
            .args(self.packages);
        let output = apt
            .output()
            .map_err(|error| io::Error::other(format!("it needs {APT} ({error})")))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let installed = text.lines().filter_map(|line| line.strip_prefix("Inst "));
        let names = installed.filter_map(|line| line.split(' ').next());
        Ok(self
            .packages
            .iter()
            .copied()
            .chain(names)
            .map(str::to_owned)
            .collect())
    }
}

impl Programs {
    fn find(&self, name: &str) -> Option<PathBuf> {
        let paths = self.places.iter().map(|place| place.join(name));
        paths.into_iter().find(|path| path.is_file())
    }

    /// A command that runs one of the programs wanted.
    pub(crate) fn command(&self, name: &str) -> Command {
        let program = self.find(name);
        let mut command = Command::new(program.expect("it was looked for, or is in the package"));
        if let Some(dir) = &self.unpacked {
            command.env("LD_LIBRARY_PATH", libraries(dir));
        }
        command
    }
}

/// Where packages have their libraries.
fn libraries(dir: &Path) -> OsString {
    let triple = format!("{}-linux-gnu", env::consts::ARCH);
    let places = ["usr/lib", "lib"].map(|place| dir.join(place).join(&triple));
    env::join_paths(places).expect("no separator is in the name of a build directory")
}
