//! Counters of each RPC, as grpc-prometheus names them.

use std::{sync::OnceLock, time::Duration};

use catena_telemetry::metrics::{
    Buckets, Registry,
    prometheus::{Error, Histogram, HistogramVec, IntCounter, IntCounterVec},
};
use parking_lot::RwLock;
use tonic::Code;

use super::table::{Kind, RPCS, Rpc};
use crate::config::MetricsDetail;

/// The codes, in order of their numbers, as grpc-prometheus spells them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Kinds of clients, by version of the client API, that get a series of their own; what a client says is not trusted to be one of few.
const CLIENT_SERIES_MAX: usize = 64;

/// The label of a client that says none, or one too many.
const UNKNOWN_VERSION: &str = "unknown";

/// The series of all RPCs.
pub(crate) struct RpcMetrics {
    families: Families,
    series: [OnceLock<Series>; RPCS.len()],
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
    client_requests: IntCounterVec,
    clients: RwLock<Vec<ClientRequests>>,
}

/// The series of one kind of client.
struct ClientRequests {
    version: String,
    kind: &'static str,
    requests: IntCounter,
}

struct Families {
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    handling: Option<HistogramVec>,
}

/// The series of one RPC.
pub(crate) struct Series {
    pub(crate) started: IntCounter,
    handled: Vec<IntCounter>,
    pub(crate) received: IntCounter,
    pub(crate) sent: IntCounter,
    handling: Option<Histogram>,
}

impl Series {
    /// Counts the end of a call.
    pub(crate) fn finish(&self, code: Code, took: Duration) {
        self.handled[code as usize].inc();
        if let Some(handling) = &self.handling {
            handling.observe(took.as_secs_f64());
        }
    }
}

impl RpcMetrics {
    pub(crate) fn register(registry: &Registry, detail: MetricsDetail) -> Result<Self, Error> {
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        let with_code = ["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
        let handling = match detail {
            MetricsDetail::Basic => None,
            // The default buckets of Prometheus are 0.005 … 10 s; doubling from 1 ms covers them more finely.
            MetricsDetail::Extensive => Some(registry.histograms(
                "grpc_server_handling_seconds",
                "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.",
                &labels,
                Buckets::doubling(0.001, 14),
            )?),
        };
        let metrics = Self {
            families: Families {
                started: registry.counters(
                    "grpc_server_started_total",
                    "Total number of RPCs started on the server.",
                    &labels,
                )?,
                handled: registry.counters(
                    "grpc_server_handled_total",
                    "Total number of RPCs completed on the server, regardless of success or failure.",
                    &with_code,
                )?,
                received: registry.counters(
                    "grpc_server_msg_received_total",
                    "Total number of RPC stream messages received on the server.",
                    &labels,
                )?,
                sent: registry.counters(
                    "grpc_server_msg_sent_total",
                    "Total number of gRPC stream messages sent by the server.",
                    &labels,
                )?,
                handling,
            },
            series: [const { OnceLock::new() }; RPCS.len()],
            received_bytes: registry.counter(
                "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.",
            )?,
            sent_bytes: registry.counter(
                "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.",
            )?,
            client_requests: registry.counters(
                "etcd_server_client_requests_total",
                "The total number of client requests per client version.",
                &["client_api_version", "type"],
            )?,
            clients: RwLock::default(),
        };
        for (place, rpc) in RPCS.iter().enumerate() {
            if rpc.service.counted_from_start() {
                metrics.series(place);
            }
        }
        Ok(metrics)
    }

    /// The series of the RPC at a place of the table; made when it is first asked for.
    pub(crate) fn series(&self, place: usize) -> &Series {
        self.series[place].get_or_init(|| self.families.series(&RPCS[place]))
    }

    /// Counts messages from clients.
    pub(crate) fn received(&self, place: usize, messages: u64, bytes: u64) {
        self.series(place).received.inc_by(messages);
        self.received_bytes.inc_by(bytes);
    }

    /// Counts messages to clients.
    pub(crate) fn sent(&self, place: usize, messages: u64, bytes: u64) {
        self.series(place).sent.inc_by(messages);
        self.sent_bytes.inc_by(bytes);
    }

    /// Counts a request by what its client says of itself.
    pub(crate) fn client_request(&self, kind: Kind, version: Option<&str>) {
        let kind = match kind {
            Kind::Unary => "unary",
            Kind::ServerStream | Kind::BidiStream => "stream",
        };
        let version = version.unwrap_or(UNKNOWN_VERSION);
        if let Some(client) = find(&self.clients.read(), version, kind) {
            return client.requests.inc();
        }
        let mut clients = self.clients.write();
        let has_room = clients.len() < CLIENT_SERIES_MAX && version.len() <= 16;
        let version = match has_room {
            true => version,
            false => UNKNOWN_VERSION,
        };
        let requests = self.client_requests.with_label_values(&[version, kind]);
        requests.inc();
        if find(&clients, version, kind).is_none() {
            clients.push(ClientRequests {
                version: version.to_owned(),
                kind,
                requests,
            });
        }
    }
}

fn find<'a>(
    clients: &'a [ClientRequests],
    version: &str,
    kind: &str,
) -> Option<&'a ClientRequests> {
    let mut clients = clients.iter();
    clients.find(|client| client.version == version && client.kind == kind)
}

impl Families {
    fn series(&self, rpc: &Rpc) -> Series {
        let labels = [rpc.method, rpc.service.name(), rpc.kind.label()];
        let handled = |code: &&str| {
            let labels = [code, rpc.method, rpc.service.name(), rpc.kind.label()];
            self.handled.with_label_values(&labels)
        };
        Series {
            started: self.started.with_label_values(&labels),
            handled: CODES.iter().map(handled).collect(),
            received: self.received.with_label_values(&labels),
            sent: self.sent.with_label_values(&labels),
            handling: self
                .handling
                .as_ref()
                .map(|family| family.with_label_values(&labels)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_exist_before_the_first_call_except_those_of_recipes() {
        let registry = Registry::new().unwrap();
        let metrics = RpcMetrics::register(&registry, MetricsDetail::Basic).unwrap();
        let zero = r#"grpc_server_handled_total{grpc_code="Unavailable",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 0"#;
        let text = registry.render().unwrap();
        assert!(text.lines().any(|line| line == zero), "{text}");
        assert!(!text.contains("v3lockpb.Lock"));
        let lock = super::super::table::find("/v3lockpb.Lock/Lock").unwrap();
        metrics.series(lock).started.inc();
        assert!(registry.render().unwrap().contains("v3lockpb.Lock"));
    }

    #[test]
    fn codes_are_counted_under_their_names() {
        let registry = Registry::new().unwrap();
        let metrics = RpcMetrics::register(&registry, MetricsDetail::Extensive).unwrap();
        metrics
            .series(0)
            .finish(Code::Unauthenticated, Duration::from_millis(3));
        let text = registry.render().unwrap();
        let one = r#"grpc_server_handled_total{grpc_code="Unauthenticated",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
        assert!(text.lines().any(|line| line == one));
        assert!(text.contains(r#"grpc_server_handling_seconds_count{grpc_method="Range""#));
    }

    #[test]
    fn clients_cannot_make_series_without_bound() {
        let registry = Registry::new().unwrap();
        let metrics = RpcMetrics::register(&registry, MetricsDetail::Basic).unwrap();
        for number in 0..1000 {
            metrics.client_request(Kind::Unary, Some(&format!("3.{number}")));
        }
        let text = registry.render().unwrap();
        let series = text.matches("etcd_server_client_requests_total{").count();
        assert_eq!(series, CLIENT_SERIES_MAX + 1);
    }
}
