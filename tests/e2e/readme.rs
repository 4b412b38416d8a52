//! The sessions that README.md shows, typed in as they stand there: what is printed is what the README says.
//!
//! Ports are other ones, which nobody has taken; `…` in the README stands for anything.

use std::{collections::BTreeMap, env, fs, path::Path};

use anyhow::{Context, Result, ensure};
use framework::{Running, Target, Tool, free_row, peers::module_dir, wait_until};

use crate::{
    case::{Case, Ground, case},
    services::{PATIENCE, ready},
};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(on_our_own_store).ours(), case!(on_a_real_etcd).ours()]
}

/// The port of each kind that the README shows first.
const GATEWAY: u16 = 8080;
const USER: u16 = 50051;
const MEMBERS: [(&str, [u16; 2]); 3] = [
    ("infra1", [2379, 2380]),
    ("infra2", [22379, 22380]),
    ("infra3", [32379, 32380]),
];

/// A command, and what it prints.
#[derive(Debug)]
struct Step {
    command: String,
    printed: String,
}

/// The text below a heading.
fn section(heading: &str) -> Result<String> {
    let path = module_dir().join("../../README.md");
    let readme = fs::read_to_string(&path).with_context(|| format!("{path:?}"))?;
    let below = readme.split_once(&format!("\n{heading}\n"));
    let (_, below) = below.with_context(|| format!("{heading:?} is in the README"))?;
    let end = below.find("\n## ").unwrap_or(below.len());
    let end = below.find("\n### ").unwrap_or(end).min(end);
    Ok(below[..end].to_owned())
}

/// What stands between fences.
fn blocks(section: &str) -> impl Iterator<Item = &str> {
    section.split("```\n").skip(1).step_by(2)
}

/// The commands of a section, which begin with a dollar.
fn steps(section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in blocks(section).filter(|block| block.starts_with("$ ")) {
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step {
                    command: command.to_owned(),
                    printed: String::new(),
                }),
                (None, Some(step)) => step.printed += &format!("{line}\n"),
                (None, None) => {}
            }
        }
    }
    steps
}

/// Words with one space between them: columns are as wide as ports are long.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text is as shown, where `…` is anything.
fn is_shown(text: &str, shown: &str) -> bool {
    let (text, shown) = (flat(text), flat(shown));
    let mut parts = shown.split('…').map(str::trim);
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut ends_open = !shown.contains('…') && rest.is_empty();
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        ends_open = part.is_empty() || after.is_empty();
        rest = after;
    }
    ends_open
}

/// A cluster as `up` starts it, in a directory of its own, and where its ports are.
struct Session {
    running: Running,
    dir: tempfile::TempDir,
    ports: BTreeMap<u16, u16>,
    path: String,
}

impl Session {
    async fn start(g: &Ground<'_>, command: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let programs = [Target::Catena.program()?, g.release.programs()?.etcd];
        let places = programs.iter().filter_map(|program| program.parent());
        let path = env::var_os("PATH").unwrap_or_default();
        let places = places.map(Path::to_owned).chain(env::split_paths(&path));
        let path = env::join_paths(places)?;
        let path = path.into_string().ok().context("the path is UTF-8")?;

        let (first, rest, grpc) = (free_row(6), free_row(3), free_row(3));
        let line = format!(
            "cd {} && exec {command} --first-port {first} --http-port {rest} --grpc-port {grpc}",
            dir.path().display()
        );
        let shell = Tool::new("/bin/sh".into()).env("PATH", &path);
        let running = shell.follow(&["-c", &line])?;
        let printed = running.prints("Ctrl-C stops the cluster").await?;
        let mut ports = BTreeMap::new();
        for place in 0..3 {
            ports.insert(GATEWAY + place, rest + place);
            ports.insert(USER + place, grpc + place);
            ready(&format!("127.0.0.1:{}", rest + place)).await?;
        }
        for (name, shown) in MEMBERS {
            let row = printed
                .lines()
                .find(|line| line.starts_with(&format!("{name} ")) && line.contains("://"));
            let row = row.with_context(|| format!("no {name} in {printed}"))?;
            let urls = row.split_whitespace().skip(1);
            for (shown, url) in shown.into_iter().zip(urls) {
                let (_, port) = url.rsplit_once(':').context("a port")?;
                ports.insert(shown, port.parse()?);
            }
        }
        Ok(Self {
            running,
            dir,
            ports,
            path,
        })
    }

    /// A text of the README with the ports of this cluster.
    fn here(&self, text: &str) -> String {
        const HOST: &str = "127.0.0.1";
        let mut parts = text.split(HOST);
        let mut here = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            here += HOST;
            let rest = part.get(1..).unwrap_or_default();
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let port = rest[..digits].parse().ok();
            match port.and_then(|port: u16| self.ports.get(&port)) {
                Some(port) => here += &format!("{}{port}{}", &part[..1], &rest[digits..]),
                None => here += part,
            }
        }
        here
    }

    /// Types a command in.
    fn run(&self, step: &Step) -> Result<String> {
        let line = format!(
            "cd {} && {}",
            self.dir.path().display(),
            self.here(&step.command)
        );
        let endpoint = format!("http://127.0.0.1:{}", self.ports[&MEMBERS[0].1[0]]);
        let shell = Tool::new("/bin/sh".into())
            .env("PATH", &self.path)
            .env("CATENA_ENDPOINTS", &endpoint)
            .env("ETCDCTL_ENDPOINTS", &endpoint);
        shell.run(&["-c", &line])?.ok()
    }

    async fn walk(self, steps: &[Step]) -> Result<()> {
        ensure!(!steps.is_empty());
        for step in steps {
            let shown = self.here(&step.printed);
            let mut printed = String::new();
            // Another gateway hears of a service a moment later than the one that is asked first, and says what it thinks of a document
            // a moment after that is published.
            let asks = step.command.starts_with("curl http")
                || [" ls ", " listeners ", " explain "]
                    .iter()
                    .any(|word| step.command.contains(word));
            if asks {
                let what = format!("{} prints {shown}", step.command);
                let seen = wait_until(&what, PATIENCE, async || {
                    printed = self.run(step).ok()?;
                    is_shown(&printed, &shown).then_some(())
                });
                seen.await.with_context(|| printed.clone())?;
            } else {
                printed = self.run(step)?;
                ensure!(is_shown(&printed, &shown), "{step:?} printed {printed}");
            }
        }
        let (code, printed) = self.running.interrupt().await?;
        ensure!(code == 0, "{printed}");
        Ok(())
    }
}

async fn on_our_own_store(g: &Ground<'_>) -> Result<()> {
    let start = section("## Start a cluster")?;
    let mut blocks = blocks(&start);
    ensure!(blocks.next() == Some("cargo run --release -- up\n"));
    let shown = blocks.next().context("what it prints")?;
    let session = Session::start(g, "catena up").await?;
    // Which member is ready first, and after which time, is another thing each time.
    let begin = shown.find("PROCESS").context("a table")?;
    let printed = session.running.printed();
    let table = printed.find("PROCESS").context("a table")?;
    ensure!(
        is_shown(&printed[table..], &session.here(&shown[begin..])),
        "{printed}"
    );
    session.walk(&steps(&section("## Services on it")?)).await
}

async fn on_a_real_etcd(g: &Ground<'_>) -> Result<()> {
    let mut steps = steps(&section("### On a real etcd")?);
    ensure!(!steps.is_empty());
    let start = steps.remove(0);
    let session = Session::start(g, &start.command).await?;
    let printed = session.running.printed();
    ensure!(
        is_shown(&printed, &session.here(&start.printed)),
        "{printed}"
    );
    session.walk(&steps).await
}
