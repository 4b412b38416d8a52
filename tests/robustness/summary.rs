//! The table of runs, as it stands in the README.

use std::{collections::BTreeMap, time::Duration};

use crate::run::{Ending, Plan, Report};

/// Runs that have ended.
#[derive(Default)]
pub(crate) struct Summary {
    runs: Vec<(Plan, Report)>,
}

/// What is counted of the runs with one fault.
#[derive(Default)]
struct Row {
    runs: usize,
    faults: usize,
    operations: usize,
    unknown: usize,
    events: usize,
    convicted: usize,
    invalid: usize,
}

impl Summary {
    /// Adds a run.
    pub(crate) fn add(&mut self, plan: &Plan, report: &Report) {
        self.runs.push((plan.clone(), report.clone()));
    }

    /// Prints the table in Markdown.
    pub(crate) fn print(&self) {
        if self.runs.is_empty() {
            return;
        }
        println!(
            "\n| faults | members | runs | proven | operations | unknown | events | convicted | invalid |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
        let mut rows: BTreeMap<(String, usize), Row> = BTreeMap::new();
        let mut total = Row::default();
        for (plan, report) in &self.runs {
            let names: Vec<_> = plan.faults.iter().map(|fault| fault.name).collect();
            let row = rows.entry((names.join(", "), plan.members)).or_default();
            row.add(report);
            total.add(report);
        }
        for ((names, members), row) in &rows {
            println!("| {names} | {members} | {} |", row.cells());
        }
        println!("| **all** | | {} |", total.cells());
        self.print_times("Leaders killed, first good write after", |report| {
            &report.failovers
        });
        self.print_times(
            "Responses with events, owed by a healthy member for",
            |report| &report.delays,
        );
    }

    fn print_times(&self, what: &str, of: fn(&Report) -> &[Duration]) {
        let runs = self.runs.iter();
        let mut times: Vec<Duration> = runs.flat_map(|(_, report)| of(report)).copied().collect();
        times.sort();
        let Some(longest) = times.last() else {
            return;
        };
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        println!(
            "\n{what}: {:?} (median), {:?} (99 of 100), {longest:?} (longest), of {}.",
            at(50),
            at(99),
            times.len()
        );
    }
}

impl Row {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.faults += report.proven.len();
        self.operations += report.operations;
        self.unknown += report.unknown;
        self.events += report.events;
        match report.ending {
            Ending::Passed => {}
            Ending::Convicted(_) => self.convicted += 1,
            Ending::Invalid(_) => self.invalid += 1,
        }
    }

    fn cells(&self) -> String {
        let Row {
            runs,
            faults,
            operations,
            unknown,
            events,
            convicted,
            invalid,
        } = self;
        format!("{runs} | {faults} | {operations} | {unknown} | {events} | {convicted} | {invalid}")
    }
}
