//! The line of a request.

use std::net::SocketAddr;

use super::Outcome;
use crate::{protocol::Protocol, record::Record};

/// From here on it is the server's fault.
const SERVER_FAULT: u16 = 500;

/// Writes it. Neither bodies nor headers are in it, so no secret of a client is.
pub(super) fn write(record: &Record, outcome: &Outcome, peer: Option<SocketAddr>) {
    let failure = record.failure();
    let route = record.route();
    let route = route.as_deref().unwrap_or("unmatched");
    let reason = failure.as_ref().map(|failure| failure.reason.as_str());
    let cause = failure
        .as_ref()
        .and_then(|failure| failure.causes.as_deref());
    let protocol = match record.protocol() {
        Protocol::Http => "http",
        Protocol::Grpc => "grpc",
    };
    let trace = record.trace();
    macro_rules! line {
        ($level:ident, $message:literal) => {
            tracing::$level!(
                protocol,
                method = record.method().as_str(),
                route,
                status = outcome.status,
                grpc_status = outcome.grpc.map(|code| code as i32),
                reason,
                cause,
                duration_ms = outcome.took.as_secs_f64() * 1000.0,
                bytes = outcome.bytes,
                trace_id = %trace.id(),
                span_id = %trace.span_id(),
                parent_id = trace.parent_id().map(tracing::field::display),
                peer = peer.map(tracing::field::display),
                $message
            )
        };
    }
    if outcome.status >= SERVER_FAULT {
        line!(warn, "request failed");
    } else {
        line!(info, "request");
    }
}
