//! What a run has found, as JSON for programs, Markdown for readers and SVG for the eye.
//!
//! Every ratio is Catena's figure divided by the better of the others' *in the same round*; a table shows the middle round and, in
//! brackets, the lowest and the highest. Ratios of CPU, latency and memory are good below 1, that of throughput above.

mod markdown;
mod plot;
mod ratio;

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{cell::Figures, machine::Machine, subject::Subject};

pub(crate) use markdown::markdown;
pub(crate) use ratio::{Line, Spread};

/// All that a run has found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Where.
    pub(crate) machine: Machine,
    /// What Catena is compared with.
    pub(crate) against: Vec<Subject>,
    /// The cells of all rounds, in the order in which they were measured.
    pub(crate) cells: Vec<Figures>,
    /// What is no throughput of an operation.
    pub(crate) scenarios: Vec<Finding>,
    /// How long all of it took.
    pub(crate) minutes: f64,
}

/// One figure of a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// Whose.
    pub(crate) subject: Subject,
    /// What was found.
    pub(crate) what: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: String,
}

impl Results {
    /// Writes `<name>.json`, `<name>.md` and, if there was an open loop, a plot for each operation of it.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let json = serde_json::to_string_pretty(self)?;
        fs::write(dir.join(format!("{name}.json")), json + "\n")?;
        fs::write(dir.join(format!("{name}.md")), markdown(self))?;
        for (op, svg) in plot::plots(&self.cells) {
            fs::write(dir.join(plot::file_name(op)), svg)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Op;

    /// Figures that differ in throughput and CPU.
    pub(super) fn figures(subject: Subject, per_sec: f64, cpu_us: f64) -> Figures {
        Figures {
            subject,
            members: 1,
            op: Op::Put,
            clients: 64,
            offered_per_sec: None,
            late: 0,
            answered_per_sec: per_sec,
            p50_us: 1000.0,
            p99_us: 2000.0,
            p999_us: 4000.0,
            server_cpu_us: cpu_us,
            generator_cpu_us: 3.0,
            rss_bytes: 100 << 20,
        }
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let results = Results {
            machine: Machine {
                cpu: "a CPU".to_owned(),
                cores: 2,
                kernel: "6.1".to_owned(),
                commit: "abc".to_owned(),
                fdatasync_us: 100.0,
            },
            against: vec![Subject::Etcd37],
            cells: vec![
                figures(Subject::Catena, 2.0, 3.0),
                figures(Subject::Etcd37, 1.0, 6.0),
            ],
            scenarios: Vec::new(),
            minutes: 1.0,
        };
        let dir = tempfile::tempdir().unwrap();
        results.write(dir.path(), "run").unwrap();
        let json = fs::read_to_string(dir.path().join("run.json")).unwrap();
        let read: Results = serde_json::from_str(&json).unwrap();
        assert_eq!(markdown(&read), markdown(&results));
        let table = fs::read_to_string(dir.path().join("run.md")).unwrap();
        assert!(table.contains("| put | 64 |"), "{table}");
        assert!(table.contains("| 2.00 (2.00–2.00) |"), "{table}");
        assert!(table.contains("| 0.50 (0.50–0.50) |"), "{table}");
    }
}
