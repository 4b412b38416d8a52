//! Rate, errors, duration and what is in flight, by route.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use catena_telemetry::metrics::{
    Buckets, Registry,
    prometheus::{Error, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec},
};
use http::Method;

use super::Outcome;
use crate::{protocol::Protocol, record::Record};

/// Routes with series of their own; those after them share one, so that nobody can make series without end.
const ROUTES_MAX: usize = 200;

/// From a quarter of a millisecond to eight seconds.
const SECONDS: Buckets = Buckets::doubling(0.000_25, 16);

/// The series of requests.
pub struct RequestMetrics {
    total: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGaugeVec,
    panics: IntCounter,
    routes: Mutex<BTreeSet<Arc<str>>>,
}

impl RequestMetrics {
    /// Makes the series.
    pub fn register(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            total: registry.counters(
                "catena_requests_total",
                "Requests that have ended, by the status of HTTP.",
                &["protocol", "route", "method", "status"],
            )?,
            seconds: registry.histograms(
                "catena_request_seconds",
                "Time from a request's head to the end of its answer.",
                &["protocol", "route"],
                SECONDS,
            )?,
            in_flight: registry.gauges(
                "catena_requests_in_flight",
                "Requests that are being answered.",
                &["protocol"],
            )?,
            panics: registry.counter("catena_request_panics_total", "Handlers that panicked.")?,
            routes: Mutex::new(BTreeSet::new()),
        })
    }

    pub(super) fn began(&self, protocol: Protocol) {
        self.in_flight.with_label_values(&[name(protocol)]).inc();
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }

    pub(super) fn ended(&self, record: &Record, outcome: &Outcome) {
        let protocol = name(record.protocol());
        let route = self.route(record);
        let status = outcome.status.to_string();
        let labels = [protocol, &*route, method(record.method()), &status];
        self.total.with_label_values(&labels).inc();
        self.seconds
            .with_label_values(&[protocol, &*route])
            .observe(outcome.took.as_secs_f64());
        self.in_flight.with_label_values(&[protocol]).dec();
    }

    fn route(&self, record: &Record) -> Arc<str> {
        let Some(route) = record.route() else {
            return "unmatched".into();
        };
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.contains(&route) || routes.len() < ROUTES_MAX {
            routes.insert(route.clone());
            route
        } else {
            "other".into()
        }
    }
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
    }
}

/// Clients may invent methods.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn routes_beyond_the_bound_share_a_series() {
        let registry = Registry::new().unwrap();
        let metrics = RequestMetrics::register(&registry).unwrap();
        for route in 0..ROUTES_MAX + 5 {
            let record = Record::begin(&http::Request::new(()));
            record.note_route(format!("/{route}"));
            metrics.began(record.protocol());
            let outcome = Outcome {
                status: 200,
                grpc: None,
                bytes: 0,
                took: Duration::ZERO,
            };
            metrics.ended(&record, &outcome);
        }
        let text = registry.render().unwrap();
        let other =
            r#"catena_requests_total{method="GET",protocol="http",route="other",status="200"} 5"#;
        assert!(text.lines().any(|line| line == other), "{text}");
        assert!(text.contains("catena_requests_in_flight{protocol=\"http\"} 0"));
    }
}
