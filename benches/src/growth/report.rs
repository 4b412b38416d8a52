//! The report of growth. Unlike that of a whole run it is put together from several: each growth of each subject may be measured for
//! itself, and replaces what was there of it.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::Growth;
use crate::{machine::Machine, report::Spread, subject::Subject};

/// The report's name.
const NAME: &str = "growth";

/// What a figure of Catena is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Goal {
    /// So much or less.
    AtMost(f64),
    /// So much or more.
    AtLeast(f64),
}

/// Something that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What.
    pub(crate) what: String,
    /// Of what.
    pub(crate) unit: String,
    /// The middle round, the lowest and the highest.
    pub(crate) value: Spread,
    /// What it is to be.
    pub(crate) goal: Option<Goal>,
}

/// One growth of one subject.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// What grew.
    pub(crate) growth: Growth,
    /// Whose.
    pub(crate) subject: Subject,
    /// Where.
    pub(crate) machine: Machine,
    /// Whether it was only tried.
    pub(crate) short: bool,
    /// How long it took.
    pub(crate) minutes: f64,
    /// What was found.
    pub(crate) figures: Vec<Figure>,
    /// What a reader of the figures must know.
    pub(crate) remarks: Vec<String>,
}

/// All runs, the last one of each growth and subject.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    runs: Vec<Run>,
}

impl Report {
    /// What was found before and written to a directory.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let path = json(dir);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Takes a run in the place of an earlier one.
    pub(crate) fn take(&mut self, run: Run) {
        let about = |run: &Run| (run.growth, run.subject);
        self.runs.retain(|had| about(had) != about(&run));
        self.runs.push(run);
        self.runs.sort_by_key(about);
    }

    /// Writes it as JSON and as Markdown.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let text = serde_json::to_string_pretty(self)?;
        fs::write(json(dir), text + "\n")?;
        fs::write(dir.join(format!("{NAME}.md")), self.markdown())?;
        Ok(())
    }

    /// A table for each growth.
    pub(crate) fn markdown(&self) -> String {
        let mut out = "# How it grows\n\n\
            Figures are the middle one of several rounds (lowest–highest) where there are several. A goal is one of Catena's. 256-byte \
            values and one member unless said otherwise; 64 clients, each asking again when it is answered; server CPU is for each answer. \
            Figures of one table compare, those of two may be of other hours.\n"
            .to_owned();
        for growth in Growth::value_variants() {
            let of_growth = self.runs.iter().filter(|run| run.growth == *growth);
            let runs: Vec<_> = of_growth.collect();
            if !runs.is_empty() {
                out += &section(*growth, &runs);
            }
        }
        out
    }
}

fn json(dir: &Path) -> PathBuf {
    dir.join(format!("{NAME}.json"))
}

fn section(growth: Growth, runs: &[&Run]) -> String {
    let title = growth.to_possible_value().and_then(|value| {
        let help = value.get_help()?;
        Some(help.to_string())
    });
    let mut out = format!("\n## {}\n\n", title.unwrap_or_default());
    for run in runs {
        let (machine, short) = (&run.machine, if run.short { ", in small" } else { "" });
        out += &format!(
            "- {}{short}: commit {}, {} ({} cores for servers and generator together), Linux {}, append + fdatasync {:.0} µs, {:.1} \
             minutes.\n",
            run.subject.title(),
            machine.commit,
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.fdatasync_us,
            run.minutes,
        );
        for remark in &run.remarks {
            out += &format!("  - {remark}\n");
        }
    }
    let titles: Vec<_> = runs.iter().map(|run| run.subject.title()).collect();
    out += &format!(
        "\n| what | unit | goal | {} | ratio |\n| --- | --- | --- |{} --: |\n",
        titles.join(" | "),
        " --: |".repeat(runs.len())
    );
    let mut done: Vec<&str> = Vec::new();
    for figure in runs.iter().flat_map(|run| &run.figures) {
        if !done.contains(&figure.what.as_str()) {
            done.push(&figure.what);
            out += &line(figure, runs);
        }
    }
    out
}

/// One figure of all subjects, and Catena's divided by that of the newest etcd.
fn line(figure: &Figure, runs: &[&Run]) -> String {
    let find = |run: &&Run| {
        let found = run.figures.iter().find(|had| had.what == figure.what);
        found.map(|figure| figure.value)
    };
    let of = |subject| {
        let run = runs.iter().find(|run| run.subject == subject);
        run.and_then(find)
    };
    let ours = of(Subject::Catena);
    let goal = figure.goal.map_or_else(String::new, |goal| {
        let missed = ours.is_some_and(|ours| !goal.is_met(ours.median));
        format!("{goal}{}", if missed { ", **missed**" } else { "" })
    });
    let values = runs
        .iter()
        .map(|run| find(run).map_or_else(String::new, shown));
    let values: Vec<_> = values.collect();
    let ratio = ours
        .zip(of(Subject::Etcd37))
        .filter(|(_, theirs)| theirs.median > 0.0);
    let ratio = ratio.map_or_else(String::new, |(ours, theirs)| {
        format!("{:.2}", ours.median / theirs.median)
    });
    format!(
        "| {} | {} | {goal} | {} | {ratio} |\n",
        figure.what,
        figure.unit,
        values.join(" | ")
    )
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Goal::AtMost(most) => value <= most,
            Goal::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtMost(most) => write!(f, "≤ {most}"),
            Goal::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.what, shown(self.value), self.unit)?;
        match self.goal {
            Some(goal) => write!(f, " (goal {goal})"),
            None => Ok(()),
        }
    }
}

fn shown(spread: Spread) -> String {
    let Spread { median, low, high } = spread;
    if low == high {
        number(median)
    } else {
        format!("{} ({}–{})", number(median), number(low), number(high))
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(subject: Subject, value: f64) -> Run {
        let figure = |what: &str, value, goal| Figure {
            what: what.to_owned(),
            unit: "×".to_owned(),
            value: Spread {
                median: value,
                low: value / 2.0,
                high: value,
            },
            goal,
        };
        Run {
            growth: Growth::Keys,
            subject,
            machine: Machine {
                cpu: "a CPU".to_owned(),
                cores: 2,
                kernel: "6.1".to_owned(),
                commit: "abc".to_owned(),
                fdatasync_us: 100.0,
            },
            short: true,
            minutes: 1.0,
            figures: vec![
                figure("cost", value, Some(Goal::AtMost(1.3))),
                figure("kept", value, Some(Goal::AtLeast(0.8))),
            ],
            remarks: vec!["a remark".to_owned()],
        }
    }

    #[test]
    fn a_run_replaces_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut report = Report::read(dir.path()).unwrap();
        report.take(run(Subject::Etcd37, 2.0));
        report.take(run(Subject::Catena, 9.0));
        report.write(dir.path()).unwrap();
        let mut report = Report::read(dir.path()).unwrap();
        report.take(run(Subject::Catena, 1.5));
        report.write(dir.path()).unwrap();
        let table = fs::read_to_string(dir.path().join("growth.md")).unwrap();
        let cost = "| cost | × | ≤ 1.3, **missed** | 1.50 (0.75–1.50) | 2.00 (1.00–2.00) | 0.75 |";
        assert!(table.contains(cost), "{table}");
        let kept = "| kept | × | ≥ 0.8 | 1.50 (0.75–1.50) | 2.00 (1.00–2.00) | 0.75 |";
        assert!(table.contains(kept), "{table}");
        assert_eq!(table.matches("  - a remark").count(), 2, "{table}");
    }

    #[test]
    fn three_digits_count() {
        let shown = [0.456, 9.99, 12.34, 1234.5].map(number);
        assert_eq!(shown, ["0.46", "9.99", "12.3", "1234"]);
    }
}
