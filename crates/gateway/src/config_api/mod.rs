//! The configuration centre over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/config/{ns}/{app}` | what is known of the documents |
//! | `GET …/events` | publications as server-sent events, or over a WebSocket |
//! | `GET …/listeners` | what each instance made of its documents |
//! | `GET …/{doc}` | the document, its version as `ETag`; `?wait=30s&version=7` waits for another version |
//! | `PUT …/{doc}` | publishes, with `If-Match: "7"`, `If-Match: *` or `If-None-Match: *` |
//! | `DELETE …/{doc}` | takes it away, with the same conditions; its history stays |
//! | `GET …/{doc}/history`, `…/history/{version}`, `…/diff?from=5&to=7` | versions, one of them, where two differ |
//! | `POST …/{doc}/rollback` `{"to":5}` | publishes an old version as a new one |
//! | `GET`, `POST …/{doc}/gray`; `DELETE …/gray/{rule}`; `POST …/gray/{rule}/promote` | a document for some instances |
//! | `PUT`, `DELETE …/{doc}/schema` | what the document must be |
//!
//! Documents named `events` or `listeners` are out of reach here. Who may call is not decided here: the chain around it takes writes as
//! JSON only and checks the host, and the listener is on loopback. A `DELETE` needs no body: of pages of other sites a browser sends it
//! only if it is allowed here when it asks, and nothing here allows it.

mod body;
mod document;
mod events;
pub(crate) mod fault;
mod gray;
mod place;
mod socket;
mod version;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use catena_middleware::error::{Error, reasons};
use catena_registry::config::ConfigCenter;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

/// Requests that wait or stream at the same time: each holds a connection and a watch.
const WAITING_MAX: usize = 1024;

/// The time of requests that do not wait: a publication that others are in the way of is tried again and again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// All routes begin so. The chain around sets them no limit, since some wait and stream; the others are limited here.
pub const PREFIX: &str = "/v1/config/";

/// What the handlers share.
#[derive(Clone)]
struct Api {
    center: ConfigCenter,
    waiting: Arc<Semaphore>,
    closing: CancellationToken,
}

/// The routes. Requests that wait or stream end with `closing`.
pub fn router(center: ConfigCenter, closing: CancellationToken) -> Router {
    let api = Api {
        center,
        waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        closing,
    };
    let document = "/v1/config/{ns}/{app}/{doc}";
    let waiting = Router::new().route(document, get(document::get));
    let prompt = Router::new()
        .route(document, put(document::put).delete(document::delete))
        .route("/v1/config/{ns}/{app}", get(document::list))
        .route("/v1/config/{ns}/{app}/events", get(events::follow))
        .route("/v1/config/{ns}/{app}/listeners", get(document::listeners))
        .route("/v1/config/{ns}/{app}/{doc}/history", get(version::history))
        .route(
            "/v1/config/{ns}/{app}/{doc}/history/{version}",
            get(version::one),
        )
        .route("/v1/config/{ns}/{app}/{doc}/diff", get(version::diff))
        .route(
            "/v1/config/{ns}/{app}/{doc}/rollback",
            post(version::rollback),
        )
        .route(
            "/v1/config/{ns}/{app}/{doc}/schema",
            put(version::set_schema).delete(version::drop_schema),
        )
        .route(
            "/v1/config/{ns}/{app}/{doc}/gray",
            get(gray::list).post(gray::set),
        )
        .route(
            "/v1/config/{ns}/{app}/{doc}/gray/{rule}",
            delete(gray::abort),
        )
        .route(
            "/v1/config/{ns}/{app}/{doc}/gray/{rule}/promote",
            post(gray::promote),
        )
        .route_layer(from_fn(answered_in_time));
    waiting.merge(prompt).with_state(api)
}

/// An answer within the time of requests that do not wait.
pub(crate) async fn answered_in_time(request: Request, next: Next) -> Response {
    match timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_late) => Error::of(&reasons::DEADLINE_EXCEEDED).into_response(),
    }
}
