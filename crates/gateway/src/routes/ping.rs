//! `GET /ping`.

use catena_middleware::Success;
use serde::Serialize;

/// The article's answer, in the envelope.
#[derive(Serialize)]
pub(super) struct Pong {
    message: &'static str,
}

pub(super) async fn ping() -> Success<Pong> {
    Success::new(Pong { message: "pong" })
}
