//! What clients of Nacos ask for of a configuration centre, over its HTTP API of versions 1 and 2.
//!
//! | request | answer |
//! |---|---|
//! | `GET /nacos/v1/cs/configs?dataId=&group=&tenant=` | the document as it is |
//! | `POST`, `DELETE` the same, with `content` and `type` | `true` |
//! | `POST /nacos/v1/cs/configs/listener` | the documents that are not what the client has, once there are some |
//! | `GET`, `POST`, `DELETE /nacos/v2/cs/config?…&namespaceId=` | the same as JSON |
//!
//! A namespace is a namespace, a group an application, a data id a document; what Nacos leaves empty or calls `public` is the gateway's
//! own namespace, and `DEFAULT_GROUP` the application `default_group`. All other names keep our grammar, or are refused.
//!
//! Nothing else of Nacos is here: neither its naming nor logins, nor its gRPC, which clients of version 2 and later speak. Its writes
//! are forms, which any web page can send: so the chain refuses here whatever a browser says of its page, and the routes are there
//! only for who asks for them.

mod config;
mod listener;
mod request;

use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn,
    routing::{get, post},
};
use catena_registry::config::ConfigCenter;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config_api::answered_in_time;

/// All routes begin so. The chain around sets them no limit, since listeners wait; the others are limited here.
pub const PREFIX: &str = "/nacos/";

/// Listeners that wait at the same time: each holds a connection and some watches.
const WAITING_MAX: usize = 1024;

/// What the handlers share.
#[derive(Clone)]
struct Nacos {
    center: ConfigCenter,
    /// What clients mean who name no namespace.
    public: Arc<str>,
    waiting: Arc<Semaphore>,
    closing: CancellationToken,
}

/// The routes. Listeners stop waiting with `closing`.
pub fn router(center: ConfigCenter, namespace: &str, closing: CancellationToken) -> Router {
    let nacos = Nacos {
        center,
        public: namespace.into(),
        waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        closing,
    };
    let waiting = Router::new().route("/nacos/v1/cs/configs/listener", post(listener::listen));
    let prompt = Router::new()
        .route(
            "/nacos/v1/cs/configs",
            get(config::get)
                .post(config::publish)
                .delete(config::delete),
        )
        .route(
            "/nacos/v2/cs/config",
            get(config::get_json)
                .post(config::publish_json)
                .delete(config::delete_json),
        )
        .route_layer(from_fn(answered_in_time));
    waiting.merge(prompt).with_state(nacos)
}
