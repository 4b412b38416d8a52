//! The trial: first the tree as it is, then one defect after the other.

use std::{collections::BTreeMap, fmt::Write, path::Path};

use anyhow::{Result, ensure};

use crate::{
    cargo::{self, Ran},
    mutant::{Command, Mutant},
    report::{Line, Report, Verdict},
    tree::Tree,
};

/// Lines of a log that are shown when something is unexpected.
const SHOWN_LINES: usize = 40;

/// A copy of the tree in which every mutant applies.
pub(crate) struct Session {
    tree: Tree,
}

impl Session {
    /// Copies the tree and checks that all mutants apply.
    pub(crate) fn begin(root: &Path, target: &Path, all: &[Mutant]) -> Result<Self> {
        let tree = Tree::copy(root, target)?;
        tree.check(all)?;
        Ok(Self { tree })
    }

    /// Tries some of them.
    pub(crate) fn convict(&self, picked: &[&Mutant]) -> Result<Report> {
        self.clear_the_innocent(picked)?;
        // A patch is applied once for all who accuse it.
        let mut patches: Vec<_> = picked
            .chunk_by(|one, other| one.path == other.path)
            .collect();
        // Neighbours change the same crate and are tried by the same binary, so that little is built for each.
        patches.sort_by_key(|patch| (&patch[0].command.binary, &patch[0].files, &patch[0].number));
        let mut lines = Vec::new();
        for patch in patches {
            let _applied = self.tree.apply(patch[0])?;
            for mutant in patch {
                let line = self.judge(mutant)?;
                eprintln!(
                    "{}, by {}: {} ({} s)",
                    mutant.title(),
                    mutant.command.binary,
                    line.verdict,
                    line.took.as_secs()
                );
                lines.push(line);
            }
        }
        Ok(Report::new(lines))
    }

    /// Every test that is named passes on the tree as it is.
    fn clear_the_innocent(&self, picked: &[&Mutant]) -> Result<()> {
        let mut tests: BTreeMap<&str, Vec<&Command>> = BTreeMap::new();
        for mutant in picked {
            let command = &mutant.command;
            let same = tests.entry(&command.binary).or_default();
            if !same.contains(&command) {
                same.push(command);
            }
        }
        for (number, command) in tests.into_values().flatten().enumerate() {
            let built = cargo::build(&self.tree, command, &format!("innocent-{number}-build"))?;
            ensure!(built.success, "the tree does not build:\n{}", end(&built));
            let ran = cargo::test(&self.tree, command, &format!("innocent-{number}"))?;
            let passed = ran.success && results(&ran, command).any(|result| result == "ok");
            ensure!(
                passed,
                "without any defect, this fails or tests nothing: {}\n{}",
                command.line(),
                end(&ran)
            );
            eprintln!("innocent: {} ({} s)", command.line(), ran.took.as_secs());
        }
        Ok(())
    }

    /// Whether the mutant, which is applied, is convicted.
    fn judge(&self, mutant: &Mutant) -> Result<Line> {
        let command = &mutant.command;
        let log = format!("{}-{}", mutant.number, command.test.replace("::", "-"));
        let built = cargo::build(&self.tree, command, &format!("{log}-build"))?;
        if !built.success {
            return Ok(Line::new(
                mutant,
                Verdict::NotBuilt(end(&built)),
                built.took,
            ));
        }
        let ran = cargo::test(&self.tree, command, &log)?;
        let verdict = if ran.overdue {
            Verdict::Undecided(end(&ran))
        } else if ran.success {
            Verdict::Survived
        } else if !results(&ran, command).any(|result| result == "FAILED") {
            Verdict::Otherwise(end(&ran))
        } else if mutant.words.iter().any(|words| ran.output.contains(words)) {
            Verdict::Convicted
        } else {
            Verdict::Otherwise(end(&ran))
        };
        Ok(Line::new(mutant, verdict, built.took + ran.took))
    }
}

/// What the lines `test … <name> ... <result>` say of the command's test.
fn results<'a>(ran: &'a Ran, command: &'a Command) -> impl Iterator<Item = &'a str> {
    let ended = |line: &'a str| {
        let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
        name.contains(&command.test).then_some(result.trim())
    };
    ran.output.lines().filter_map(ended)
}

/// The last lines, and where the others are.
fn end(ran: &Ran) -> String {
    let lines: Vec<&str> = ran.output.lines().collect();
    let mut shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
    // Writing into a string cannot fail.
    let _written = write!(shown, "\nall of it: {}", ran.log.display());
    shown
}
