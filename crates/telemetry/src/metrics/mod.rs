//! The series of one member.
//!
//! A process may hold several members, so nothing here is global: each member has a [`Registry`], makes its series through it and
//! keeps them; what is not counted but asked for (sizes, indexes, the process itself) is set just before a scrape.

mod process;

use std::sync::{Mutex, PoisonError};

use prometheus::{
    Encoder, Error, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, TextEncoder, core::Collector,
};

pub use prometheus;

use self::process::Process;

/// The content type of [`Registry::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Makes series and writes them all as text.
///
/// Making a series fails only if its name is malformed or taken, so the errors show a mistake in the program, at its start.
pub struct Registry {
    registry: prometheus::Registry,
    process: Process,
    /// What writes series of its own, in the order in which it was added.
    writers: Mutex<Vec<Writer>>,
}

/// Appends series in Prometheus' text format.
type Writer = Box<dyn Fn(&mut String) + Send + Sync>;

impl Registry {
    /// A registry that holds the process' own series.
    pub fn new() -> Result<Self, Error> {
        let registry = prometheus::Registry::new();
        let process = Process::register(&registry)?;
        Ok(Self {
            registry,
            process,
            writers: Mutex::default(),
        })
    }

    /// Adds what writes series of its own in the same format at each scrape: for parts that count by themselves. Their names must
    /// differ from all others.
    pub fn add_writer(&self, writer: impl Fn(&mut String) + Send + Sync + 'static) {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.push(Box::new(writer));
    }

    fn register<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    /// A number that only grows.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.register(IntCounter::new(name, help)?)
    }

    /// One counter for each combination of label values.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    /// A number that goes up and down.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.register(IntGauge::new(name, help)?)
    }

    /// One gauge for each combination of label values.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    /// A distribution over `buckets`.
    pub fn histogram(&self, name: &str, help: &str, buckets: Buckets) -> Result<Histogram, Error> {
        self.register(Histogram::with_opts(buckets.options(name, help)?)?)
    }

    /// One distribution for each combination of label values.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: Buckets,
    ) -> Result<HistogramVec, Error> {
        self.register(HistogramVec::new(buckets.options(name, help)?, labels)?)
    }

    /// All series in Prometheus' text format, those of the process read now.
    pub fn render(&self) -> Result<String, Error> {
        self.process.refresh();
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        let mut text = String::from_utf8(out).map_err(|error| Error::Msg(error.to_string()))?;
        let writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        writers.iter().for_each(|write| write(&mut text));
        Ok(text)
    }
}

/// Upper bounds of a histogram's buckets: `start`, doubled `count - 1` times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buckets {
    /// The first bound.
    pub start: f64,
    /// How many bounds.
    pub count: usize,
}

impl Buckets {
    /// `count` bounds from `start` on.
    pub const fn doubling(start: f64, count: usize) -> Self {
        Self { start, count }
    }

    fn options(self, name: &str, help: &str) -> Result<HistogramOpts, Error> {
        let bounds = prometheus::exponential_buckets(self.start, 2.0, self.count)?;
        Ok(HistogramOpts::new(name, help).buckets(bounds))
    }
}

/// A gauge with decimals, for what etcd exports so.
fn decimal_gauge(registry: &prometheus::Registry, name: &str, help: &str) -> Result<Gauge, Error> {
    let gauge = Gauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_as_prometheus_reads_them() {
        let registry = Registry::new().unwrap();
        registry.gauge("etcd_a", "A.").unwrap().set(2_147_483_648);
        let counters = registry
            .counters("etcd_b_total", "B.", &["z", "a"])
            .unwrap();
        counters.with_label_values(&["1", "2"]).inc();
        let buckets = Buckets::doubling(0.001, 2);
        registry
            .histogram("etcd_c", "C.", buckets)
            .unwrap()
            .observe(0.0015);
        registry.add_writer(|text| text.push_str("etcd_d 7\n"));
        let text = registry.render().unwrap();
        for line in [
            "etcd_d 7",
            "# HELP etcd_a A.",
            "# TYPE etcd_a gauge",
            "etcd_a 2147483648",
            r#"etcd_b_total{a="2",z="1"} 1"#,
            r#"etcd_c_bucket{le="0.001"} 0"#,
            r#"etcd_c_bucket{le="0.002"} 1"#,
            r#"etcd_c_bucket{le="+Inf"} 1"#,
            "etcd_c_count 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_name_is_taken_once() {
        let registry = Registry::new().unwrap();
        registry.gauge("etcd_a", "A.").unwrap();
        assert!(registry.gauge("etcd_a", "A.").is_err());
    }
}
