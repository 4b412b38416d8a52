//! The command line of runs by hand.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use framework::{Target, peers::Release};

/// What was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    /// How many runs.
    pub(crate) runs: usize,
    /// Whose members.
    pub(crate) target: Target,
    /// The fault of every run; none: drawn.
    pub(crate) fault: Option<String>,
    /// How many members; none: drawn.
    pub(crate) members: Option<usize>,
    /// The seed of the first run; the next runs have the next ones.
    pub(crate) seed: u64,
    /// Where histories are kept of runs that did not pass.
    pub(crate) keep: Option<PathBuf>,
}

/// What is printed if the words make no sense.
const USAGE: &str = "--runs N [--target catena|etcd-3.7.1|etcd-3.5.1] [--fault NAME] [--members 1|3] [--seed S] [--keep DIR]";

impl Arguments {
    /// The arguments, if these words are those of runs by hand; else they are the test runner's.
    pub(crate) fn parse(words: &[String]) -> Result<Option<Self>> {
        const OURS: [&str; 6] = [
            "--runs",
            "--target",
            "--fault",
            "--members",
            "--seed",
            "--keep",
        ];
        if !words.iter().any(|word| OURS.contains(&word.as_str())) {
            return Ok(None);
        }
        let mut arguments = Self {
            runs: 1,
            target: Target::Catena,
            fault: None,
            members: None,
            seed: 1,
            keep: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let value = words
                .next()
                .with_context(|| format!("{word} wants a value; {USAGE}"))?;
            arguments.set(word, value)?;
        }
        Ok(Some(arguments))
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<()> {
        match flag {
            "--runs" => self.runs = value.parse().context("--runs wants a number")?,
            "--target" => {
                self.target = match value {
                    "catena" => Target::Catena,
                    "etcd-3.7.1" => Target::Etcd(Release::V37),
                    "etcd-3.5.1" => Target::Etcd(Release::V35),
                    _ => bail!("no such target: {value}; {USAGE}"),
                }
            }
            "--fault" => self.fault = Some(value.to_owned()),
            "--members" => self.members = Some(value.parse().context("--members wants a number")?),
            "--seed" => self.seed = value.parse().context("--seed wants a number")?,
            "--keep" => self.keep = Some(value.into()),
            _ => bail!("no such flag: {flag}; {USAGE}"),
        }
        Ok(())
    }
}
