//! Whether a process is alive and ready, and how it leaves.
//!
//! Ready is a list of named checks, each kept by the one who knows: the database's by the pool, the registration's by its own loop.
//! Leaving has an order, so that no request is sent to one who has gone:
//!
//! ```text
//!   announce (registry: draining) ─ wait until that is known ─ revoke the lease ─ stop accepting ─ finish what is in flight
//! ```

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{MatchedPath, Request, State},
    response::{IntoResponse, Response},
    routing::get,
};
use catena_telemetry::metrics::{CONTENT_TYPE, Registry};
use http::{StatusCode, header};
use serde::Serialize;
use tokio::sync::watch;
use tower::util::MapRequestLayer;

use crate::{
    error::{Error, Result},
    record::Record,
    serve::Serving,
};

/// The time in which callers learn that an instance is draining.
pub const PROPAGATION: Duration = Duration::from_secs(2);

/// The check that is red from the announcement on.
const DRAINING: &str = "draining";

/// The checks of one process.
#[derive(Clone, Debug)]
pub struct Health {
    checks: Arc<watch::Sender<Checks>>,
}

/// Names and what they are about: none if all is well, or why not.
pub type Checks = BTreeMap<&'static str, Option<String>>;

impl Health {
    /// No checks yet: ready.
    pub fn new() -> Self {
        Self {
            checks: Arc::new(watch::Sender::new(Checks::new())),
        }
    }

    /// Says how a check stands.
    pub fn set(&self, check: &'static str, state: Result<(), String>) {
        let state = state.err();
        self.checks.send_if_modified(|checks| {
            let is_new = checks.get(check) != Some(&state);
            checks.insert(check, state);
            is_new
        });
    }

    /// Whether no check fails.
    pub fn is_ready(&self) -> bool {
        self.checks.borrow().values().all(Option::is_none)
    }

    /// The checks as they change.
    pub fn subscribe(&self) -> watch::Receiver<Checks> {
        self.checks.subscribe()
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

/// What `/readyz` says.
#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    checks: BTreeMap<&'static str, String>,
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn operations(health: Health, registry: Arc<Registry>) -> Router {
    Router::new()
        .route(
            "/healthz",
            get(async || {
                Json(Readiness {
                    status: "alive",
                    checks: BTreeMap::new(),
                })
            }),
        )
        .route("/readyz", get(readiness).with_state(health))
        .route("/metrics", get(metrics).with_state(registry))
        .route_layer(MapRequestLayer::new(note_route))
}

/// Tells the record which route answers: for all routers inside of the chain.
pub fn note_route(request: Request) -> Request {
    let route = request.extensions().get::<MatchedPath>();
    if let (Some(route), Some(record)) = (route, Record::current()) {
        record.note_route(route.as_str());
    }
    request
}

async fn readiness(State(health): State<Health>) -> Response {
    let checks = health.checks.borrow().clone();
    let ready = checks.values().all(Option::is_none);
    let said = |state: Option<String>| state.unwrap_or_else(|| "ok".to_owned());
    let body = Readiness {
        status: if ready { "ready" } else { "not ready" },
        checks: checks
            .into_iter()
            .map(|(name, state)| (name, said(state)))
            .collect(),
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(body)).into_response()
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Result<Response> {
    let text = registry.render().map_err(Error::internal)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// Leaves: see the order above. `announce` and `revoke` are what the registry is told; they are ready at once where there is none.
pub async fn depart(
    health: &Health,
    announce: impl Future<Output = ()>,
    propagation: Duration,
    revoke: impl Future<Output = ()>,
    listeners: Vec<Serving>,
) {
    health.set(DRAINING, Err("the process is stopping".to_owned()));
    announce.await;
    tokio::time::sleep(propagation).await;
    revoke.await;
    for listener in &listeners {
        listener.stop_accepting();
    }
    for listener in listeners {
        listener.finished().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn readyz(health: &Health) -> (u16, String) {
        let router = operations(health.clone(), Arc::new(Registry::new().unwrap()));
        let request = http::Request::get("/readyz")
            .body(axum::body::Body::empty())
            .unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_names_what_is_wrong() {
        let health = Health::new();
        health.set("database", Ok(()));
        assert_eq!(
            readyz(&health).await,
            (
                200,
                r#"{"status":"ready","checks":{"database":"ok"}}"#.to_owned()
            )
        );
        health.set("registration", Err("lease lost".to_owned()));
        let (status, text) = readyz(&health).await;
        assert_eq!(status, 503);
        assert!(text.contains(r#""registration":"lease lost""#), "{text}");
    }

    #[tokio::test]
    async fn it_leaves_in_order() {
        let health = Health::new();
        let said = Mutex::new(Vec::new());
        let began = tokio::time::Instant::now();
        let announce = async { said.lock().unwrap().push(("announced", began.elapsed())) };
        let revoke = async { said.lock().unwrap().push(("revoked", began.elapsed())) };
        let propagation = Duration::from_millis(50);
        depart(&health, announce, propagation, revoke, Vec::new()).await;
        assert!(!health.is_ready());
        let said = said.into_inner().unwrap();
        assert_eq!([said[0].0, said[1].0], ["announced", "revoked"]);
        assert!(said[1].1 - said[0].1 >= propagation);
    }
}
