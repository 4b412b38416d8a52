//! Bodies, paths and conditions of requests.

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use catena_middleware::{
    admit::body,
    error::{Error, Result, reasons},
    validate::Violation,
};
use catena_registry::config::{AppName, DocumentName, Expect};
use http::{HeaderMap, header, request::Parts};
use serde::de::DeserializeOwned;

use crate::extract::json;

/// A body of JSON with the fields of a type: read strictly first, as everywhere.
pub(super) struct Typed<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Typed<T> {
    type Rejection = Error;

    async fn from_request(request: Request<Body>, _state: &S) -> Result<Self> {
        let bytes = body::read(request.into_body()).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::of(&reasons::BODY_REQUIRED));
        }
        json::parse(&bytes)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            // Its text can quote a value.
            let place = format!("{}:{}", error.line(), error.column());
            Error::invalid(vec![Violation::new(
                place,
                "fields",
                "the body has not the fields that are expected here",
            )])
        })
    }
}

/// The application of a path.
pub(super) struct App(pub(super) AppName);

impl<S: Send + Sync> FromRequestParts<S> for App {
    type Rejection = super::fault::Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> super::fault::Result<Self> {
        let [ns, app] = segments(parts, state).await?;
        Ok(Self(AppName::new(&ns, &app)?))
    }
}

/// The document of a path, and what stands behind it: a rule or a version.
pub(super) struct Document {
    pub(super) name: DocumentName,
    pub(super) rest: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Document {
    type Rejection = super::fault::Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> super::fault::Result<Self> {
        let [ns, app, doc, rest] = segments(parts, state).await?;
        Ok(Self {
            name: DocumentName::new(&ns, &app, &doc)?,
            rest,
        })
    }
}

/// The parameters of a path; those that it does not have are empty.
async fn segments<S: Send + Sync, const N: usize>(
    parts: &mut Parts,
    state: &S,
) -> Result<[String; N]> {
    let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    let Path(found) =
        path.map_err(|rejection| Error::of(&reasons::INVALID_PARAM).with_source(rejection))?;
    let mut found = found.into_iter().map(|(_, value)| value);
    Ok(std::array::from_fn(|_| found.next().unwrap_or_default()))
}

/// What a writer believes to stand there. He has to say it.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expect> {
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
        (Some("*"), None) => Ok(Expect::Any),
        (Some(tag), None) => version_of(tag)
            .map(Expect::Version)
            .ok_or_else(|| wrong_tag("if-match")),
        (None, Some("*")) => Ok(Expect::Absent),
        (None, Some(_)) => Err(wrong_tag("if-none-match")),
        (Some(_), Some(_)) => Err(wrong_tag("if-match")),
        (None, None) => Err(Error::new(
            428,
            "CONFIG_PRECONDITION_REQUIRED",
            "say which version you change: If-Match: \"7\", If-Match: * or If-None-Match: *",
        )),
    }
}

fn wrong_tag(field: &'static str) -> Error {
    Error::invalid(vec![Violation::new(
        field,
        "etag",
        "If-Match takes one version in quotes or *, If-None-Match takes *, and not both",
    )])
}

/// The version in an entity tag.
pub(super) fn version_of(tag: &str) -> Option<u64> {
    let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn conditions_say_what_is_expected() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter();
            let headers =
                pairs.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
            expected(&headers.collect()).map_err(|error| error.code())
        };
        assert_eq!(read(&[("if-match", "\"7\"")]), Ok(Expect::Version(7)));
        assert_eq!(read(&[("if-match", "*")]), Ok(Expect::Any));
        assert_eq!(read(&[("if-none-match", "*")]), Ok(Expect::Absent));
        assert_eq!(read(&[]), Err(428));
        for wrong in ["7", "\"x\"", "W/\"7\"", "\"7\", \"8\""] {
            assert_eq!(read(&[("if-match", wrong)]), Err(400), "{wrong}");
        }
        assert_eq!(read(&[("if-none-match", "\"7\"")]), Err(400));
        assert_eq!(read(&[("if-match", "*"), ("if-none-match", "*")]), Err(400));
    }
}
