//! How the stores grow.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use framework::peers::target_dir;
use tokio::runtime::Runtime;

use crate::{
    growth::{Growth as Kind, Report, Sizes, Stage},
    rounds::Contender,
    subject::Subject,
};

/// How the stores grow.
#[derive(Args, Debug)]
pub(crate) struct Growth {
    /// Which growth to measure; all without it.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Kind>,
    /// Whose servers, in this order.
    #[arg(long, value_delimiter = ',', default_value = "catena,etcd-3.7.1")]
    targets: Vec<Subject>,
    /// Server programs in place of those that would be built or fetched, as `catena=PATH`.
    #[arg(long, value_delimiter = ',', value_parser = program)]
    programs: Vec<(Subject, PathBuf)>,
    #[command(flatten)]
    sizes: Sizes,
    /// Where the report goes, and where the one is that it becomes a part of. Without it, benches/results, or with `--short` a place
    /// below the build's.
    #[arg(long)]
    output: Option<PathBuf>,
}

impl Growth {
    /// Measures each growth on all subjects in turn; writes the report after each, so that what goes wrong at the end takes nothing of
    /// what was found before.
    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            !self.targets.contains(&Subject::Floor),
            "the floor keeps nothing, and so does not grow"
        );
        let runtime = Runtime::new()?;
        let output = self.output.clone().unwrap_or_else(|| {
            if self.sizes.short {
                target_dir().join("benches")
            } else {
                concat!(env!("CARGO_MANIFEST_DIR"), "/results").into()
            }
        });
        let contenders = self.targets.iter().map(|subject| self.contender(*subject));
        let contenders: Vec<_> = contenders.collect::<Result<_>>()?;
        let kinds = match &self.only[..] {
            [] => Kind::value_variants(),
            some => some,
        };
        for kind in kinds {
            for contender in &contenders {
                let run = Stage::run(*kind, contender, &runtime, &self.sizes)?;
                // Read only now: another run may have written meanwhile.
                let mut report = Report::read(&output)?;
                report.take(run);
                report.write(&output)?;
            }
        }
        println!(
            "\n{}\nwritten to {}",
            Report::read(&output)?.markdown(),
            output.display()
        );
        Ok(())
    }

    fn contender(&self, subject: Subject) -> Result<Contender> {
        let given = self.programs.iter().find(|(had, _)| *had == subject);
        match given {
            Some((_, program)) => Ok(Contender {
                subject,
                program: Some(program.clone()),
            }),
            None => Contender::own(subject),
        }
    }
}

/// A subject and the program of its servers.
fn program(text: &str) -> Result<(Subject, PathBuf)> {
    let (subject, path) = text.split_once('=').context("wanted: SUBJECT=PATH")?;
    let subject = Subject::from_str(subject, false).map_err(anyhow::Error::msg)?;
    let path = PathBuf::from(path);
    ensure!(path.exists(), "{} does not exist", path.display());
    Ok((subject, path))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        growth: Growth,
    }

    fn parse(line: &[&str]) -> Result<Growth, clap::Error> {
        let line = [&["growth"], line].concat();
        Ok(Line::try_parse_from(line)?.growth)
    }

    #[test]
    fn small_sizes_give_way_to_those_that_are_named() {
        let growth = parse(&["--short", "--only", "keys,log", "--rounds", "7"]).unwrap();
        assert_eq!(growth.only, [Kind::Keys, Kind::Log]);
        let sizes = format!("{:?}", growth.sizes);
        assert!(sizes.contains("keys: [1000, 10000, 100000]"), "{sizes}");
        assert!(sizes.contains("rounds: 7"), "{sizes}");
        let sizes = format!("{:?}", parse(&[]).unwrap().sizes);
        assert!(
            sizes.contains("keys: [10000, 1000000, 10000000]"),
            "{sizes}"
        );
    }

    #[test]
    fn programs_are_named_by_subject() {
        let growth = parse(&["--programs", "etcd-3.7.1=/proc/self/exe"]).unwrap();
        let wanted = (Subject::Etcd37, PathBuf::from("/proc/self/exe"));
        assert_eq!(growth.programs, [wanted]);
        for wrong in ["catena", "other=/proc/self/exe", "catena=/nowhere"] {
            assert!(parse(&["--programs", wrong]).is_err(), "{wrong}");
        }
    }
}
