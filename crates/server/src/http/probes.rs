//! `/livez` and `/readyz`: whether to restart a member, and whether to send it clients.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{Method, StatusCode},
    response::Response,
    routing::any,
};
use catena_api::etcd::etcdserverpb as pb;
use tonic::Status;

use super::{has_parameter, method_not_allowed, not_found, parameters, plain};
use crate::{error::engine_failed, server::Server};

/// One probe.
pub(super) struct Probe {
    path: &'static str,
    name: &'static str,
    checks: &'static [Check],
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

pub(super) static LIVEZ: Probe = Probe {
    path: "/livez",
    name: "livez",
    checks: &[Check::SerializableRead],
};

pub(super) static READYZ: Probe = Probe {
    path: "/readyz",
    name: "readyz",
    checks: &[
        Check::DataCorruption,
        Check::SerializableRead,
        Check::LinearizableRead,
        Check::NonLearner,
    ],
};

pub(super) fn routes(probe: &'static Probe) -> Router<Arc<Server>> {
    let all = move |method: Method, query: RawQuery, State(server): State<Arc<Server>>| async move {
        let excluded = parameters(&query, "exclude");
        for name in &excluded {
            if !probe.checks.iter().any(|check| check.name() == *name) {
                tracing::warn!(check = name, "some health checks cannot be excluded");
            }
        }
        let chosen = probe
            .checks
            .iter()
            .filter(|check| !excluded.contains(&check.name()));
        let chosen: Vec<Check> = chosen.copied().collect();
        answer(probe, method, &query, &server, &chosen).await
    };
    let one = move |method: Method,
                    Path(name): Path<String>,
                    query: RawQuery,
                    State(server): State<Arc<Server>>| async move {
        match probe.checks.iter().find(|check| check.name() == name) {
            Some(check) => answer(probe, method, &query, &server, &[*check]).await,
            None => not_found(),
        }
    };
    Router::new()
        .route(probe.path, any(all))
        .route(&format!("{}/{{check}}", probe.path), any(one))
}

async fn answer(
    probe: &Probe,
    method: Method,
    query: &RawQuery,
    server: &Server,
    checks: &[Check],
) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    let (mut report, mut healthy) = (String::new(), true);
    for check in checks {
        let result = check.run(server).await;
        server
            .metrics
            .count_check(probe.name, check.name(), result.is_ok());
        match result {
            Ok(()) => report.push_str(&format!("[+]{} ok\n", check.name())),
            Err(error) => {
                healthy = false;
                report.push_str(&format!("[-]{} failed: {error}\n", check.name()));
            }
        }
    }
    if !healthy {
        tracing::warn!(probe = probe.name, report, "Health check error");
        return plain(StatusCode::SERVICE_UNAVAILABLE, report);
    }
    if !has_parameter(query, "verbose") {
        report.clear();
    }
    report.push_str("ok\n");
    plain(StatusCode::OK, report)
}

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, server: &Server) -> Result<(), String> {
        match self {
            Self::DataCorruption => {
                let corrupt = i32::from(pb::AlarmType::Corrupt);
                let alarms = server.reader.alarms();
                match alarms.iter().find(|alarm| alarm.alarm == corrupt) {
                    Some(_) => Err("alarm activated: CORRUPT".to_owned()),
                    None => Ok(()),
                }
            }
            Self::SerializableRead => server.probe_read(true).await,
            Self::LinearizableRead => server.probe_read(false).await,
            Self::NonLearner if server.is_learner() => Err("not supported for learner".to_owned()),
            Self::NonLearner => Ok(()),
        }
    }
}

impl Server {
    /// Reads a key that hardly exists, as a client would.
    pub(super) async fn probe_read(&self, serializable: bool) -> Result<(), String> {
        let text = |status: Status| status.message().to_owned();
        if !serializable {
            self.linearize().await.map_err(text)?;
        }
        let request = pb::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 1,
            ..Default::default()
        };
        match self.reader.range(&request) {
            Ok(_) => Ok(()),
            Err(catena_store::ReadError::Refused(refused)) => Err(refused.to_string()),
            Err(catena_store::ReadError::Fatal(fatal)) => Err(text(engine_failed(&fatal))),
        }
    }
}
