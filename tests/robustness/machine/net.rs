//! Three members and the clients on a switch of their own, by `tools/netns3.sh`.

use std::{fs::File, os::fd::AsFd, process};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{command::at_end, next_number, run, tool};

/// The host of the clients, as the tool names it. Those of the members are `1`, `2` and `3`.
const CLIENT: &str = "c";

/// First three numbers of every host's address: each switch is in a name space of its own, so all runs may use the same ones.
const NET: &str = "10.77.0";

/// Networks are named after their process, by what its id leaves when it is divided by this.
pub(super) const OWNERS: u32 = 1_000_000;

/// A network with faults; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Net {
    name: String,
}

impl Net {
    /// Makes the network.
    pub(crate) async fn up() -> Result<Self> {
        // The tool takes ten characters.
        let name = format!("f{}x{}", process::id() % OWNERS, next_number() % 100);
        let net = Self { name };
        net.tool(&["up"]).await?;
        Ok(net)
    }

    /// The name of the host of the member at a place.
    pub(crate) fn host_of(place: usize) -> String {
        (place + 1).to_string()
    }

    /// The address of a host.
    pub(crate) fn address(host: &str) -> String {
        match host {
            CLIENT => format!("{NET}.100"),
            number => format!("{NET}.{number}"),
        }
    }

    /// The command that runs a program on a host, replacing itself.
    pub(crate) fn through(&self, host: &str) -> Vec<String> {
        let space = format!("--net=/run/netns/{}{host}", self.name);
        vec!["nsenter".to_owned(), space, "--".to_owned()]
    }

    /// Moves the calling thread to the host of the clients: every socket that it makes is there.
    pub(crate) fn enter(&self) -> Result<()> {
        let path = format!("/run/netns/{}{CLIENT}", self.name);
        let file = File::open(&path).with_context(|| path)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(())
    }

    /// Makes a fault, in the tool's words.
    pub(crate) async fn fault(&self, words: &[&str]) -> Result<()> {
        self.tool(words).await?;
        Ok(())
    }

    /// Packets that have met the rules of all faults until now; one line a rule.
    pub(crate) async fn counters(&self) -> Result<Vec<String>> {
        let status = self.tool(&["status"]).await?;
        let rules = status
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("in:") || line.starts_with("out:"));
        Ok(rules.map(str::to_owned).collect())
    }

    /// `UP`, `DOWN` or another word for the state of a host's link.
    pub(crate) async fn link(&self, host: &str) -> Result<String> {
        let status = self.tool(&["status"]).await?;
        let line = status.lines().find(|line| line.starts_with(host));
        let state = line.and_then(|line| line.split_whitespace().nth(2));
        Ok(state.context("a state of the link")?.to_owned())
    }

    /// Packets that the queues of limited links have held back or dropped on a host.
    pub(crate) async fn overlimits(&self, host: &str) -> Result<u64> {
        let mut args = self.through(host);
        args.extend(["tc", "-s", "qdisc", "show", "dev", "eth0", "root"].map(str::to_owned));
        let printed = run(&args).await?;
        let (_, rest) = printed.split_once("overlimits ").context("overlimits")?;
        Ok(rest
            .split_whitespace()
            .next()
            .context("a number")?
            .parse()?)
    }

    /// Ends all faults.
    pub(crate) async fn heal(&self) -> Result<()> {
        self.fault(&["heal"]).await
    }

    async fn tool(&self, words: &[&str]) -> Result<String> {
        run(&line(&self.name, words)).await
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        down(&self.name);
    }
}

/// Removes a network, with what runs in it.
pub(super) fn down(name: &str) {
    at_end(&line(name, &["down"]));
}

fn line(name: &str, words: &[&str]) -> Vec<String> {
    let script = tool("netns3.sh").display().to_string();
    let mut line = vec![
        "env".to_owned(),
        format!("NS={name}"),
        format!("NET={NET}"),
        script,
    ];
    line.extend(words.iter().map(|word| (*word).to_owned()));
    line
}
