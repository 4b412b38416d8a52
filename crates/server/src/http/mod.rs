//! What a member answers over HTTP/1 on its client URLs: health, version and metrics.
//!
//! The JSON gateway is not here yet. An unknown path is a 404.

mod health;
mod probes;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use catena_telemetry::metrics::CONTENT_TYPE;
use serde::Serialize;

use self::probes::{LIVEZ, READYZ};
use crate::server::{CLUSTER_VERSION, ETCD_VERSION, Server};

/// The paths of a client URL.
pub(crate) fn client(server: &Arc<Server>) -> Router {
    metrics(server)
        .merge(
            Router::new()
                .route("/version", any(version))
                .with_state(server.clone()),
        )
        .fallback(async || not_found())
}

/// The paths of a metrics URL, all of which a client URL has as well.
pub(crate) fn metrics(server: &Arc<Server>) -> Router {
    Router::new()
        .route("/metrics", any(render))
        .route("/health", any(health::answer))
        .merge(probes::routes(&LIVEZ))
        .merge(probes::routes(&READYZ))
        .with_state(server.clone())
}

async fn render(State(server): State<Arc<Server>>) -> Response {
    match server.render_metrics() {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::warn!(%error, "failed to render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Serialize)]
struct Versions {
    etcdserver: &'static str,
    etcdcluster: String,
    storage: &'static str,
}

async fn version(method: Method, State(server): State<Arc<Server>>) -> Response {
    if method != Method::GET {
        return method_not_allowed();
    }
    let cluster = server.reader.cluster_version();
    Json(Versions {
        etcdserver: ETCD_VERSION,
        etcdcluster: cluster.unwrap_or_else(|| "not_decided".to_owned()),
        storage: CLUSTER_VERSION,
    })
    .into_response()
}

/// What Go's `http.Error` makes of a method other than GET.
fn method_not_allowed() -> Response {
    let mut response = plain(
        StatusCode::METHOD_NOT_ALLOWED,
        "Method Not Allowed\n".to_owned(),
    );
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// What Go's `http.NotFound` answers.
fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "404 page not found\n".to_owned())
}

/// Plain text, as Go's `http.Error` sends it.
fn plain(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, text).into_response()
}

/// The values of a query's parameter, of which there may be several.
fn parameters<'a>(query: &'a RawQuery, name: &str) -> Vec<&'a str> {
    let RawQuery(query) = query;
    query
        .iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value)
        .collect()
}

/// Whether a parameter of a query is set, even to nothing.
fn has_parameter(query: &RawQuery, name: &str) -> bool {
    let RawQuery(query) = query;
    query
        .iter()
        .flat_map(|query| query.split('&'))
        .any(|pair| pair.split('=').next() == Some(name))
}
