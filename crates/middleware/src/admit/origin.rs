//! The `Origin` header of a request that wants another protocol.
//!
//! A browser asks no server whether a page may open a WebSocket there, and lets the page read what comes: the header is all that tells
//! such a page from a program. Other requests need no such check, since pages of other sites may not read their answers.

use axum::body::Body;
use http::{Request, header};

use super::host;
use crate::error::{Error, Result, reasons};

/// Refuses (403) an upgrade that a page of another origin asks for. Programs send no such header.
pub fn admit(request: &Request<Body>) -> Result<()> {
    let headers = request.headers();
    if !headers.contains_key(header::UPGRADE) {
        return Ok(());
    }
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else {
        return Ok(());
    };
    let authority = host::authority(request)?;
    let origin = origin.to_str().unwrap_or_default();
    let own = origin
        .split_once("://")
        .is_some_and(|(_, page)| page.eq_ignore_ascii_case(authority.as_str()));
    match own && origins.next().is_none() {
        true => Ok(()),
        false => Err(Error::of(&reasons::ORIGIN_NOT_ALLOWED)),
    }
}

/// Refuses (403) whatever a browser says of the page that asks: for paths whose writes are forms, which any page can send. Programs
/// send none of these headers, and browsers all of the first two with what pages write.
pub fn admit_programs(request: &Request<Body>) -> Result<()> {
    let tells = |name: &header::HeaderName| {
        *name == header::ORIGIN
            || *name == header::REFERER
            || name.as_str().starts_with("sec-fetch-")
    };
    match request.headers().keys().any(tells) {
        true => Err(Error::of(&reasons::ORIGIN_NOT_ALLOWED)),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade(origins: &[&str]) -> Request<Body> {
        let mut request = Request::get("/events")
            .header("host", "localhost:8080")
            .header("upgrade", "websocket");
        for origin in origins {
            request = request.header("origin", *origin);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn programs_and_own_pages_may_upgrade() {
        for origins in [
            &[][..],
            &["http://localhost:8080"],
            &["https://LOCALHOST:8080"],
        ] {
            assert!(admit(&upgrade(origins)).is_ok(), "{origins:?}");
        }
    }

    #[test]
    fn pages_of_others_may_not() {
        for origins in [
            &["http://evil.example"][..],
            &["http://localhost"],
            &["http://localhost:3000"],
            &["http://localhost:8080.evil.example"],
            &["http://evil.example/localhost:8080"],
            &["null"],
            &[""],
            &["http://localhost:8080", "http://evil.example"],
        ] {
            let error = admit(&upgrade(origins)).unwrap_err();
            assert!(error.is(&reasons::ORIGIN_NOT_ALLOWED), "{origins:?}");
        }
    }

    #[test]
    fn browsers_are_told_from_programs() {
        for header in ["origin", "referer", "sec-fetch-site", "sec-fetch-mode"] {
            let mut request = upgrade(&[]);
            assert!(admit_programs(&request).is_ok());
            let name: http::HeaderName = header.parse().unwrap();
            request.headers_mut().insert(name, "x".parse().unwrap());
            assert!(admit_programs(&request).is_err(), "{header}");
        }
    }

    #[test]
    fn what_stays_http_is_not_asked() {
        let mut request = upgrade(&["http://evil.example"]);
        request.headers_mut().remove("upgrade");
        assert!(admit(&request).is_ok());
    }
}
