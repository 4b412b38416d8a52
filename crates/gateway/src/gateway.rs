//! The routes inside of the chain.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    response::{IntoResponse, Redirect, Response},
};
use catena_middleware::{
    Chain, Health, RouteLimits,
    admit::{body::BodyLimits, host::Hosts},
    chain::Chained,
    error::{Error, reasons},
    lifecycle,
    observe::RequestMetrics,
};
use catena_telemetry::metrics::Registry;
use http::{Method, Request, StatusCode, Uri};
use tower::{Layer, util::MapRequestLayer};

use crate::{UserCalls, nacos, routes};

/// What a gateway is made of.
pub struct GatewayOptions {
    /// The user service.
    pub users: UserCalls,
    /// More routes, inside of the same chain.
    pub more: Router,
    /// Which hosts are served.
    pub hosts: Hosts,
    /// What bodies may be.
    pub body: BodyLimits,
    /// The time that routes have.
    pub limits: RouteLimits,
    /// Where readiness is kept.
    pub health: Health,
    /// What `/metrics` shows.
    pub registry: Arc<Registry>,
    /// The series of requests.
    pub metrics: Arc<RequestMetrics>,
}

/// The gateway.
#[derive(Clone)]
pub struct Gateway {
    app: Chained<Router>,
}

impl Gateway {
    /// Builds it. Nothing is called yet.
    pub fn new(options: GatewayOptions) -> Self {
        let router = routes::router()
            .with_state(options.users)
            .merge(options.more)
            .route_layer(MapRequestLayer::new(lifecycle::note_route))
            .merge(lifecycle::operations(options.health, options.registry))
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method);
        let chain = Chain {
            metrics: options.metrics,
            hosts: options.hosts,
            grpc: false,
            forms: Some(nacos::PREFIX),
            body: options.body,
            limits: options.limits,
        };
        Self {
            app: chain.layer(router),
        }
    }

    /// What a listener serves.
    pub fn app(&self) -> Chained<Router> {
        self.app.clone()
    }
}

/// 404; a redirect where only the last slash is wrong, as in Gin: 301 for reads, 307 for others, which keeps the method.
async fn no_such_path(request: Request<Body>) -> Response {
    match slash_changed(request.uri()) {
        Some(target) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut response = Redirect::permanent(&target).into_response();
            *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
            response
        }
        Some(target) => Redirect::temporary(&target).into_response(),
        None => Error::of(&reasons::ROUTE_NOT_FOUND).into_response(),
    }
}

/// The same target with its last slash added or taken, if a route has that.
fn slash_changed(uri: &Uri) -> Option<String> {
    let path = uri.path();
    let other = match path.strip_suffix('/') {
        Some(shorter) => shorter.to_owned(),
        None => format!("{path}/"),
    };
    let known = routes::TABLE
        .iter()
        .any(|route| routes::matches(route.path, &other));
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    known.then(|| other + &query)
}

/// 405, with `Allow`, which the router fills; the same with 204 for `OPTIONS`. There are no headers of CORS: no other site may call.
async fn no_such_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Error::of(&reasons::METHOD_NOT_ALLOWED).into_response()
    }
}
