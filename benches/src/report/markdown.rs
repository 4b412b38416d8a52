//! The tables.

use super::{
    Finding, Results, plot,
    ratio::{self, Line, Metric, Spread},
};
use crate::{cell::Figures, load::Op, subject::Subject};

/// The whole report.
pub(crate) fn markdown(results: &Results) -> String {
    let mut out = head(results);
    let lines = ratio::lines(&results.cells);
    let (open, closed): (Vec<Line>, Vec<Line>) = lines
        .into_iter()
        .partition(|line| line.offered_per_sec.is_some());
    for members in [1, 3] {
        let mut lines = closed.clone();
        lines.retain(|line| line.members == members);
        if !lines.is_empty() {
            let plural = if members == 1 { "" } else { "s" };
            out += &format!("\n## Closed loop, {members} member{plural}\n");
            out += &ratios(results, &lines);
            out += &absolutes(results, &lines);
        }
    }
    if !open.is_empty() {
        out += "\n## Open loop, 1 member\n";
        out += &offered(results, &open);
    }
    if !results.scenarios.is_empty() {
        out += "\n## Scenarios\n";
        out += &scenarios(results);
    }
    out
}

fn head(results: &Results) -> String {
    let (machine, minutes) = (&results.machine, results.minutes);
    let generator = generator(&results.cells);
    format!(
        "# Benchmark\n\n\
         Commit {}, {} ({} cores for servers and generator together), Linux {}, append + fdatasync {:.0} µs, \
         {minutes:.0} minutes.\n\
         Ratios are Catena's figure to the better of the others' in the same round: the middle round (lowest–highest).\n\
         The generator took {} µs of CPU for each answer.\n",
        machine.commit,
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.fdatasync_us,
        generator.map_or_else(String::new, shown),
    )
}

/// What the generator took for answers of one frame; a range of 1000 is another matter, and one client wakes it for each answer.
fn generator(cells: &[Figures]) -> Option<Spread> {
    let short = |figures: &&Figures| figures.clients > 1 && figures.op != Op::Range;
    let cells = cells.iter().filter(short);
    Spread::of(cells.map(|figures| figures.generator_cpu_us).collect())
}

/// Ratios, all metrics in each line.
fn ratios(results: &Results, lines: &[Line]) -> String {
    let titles = Metric::ALL.map(|metric| metric.title().to_owned());
    let mut out = head_of_table(&["ratio", "clients"], &titles);
    for line in lines {
        let ratio = |metric| ratio::ratio(&results.cells, &results.against, *line, metric);
        let cells: Vec<_> = Metric::ALL.into_iter().map(ratio).collect();
        if cells.iter().any(Option::is_some) {
            let numbers = cells
                .into_iter()
                .map(|cell| cell.map_or_else(String::new, shown));
            out += &row(&line_head(line), numbers);
        }
    }
    out
}

/// Middle values, one column for each subject.
fn absolutes(results: &Results, lines: &[Line]) -> String {
    let subjects = subjects(results);
    let titles: Vec<_> = subjects
        .iter()
        .map(|subject| subject.title().to_owned())
        .collect();
    let legend = "answers/s · p50 / p99 / p99.9 ms · server CPU µs · RSS MiB";
    let mut out = head_of_table(&[legend, "clients"], &titles);
    for line in lines {
        let cell = |subject: &Subject| absolute(&results.cells, *subject, *line);
        out += &row(&line_head(line), subjects.iter().map(cell));
    }
    out
}

fn absolute(cells: &[Figures], subject: Subject, line: Line) -> String {
    let [rate, p50, p99, p999, cpu, rss] = Metric::ALL
        .map(|metric| ratio::spread(cells, subject, line, metric).map(|spread| spread.median));
    let (Some(rate), Some(p50), Some(p99), Some(p999)) = (rate, p50, p99, p999) else {
        return String::new();
    };
    format!(
        "{rate:.0} · {:.2} / {:.2} / {:.2} · {:.1} · {:.0}",
        p50 / 1e3,
        p99 / 1e3,
        p999 / 1e3,
        cpu.unwrap_or_default(),
        rss.unwrap_or_default() / f64::from(1 << 20),
    )
}

/// Latency by offered load.
fn offered(results: &Results, lines: &[Line]) -> String {
    let mut titles = vec!["offered/s".to_owned()];
    titles.extend(["p50 ratio", "p99 ratio", "CPU ratio"].map(str::to_owned));
    let subjects = subjects(results);
    titles.extend(subjects.iter().map(|subject| subject.title().to_owned()));
    let mut out = head_of_table(&["p50 / p99 ms"], &titles);
    for line in lines {
        let ratio = |metric| {
            let ratio = ratio::ratio(&results.cells, &results.against, *line, metric);
            ratio.map_or_else(String::new, shown)
        };
        let millis = |subject: &Subject| {
            let of = |metric| ratio::spread(&results.cells, *subject, *line, metric);
            let both = of(Metric::P50).zip(of(Metric::P99));
            both.map_or_else(String::new, |(p50, p99)| {
                format!("{:.2} / {:.2}", p50.median / 1e3, p99.median / 1e3)
            })
        };
        let rate = format!("{:.0}", line.offered_per_sec.unwrap_or_default());
        let ratios = [Metric::P50, Metric::P99, Metric::Cpu].map(ratio);
        let numbers = [rate].into_iter().chain(ratios);
        let title = [line.op.title().to_owned()];
        out += &row(&title, numbers.chain(subjects.iter().map(millis)));
    }
    for op in plot::ops(&results.cells) {
        out += &format!("\n![{}]({})\n", op.title(), plot::file_name(op));
    }
    out
}

/// Findings, one line for each thing found.
fn scenarios(results: &Results) -> String {
    let subjects = subjects(results);
    let mut titles = vec!["ratio".to_owned()];
    titles.extend(subjects.iter().map(|subject| subject.title().to_owned()));
    let mut out = head_of_table(&["what", "unit"], &titles);
    let mut done: Vec<&str> = Vec::new();
    for finding in &results.scenarios {
        if done.contains(&finding.what.as_str()) {
            continue;
        }
        done.push(&finding.what);
        let find = |subject| find(&results.scenarios, subject, &finding.what);
        let others = results.against.iter().filter_map(|subject| find(*subject));
        let ratio = find(Subject::Catena).zip(others.reduce(f64::min));
        let ratio = ratio.map_or_else(String::new, |(ours, best)| format!("{:.2}", ours / best));
        let value = |subject: &Subject| {
            find(*subject).map_or_else(String::new, |value| format!("{value:.1}"))
        };
        let numbers = [ratio].into_iter().chain(subjects.iter().map(value));
        out += &row(&[finding.what.clone(), finding.unit.clone()], numbers);
    }
    out
}

fn find(findings: &[Finding], subject: Subject, what: &str) -> Option<f64> {
    let found = findings
        .iter()
        .find(|had| had.subject == subject && had.what == what);
    found.map(|finding| finding.value)
}

/// Who was measured: Catena, those it is compared with, and the floor if it was.
fn subjects(results: &Results) -> Vec<Subject> {
    let mut subjects = vec![Subject::Catena];
    subjects.extend(&results.against);
    if results
        .cells
        .iter()
        .any(|figures| figures.subject == Subject::Floor)
    {
        subjects.push(Subject::Floor);
    }
    subjects
}

fn shown(spread: Spread) -> String {
    format!(
        "{:.2} ({:.2}–{:.2})",
        spread.median, spread.low, spread.high
    )
}

fn line_head(line: &Line) -> [String; 2] {
    [line.op.title().to_owned(), line.clients.to_string()]
}

/// A table's head: columns of text, then columns of numbers.
fn head_of_table(texts: &[&str], numbers: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    let rules = vec!["---".to_owned(); texts.len()];
    let right = vec!["--:".to_owned(); numbers.len()];
    let head = row(&texts, numbers.iter().cloned());
    format!("\n{head}{}", row(&rules, right))
}

fn row(texts: &[String], numbers: impl IntoIterator<Item = String>) -> String {
    let cells: Vec<_> = texts.iter().cloned().chain(numbers).collect();
    format!("| {} |\n", cells.join(" | "))
}
