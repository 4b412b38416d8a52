//! Paths and heads.

use axum::body::Body;
use http::Request;

use crate::error::{Error, Result, reasons};

/// Bytes of a request's target.
pub const TARGET_BYTES_MAX: usize = 8 << 10;

/// Bytes of all names and values of headers.
pub const HEADER_BYTES_MAX: usize = 16 << 10;

/// Headers of one request.
pub const HEADERS_MAX: usize = 100;

/// Refuses what is too long (414, 431) and paths that a careless reader takes for others (400): dot segments, also encoded,
/// broken escapes, NUL, and what is not UTF-8. `%2F` is data of its segment.
pub fn admit(request: &Request<Body>) -> Result<()> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > TARGET_BYTES_MAX) {
        return Err(Error::of(&reasons::URI_TOO_LONG));
    }
    let headers = request.headers();
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > HEADER_BYTES_MAX || headers.len() > HEADERS_MAX {
        return Err(Error::of(&reasons::HEADERS_TOO_LARGE));
    }
    let mut segments = request.uri().path().split('/');
    if segments.all(is_plain) {
        Ok(())
    } else {
        Err(Error::of(&reasons::INVALID_PATH))
    }
}

fn is_plain(segment: &str) -> bool {
    let decoded = decode(segment);
    decoded.is_some_and(|text| text != "." && text != ".." && !text.contains('\0'))
}

/// Undoes percent encoding; none if it is broken or not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte == b'%' {
            let high = char::from(*rest.next()?).to_digit(16)?;
            let low = char::from(*rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Result<()> {
        admit(&Request::get(path).body(Body::empty()).unwrap())
    }

    #[test]
    fn paths_that_mean_others_are_refused() {
        for path in [
            "/..",
            "/a/../b",
            "/a/.",
            "/%2e%2E/x",
            "/.%2e",
            "/%zz",
            "/%2",
            "/a%00",
            "/%ff",
            "/%c3%28",
        ] {
            assert!(get(path).unwrap_err().is(&reasons::INVALID_PATH), "{path}");
        }
        for path in [
            "/",
            "/a%2Fb",
            "/...",
            "/.well-known/x",
            "/%E7%94%A8",
            "/a?q=%zz",
        ] {
            assert!(get(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let path = format!("/{}", "a".repeat(TARGET_BYTES_MAX));
        assert!(get(&path).unwrap_err().is(&reasons::URI_TOO_LONG));
        let mut request = Request::new(Body::empty());
        let value = "a".repeat(HEADER_BYTES_MAX).parse().unwrap();
        request.headers_mut().insert("x-long", value);
        assert!(admit(&request).unwrap_err().is(&reasons::HEADERS_TOO_LARGE));
    }
}
