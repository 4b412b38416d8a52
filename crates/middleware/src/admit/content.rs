//! Writes are `application/json` and nothing else.

use axum::body::Body;
use http::{HeaderMap, Method, Request, header};

use crate::{
    error::{Error, Result, reasons},
    protocol::Protocol,
};

/// Refuses (415) what a form, or a page of another site, could have sent; also gRPC, which is spoken on another port.
pub fn admit(request: &Request<Body>) -> Result<()> {
    let writes = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    let grpc = Protocol::of(request) == Protocol::Grpc;
    let has_body = !http_body::Body::is_end_stream(request.body());
    if grpc || ((writes || has_body) && !is_json(request.headers())) {
        return Err(Error::of(&reasons::UNSUPPORTED_MEDIA_TYPE));
    }
    match request.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Error::of(&reasons::UNSUPPORTED_MEDIA_TYPE)
                .with_metadata("header", "content-encoding"))
        }
        Some(_) | None => Ok(()),
    }
}

/// `application/json`, in no other charset than UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(kind), None) = (kinds.next(), kinds.next()) else {
        return false;
    };
    let mut parts = kind.to_str().unwrap_or_default().split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json") && parts.all(is_utf8)
}

fn is_utf8(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        Some(_) | None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(kind: Option<&str>) -> Request<Body> {
        let request = Request::post("/users");
        let request = match kind {
            Some(kind) => request.header("content-type", kind),
            None => request,
        };
        request.body(Body::from("{}")).unwrap()
    }

    #[test]
    fn json_is_taken() {
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(admit(&post(Some(kind))).is_ok(), "{kind}");
        }
        assert!(admit(&Request::get("/").body(Body::empty()).unwrap()).is_ok());
    }

    #[test]
    fn what_a_form_can_send_is_not() {
        for kind in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data; boundary=x"),
            Some("application/json; charset=gbk"),
            Some("application/jsonx"),
            Some("text/plain; application/json"),
            Some("application/grpc"),
        ] {
            let error = admit(&post(kind)).unwrap_err();
            assert!(error.is(&reasons::UNSUPPORTED_MEDIA_TYPE), "{kind:?}");
        }
        let empty = Request::post("/users").body(Body::empty()).unwrap();
        assert!(admit(&empty).is_err());
    }
}
