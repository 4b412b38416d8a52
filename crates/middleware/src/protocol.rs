//! HTTP or gRPC: how a request is spoken to, and how it is refused.

use axum::{body::Body, response::IntoResponse};
use http::{HeaderMap, Request, Response, StatusCode, header};
use tonic::{Code, Status};

use crate::{
    error::{Error, table},
    record::Record,
};

/// What a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Plain HTTP.
    Http,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// By the content type: `application/grpc`, and `application/grpc+proto` and its like.
    pub fn of<B>(request: &Request<B>) -> Self {
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.map(|kind| kind.as_bytes()).unwrap_or_default();
        match kind.strip_prefix(b"application/grpc") {
            Some(b"" | [b'+' | b';', ..]) => Self::Grpc,
            Some(_) | None => Self::Http,
        }
    }

    /// The answer to a request that fails.
    pub fn answer(self, error: Error) -> Response<Body> {
        match self {
            Self::Http => error.into_response(),
            Self::Grpc => {
                if let Some(record) = Record::current() {
                    record.note_error(&error);
                }
                Status::from(error).into_http()
            }
        }
    }
}

/// The code of gRPC that an answer has, in its head or its trailers: a missing one means that the body is still to come.
pub(crate) fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    let status = headers.get("grpc-status")?;
    Some(Code::from_bytes(status.as_bytes()))
}

/// HTTP's status for the log and the metrics, where gRPC's answers all say 200.
pub(crate) fn http_of_head(protocol: Protocol, status: StatusCode, headers: &HeaderMap) -> u16 {
    match (protocol, grpc_code(headers)) {
        (Protocol::Grpc, Some(code)) => table::http_of_grpc(code),
        (Protocol::Grpc, None) | (Protocol::Http, _) => status.as_u16(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_known_by_its_content_type() {
        for (kind, protocol) in [
            ("application/grpc", Protocol::Grpc),
            ("application/grpc+proto", Protocol::Grpc),
            ("application/grpc;x=y", Protocol::Grpc),
            ("application/grpc-web", Protocol::Http),
            ("application/json", Protocol::Http),
        ] {
            let request = Request::builder()
                .header("content-type", kind)
                .body(())
                .unwrap();
            assert_eq!(Protocol::of(&request), protocol, "{kind}");
        }
        assert_eq!(Protocol::of(&Request::new(())), Protocol::Http);
    }
}
