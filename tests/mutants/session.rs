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
        let mut order = picked.to_vec();
        // Neighbours change the same crate and are tried by the same binary, so that little is built for each.
        order.sort_by_key(|mutant| (&mutant.command.binary, &mutant.files, &mutant.number));
        let mut lines = Vec::new();
        for mutant in order {
            let line = self.judge(mutant)?;
            eprintln!(
                "{}: {} ({} s)",
                mutant.title(),
                line.verdict,
                line.took.as_secs()
            );
            lines.push(line);
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

    fn judge(&self, mutant: &Mutant) -> Result<Line> {
        let _applied = self.tree.apply(mutant)?;
        let command = &mutant.command;
        let built = cargo::build(&self.tree, command, &format!("{}-build", mutant.number))?;
        if !built.success {
            return Ok(Line::new(
                mutant,
                Verdict::NotBuilt(end(&built)),
                built.took,
            ));
        }
        let ran = cargo::test(&self.tree, command, &mutant.number)?;
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
