//! Latency against offered load, drawn by hand: axes, a grid, two lines for each subject.

use std::collections::BTreeMap;

use super::ratio::{self, Metric};
use crate::{cell::Figures, load::Op, subject::Subject};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// The operations that were measured by a timetable.
pub(super) fn ops(cells: &[Figures]) -> Vec<Op> {
    let open = cells
        .iter()
        .filter(|figures| figures.offered_per_sec.is_some());
    let mut ops: Vec<_> = open.map(|figures| figures.op).collect();
    ops.sort();
    ops.dedup();
    ops
}

/// The name of an operation's plot.
pub(super) fn file_name(op: Op) -> String {
    format!("{}.svg", op.title().replace(", ", "-").replace(' ', "-"))
}

/// One plot for each operation.
pub(super) fn plots(cells: &[Figures]) -> Vec<(Op, String)> {
    ops(cells)
        .into_iter()
        .map(|op| (op, plot(cells, op)))
        .collect()
}

/// A subject's points: offered a second, and the middle median and 99th percentile, in milliseconds.
type Points = Vec<(f64, f64, f64)>;

fn points(cells: &[Figures], op: Op) -> BTreeMap<Subject, Points> {
    let mut found: BTreeMap<Subject, Points> = BTreeMap::new();
    for line in ratio::lines(cells) {
        let Some(offered) = line.offered_per_sec.filter(|_| line.op == op) else {
            continue;
        };
        for figures in cells
            .iter()
            .filter(|figures| ratio::Line::of(figures) == line)
        {
            let subject = figures.subject;
            let of = |metric| ratio::spread(cells, subject, line, metric);
            let points = found.entry(subject).or_default();
            let known = points.iter().any(|(had, ..)| *had == offered);
            if let (false, Some(p50), Some(p99)) = (known, of(Metric::P50), of(Metric::P99)) {
                points.push((offered, p50.median / 1e3, p99.median / 1e3));
            }
        }
    }
    for points in found.values_mut() {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    found
}

fn colour(subject: Subject) -> &'static str {
    match subject {
        Subject::Catena => "#c0392b",
        Subject::Etcd37 => "#2471a3",
        Subject::Etcd35 => "#7d8c2c",
        Subject::Before => "#5b6770",
        Subject::Floor => "#999999",
    }
}

/// Where values come to lie. Latencies are on a logarithmic axis of whole decades.
struct Axes {
    offered_max: f64,
    decade_min: f64,
    decade_max: f64,
}

impl Axes {
    fn of(points: &BTreeMap<Subject, Points>) -> Self {
        let all = || points.values().flatten();
        let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let most = all().map(|point| point.2).fold(0.0, f64::max);
        Self {
            offered_max: all().map(|point| point.0).fold(1.0, f64::max),
            decade_min: least.max(1e-3).log10().floor(),
            decade_max: most.max(1e-2).log10().ceil(),
        }
    }

    fn x(&self, offered: f64) -> f64 {
        LEFT + offered / self.offered_max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, millis: f64) -> f64 {
        let decades = (self.decade_max - self.decade_min).max(1.0);
        let share = (millis.log10() - self.decade_min) / decades;
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }
}

fn plot(cells: &[Figures], op: Op) -> String {
    let points = points(cells, op);
    let axes = Axes::of(&points);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let title = format!("{}: latency against offered load, 1 member", op.title());
    svg += &text(LEFT, TOP - 18.0, "start", &title);
    svg += &grid(&axes);
    for (place, (subject, points)) in points.iter().enumerate() {
        let colour = colour(*subject);
        let p50 = points.iter().map(|(offered, p50, _)| (*offered, *p50));
        let p99 = points.iter().map(|(offered, _, p99)| (*offered, *p99));
        svg += &line(&axes, p50, colour, "4 3");
        svg += &line(&axes, p99, colour, "none");
        let y = TOP + 10.0 + 18.0 * place as f64;
        let x = WIDTH - RIGHT + 15.0;
        svg += &format!(
            "<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/>\n",
            y - 6.0
        );
        svg += &text(x + 20.0, y, "start", subject.title());
    }
    let below = HEIGHT - 12.0;
    svg += &text(
        LEFT,
        below,
        "start",
        "thousand requests offered a second; p99 solid, p50 dashed",
    );
    svg + "</svg>\n"
}

fn grid(axes: &Axes) -> String {
    let mut svg = String::new();
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let rule = |x1: f64, y1: f64, x2: f64, y2: f64| {
        format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"#ddd\"/>\n"
        )
    };
    let mut decade = axes.decade_min;
    while decade <= axes.decade_max {
        let y = axes.y(10f64.powf(decade));
        svg += &rule(LEFT, y, right, y);
        svg += &text(
            LEFT - 6.0,
            y + 4.0,
            "end",
            &format!("{} ms", 10f64.powf(decade)),
        );
        decade += 1.0;
    }
    for step in 0..=5 {
        let offered = axes.offered_max * f64::from(step) / 5.0;
        let x = axes.x(offered);
        svg += &rule(x, TOP, x, bottom);
        svg += &text(x, bottom + 16.0, "middle", &format!("{:.0}", offered / 1e3));
    }
    svg
}

fn line(
    axes: &Axes,
    points: impl Iterator<Item = (f64, f64)>,
    colour: &str,
    dashes: &str,
) -> String {
    let places = points.map(|(offered, ms)| format!("{:.1},{:.1}", axes.x(offered), axes.y(ms)));
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n",
        places.collect::<Vec<_>>().join(" ")
    )
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::figures;

    #[test]
    fn a_plot_has_two_lines_for_each_subject_measured_by_a_timetable() {
        let mut cells = Vec::new();
        for subject in [Subject::Catena, Subject::Etcd37] {
            for offered in [1000.0, 2000.0, 1000.0] {
                let mut figures = figures(subject, offered, 5.0);
                figures.offered_per_sec = Some(offered);
                cells.push(figures);
            }
        }
        let plots = plots(&cells);
        let [(Op::Put, svg)] = &plots[..] else {
            panic!("not one plot of puts: {plots:?}");
        };
        assert_eq!(svg.matches("<polyline").count(), 4, "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
