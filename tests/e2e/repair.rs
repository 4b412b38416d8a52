//! What a member says when it cannot go on, and doing what it says.
//!
//! The last error of a member's log has the fields `error` (what is wrong and where) and `next` (what to run). Commands stand in
//! backquotes; a flag in backquotes belongs on the member's next start. They are run as they stand: nothing here knows what helps.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use framework::{Target, Tool, wait_until};
use serde_json::Value;

use crate::case::Ground;

/// A member that cannot start says so by then: it asks the others first, and a debug build on a busy machine is slow.
const SAID_WITHIN: Duration = Duration::from_secs(60);
/// A command is tried so long: a cluster that has just lost a member refuses changes for a while.
const DONE_WITHIN: Duration = Duration::from_secs(40);
/// The word that stands for the snapshot file, whose path only the operator knows.
const SNAPSHOT: &str = "SNAPSHOT";

/// The last words of a member.
#[derive(Debug)]
pub(crate) struct Report {
    /// What is wrong and where.
    pub(crate) error: String,
    /// What to do.
    pub(crate) next: String,
}

impl Report {
    /// Reads them from what was logged behind `from`.
    pub(crate) fn of(log: &str) -> Result<Self> {
        let lines = log.lines().rev();
        let parsed = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        for line in parsed.filter(|line| line["level"] == "error") {
            if let (Some(error), Some(next)) = (line["error"].as_str(), line["next"].as_str()) {
                let (error, next) = (error.to_owned(), next.to_owned());
                return Ok(Self { error, next });
            }
        }
        bail!("no error with a next step in\n{log}")
    }

    /// Demands that the error has these words.
    pub(crate) fn says(&self, words: &[&str]) -> Result<()> {
        for word in words {
            ensure!(self.error.contains(word), "no {word:?} in {self:?}");
        }
        Ok(())
    }

    /// The commands in it.
    fn commands(&self) -> Vec<&str> {
        self.next.split('`').skip(1).step_by(2).collect()
    }
}

/// Waits until the member at `place` has ended by itself; gives its last words.
pub(crate) async fn last_words(g: &mut Ground<'_>, place: usize, before: &str) -> Result<Report> {
    let member = &mut g.cluster.members[place];
    wait_until("the member ends", SAID_WITHIN, async || member.exited()).await?;
    let log = member.log();
    Report::of(log.strip_prefix(before).unwrap_or(&log))
}

/// Does what a report says, for the member at `place`; the next start of the member has the flags that it names.
pub(crate) async fn follow(
    g: &mut Ground<'_>,
    place: usize,
    report: &Report,
    snapshot: Option<&str>,
) -> Result<()> {
    let commands = report.commands();
    ensure!(!commands.is_empty(), "no command in {report:?}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        match words[..] {
            [flag] if flag.starts_with("--") => {
                g.cluster.members[place].add_flag(flag);
            }
            [program, ref args @ ..] => run(g, program, args, snapshot)
                .await
                .with_context(|| command.to_owned())?,
            [] => bail!("an empty command in {report:?}"),
        }
    }
    Ok(())
}

async fn run(g: &Ground<'_>, program: &str, args: &[&str], snapshot: Option<&str>) -> Result<()> {
    let tool = match program {
        "etcdctl" => g.ctl.clone(),
        "catena" => Tool::new(Target::Catena.program()?),
        other => Tool::new(which(other)?.into()),
    };
    let mut args = args.to_vec();
    for arg in args.iter_mut().filter(|arg| **arg == SNAPSHOT) {
        *arg = snapshot.context("a command wants a snapshot")?;
    }
    let mut last = String::new();
    let done = wait_until("the command succeeds", DONE_WITHIN, async || {
        match tool.run(&args).and_then(framework::Finished::ok) {
            Ok(_) => Some(()),
            Err(error) => {
                last = format!("{error:#}");
                None
            }
        }
    });
    done.await.context(last)
}

fn which(program: &str) -> Result<String> {
    let found = Command::new("which").arg(program).output()?;
    ensure!(found.status.success(), "{program} is not on this machine");
    Ok(String::from_utf8(found.stdout)?.trim().to_owned())
}
