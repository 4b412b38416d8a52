//! Ratios between subjects, round by round.

use serde::{Deserialize, Serialize};

use crate::{cell::Figures, load::Op, subject::Subject};

/// A figure that is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// Answers in a second.
    Throughput,
    /// Median latency.
    P50,
    /// The latency that 99 of 100 do not exceed.
    P99,
    /// The latency that 999 of 1000 do not exceed.
    P999,
    /// CPU of all servers for each answer.
    Cpu,
    /// Memory of all servers.
    Rss,
}

impl Metric {
    /// All, in the order of tables.
    pub(crate) const ALL: [Metric; 6] = [
        Metric::Throughput,
        Metric::P50,
        Metric::P99,
        Metric::P999,
        Metric::Cpu,
        Metric::Rss,
    ];

    /// The head of its column.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Metric::Throughput => "throughput",
            Metric::P50 => "p50",
            Metric::P99 => "p99",
            Metric::P999 => "p99.9",
            Metric::Cpu => "CPU",
            Metric::Rss => "RSS",
        }
    }

    /// Its value.
    pub(crate) fn of(self, figures: &Figures) -> f64 {
        match self {
            Metric::Throughput => figures.answered_per_sec,
            Metric::P50 => figures.p50_us,
            Metric::P99 => figures.p99_us,
            Metric::P999 => figures.p999_us,
            Metric::Cpu => figures.server_cpu_us,
            Metric::Rss => figures.rss_bytes as f64,
        }
    }

    /// The better of two values.
    fn better(self, a: f64, b: f64) -> f64 {
        match self {
            Metric::Throughput => a.max(b),
            Metric::P50 | Metric::P99 | Metric::P999 | Metric::Cpu | Metric::Rss => a.min(b),
        }
    }
}

/// What is compared: one line of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// How many servers.
    pub(crate) members: usize,
    /// The operation.
    pub(crate) op: Op,
    /// By so many clients.
    pub(crate) clients: usize,
    /// At a timetable's rate, or in a closed loop.
    pub(crate) offered_per_sec: Option<f64>,
}

impl Line {
    /// The line that figures belong to.
    pub(crate) fn of(figures: &Figures) -> Self {
        Self {
            members: figures.members,
            op: figures.op,
            clients: figures.clients,
            offered_per_sec: figures.offered_per_sec,
        }
    }
}

/// The median of a few rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    /// The middle one, the lower of two.
    pub(crate) median: f64,
    /// The lowest.
    pub(crate) low: f64,
    /// The highest.
    pub(crate) high: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: *values.get(values.len().saturating_sub(1) / 2)?,
            low: *values.first()?,
            high: *values.last()?,
        })
    }
}

/// The figures of one subject in a line, round by round.
pub(crate) fn rounds(all: &[Figures], subject: Subject, line: Line) -> Vec<&Figures> {
    all.iter()
        .filter(|figures| figures.subject == subject && Line::of(figures) == line)
        .collect()
}

/// A subject's metric over the rounds.
pub(crate) fn spread(
    all: &[Figures],
    subject: Subject,
    line: Line,
    metric: Metric,
) -> Option<Spread> {
    let rounds = rounds(all, subject, line);
    Spread::of(rounds.iter().map(|figures| metric.of(figures)).collect())
}

/// Catena's metric to the better one of others, each round for itself: what the machine does to one round it does to all of it.
pub(crate) fn ratio(
    all: &[Figures],
    against: &[Subject],
    line: Line,
    metric: Metric,
) -> Option<Spread> {
    let ours = rounds(all, Subject::Catena, line);
    let theirs: Vec<_> = against
        .iter()
        .map(|subject| rounds(all, *subject, line))
        .collect();
    let in_round = |(round, figures): (usize, &&Figures)| {
        let others = theirs.iter().filter_map(|rounds| rounds.get(round));
        let best = others
            .map(|figures| metric.of(figures))
            .reduce(|a, b| metric.better(a, b))?;
        Some(metric.of(figures) / best)
    };
    Spread::of(ours.iter().enumerate().filter_map(in_round).collect())
}

/// Every line that was measured, in the order of the first measurement.
pub(crate) fn lines(all: &[Figures]) -> Vec<Line> {
    let mut lines = Vec::new();
    for line in all.iter().map(Line::of) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::figures;

    #[test]
    fn each_round_is_compared_with_the_better_other_in_it() {
        let all = [
            figures(Subject::Catena, 300.0, 10.0),
            figures(Subject::Etcd37, 100.0, 40.0),
            figures(Subject::Etcd35, 150.0, 50.0),
            figures(Subject::Etcd37, 200.0, 30.0),
            figures(Subject::Etcd35, 150.0, 20.0),
            figures(Subject::Catena, 300.0, 10.0),
        ];
        let against = [Subject::Etcd37, Subject::Etcd35];
        let line = Line::of(&all[0]);
        let ratio = |metric| ratio(&all, &against, line, metric).unwrap();
        let spread = |median, low, high| Spread { median, low, high };
        assert_eq!(ratio(Metric::Throughput), spread(1.5, 1.5, 2.0));
        assert_eq!(ratio(Metric::Cpu), spread(0.25, 0.25, 0.5));
    }

    #[test]
    fn a_spread_of_nothing_is_none() {
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
