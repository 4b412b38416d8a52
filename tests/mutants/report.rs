//! Who convicts whom.

use std::{fmt, time::Duration};

use crate::mutant::Mutant;

/// What a trial came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The test failed, with the words.
    Convicted,
    /// The test passed.
    Survived,
    /// The test neither failed nor passed in its time.
    Undecided(String),
    /// Something else failed, or other words were said.
    Otherwise(String),
    /// The patched tree does not build.
    NotBuilt(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Convicted => write!(f, "convicted"),
            Self::Survived => write!(f, "SURVIVED"),
            Self::Undecided(_) => write!(f, "UNDECIDED"),
            Self::Otherwise(_) => write!(f, "OTHER WORDS"),
            Self::NotBuilt(_) => write!(f, "DOES NOT BUILD"),
        }
    }
}

/// One mutant and its verdict.
pub(crate) struct Line {
    mutant: Mutant,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

impl Line {
    pub(crate) fn new(mutant: &Mutant, verdict: Verdict, took: Duration) -> Self {
        Self {
            mutant: mutant.clone(),
            verdict,
            took,
        }
    }
}

/// All that were tried; shown as a table in Markdown.
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    pub(crate) fn new(mut lines: Vec<Line>) -> Self {
        lines.sort_by(|one, other| one.mutant.number.cmp(&other.mutant.number));
        Self { lines }
    }

    pub(crate) fn all_convicted(&self) -> bool {
        let mut verdicts = self.lines.iter().map(|line| &line.verdict);
        verdicts.all(|verdict| *verdict == Verdict::Convicted)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| mutant | breaks | guarantee | convicted by | verdict |"
        )?;
        writeln!(f, "|---|---|---|---|---|")?;
        for Line {
            mutant, verdict, ..
        } in &self.lines
        {
            let binary = mutant.command.binary.trim_start_matches("--test ");
            writeln!(
                f,
                "| {} | {} | {} | `{binary}`: `{}` | {verdict} |",
                mutant.title(),
                mutant.breaks,
                mutant.guarantee,
                mutant.command.test,
            )?;
        }
        for line in &self.lines {
            match &line.verdict {
                Verdict::Convicted | Verdict::Survived => {}
                Verdict::Undecided(what) | Verdict::Otherwise(what) | Verdict::NotBuilt(what) => {
                    writeln!(f, "\n{} {}:\n{what}", line.mutant.title(), line.verdict)?;
                }
            }
        }
        Ok(())
    }
}
