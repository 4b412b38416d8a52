//! `/health`: one answer for load balancers and scripts.

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use catena_api::etcd::etcdserverpb::AlarmType;

use super::{method_not_allowed, parameters};
use crate::server::Server;

pub(super) async fn answer(
    method: Method,
    query: RawQuery,
    State(server): State<Arc<Server>>,
) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    let serializable = parameters(&query, "serializable").contains(&"true");
    let excluded = parameters(&query, "exclude");
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match check(&server, &excluded, serializable).await {
        Ok(()) => {
            server.metrics.health_successes.inc();
            (plain, r#"{"health":"true","reason":""}"#).into_response()
        }
        Err(reason) => {
            server.metrics.health_failures.inc();
            tracing::warn!(reason, "/health error");
            let reason = serde_json::Value::from(reason);
            let text = format!("{{\"health\":\"false\",\"reason\":{reason}}}\n");
            (StatusCode::SERVICE_UNAVAILABLE, plain, text).into_response()
        }
    }
}

async fn check(server: &Server, excluded: &[&str], serializable: bool) -> Result<(), String> {
    for alarm in server.reader.alarms() {
        let kind = AlarmType::try_from(alarm.alarm).map_or("UNKNOWN", |kind| kind.as_str_name());
        if !excluded.contains(&kind) {
            return Err(format!("ALARM {kind}"));
        }
    }
    if !serializable && server.leader().is_none() {
        return Err("RAFT NO LEADER".to_owned());
    }
    let read = server.probe_read(serializable).await;
    read.map_err(|error| format!("RANGE ERROR:{error}"))
}
