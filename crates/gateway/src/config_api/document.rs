//! Documents: reading, waiting for another version, publishing.

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use catena_middleware::{
    Success,
    error::{Error, reasons},
    validate::Violation,
};
use catena_registry::config::{Change, Current, DocumentName, Expect, Format, Meta, Revision};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{
    ANSWER_WITHIN, Api,
    body::{App, Document, Typed, expected, version_of},
    fault::{Result, etag},
};
use crate::extract::Query;

/// The longest that a request waits; a client asks again.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A version of a document.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(flatten)]
    meta: Meta,
    content: String,
}

impl From<Revision> for Shown {
    fn from(revision: Revision) -> Self {
        Self {
            meta: revision.meta,
            // What is published is UTF-8; what was written by hand may be anything.
            content: String::from_utf8_lossy(&revision.content).into_owned(),
        }
    }
}

/// What is published.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publication {
    content: String,
    #[serde(default)]
    format: Option<Format>,
    #[serde(default)]
    author: String,
    #[serde(default)]
    comment: String,
}

pub(super) async fn list(State(api): State<Api>, App(app): App) -> Result<Response> {
    let (documents, _) = api.center.documents(&app).await?;
    Ok(Success::new(documents).into_response())
}

pub(super) async fn listeners(State(api): State<Api>, App(app): App) -> Result<Response> {
    let listeners = api.center.listeners(&app).await?;
    Ok(Success::new(listeners).into_response())
}

pub(super) async fn get(
    State(api): State<Api>,
    Document { name, .. }: Document,
    headers: HeaderMap,
    mut query: Query,
) -> Result<Response> {
    let (wait, known) = (query.text("wait"), query.text("version"));
    query.finish()?;
    let known = known
        .map(|version| number("version", &version))
        .transpose()?;
    let current = match (wait, known) {
        (Some(wait), Some(known)) => {
            match wait_for_other(&api, &name, known, duration(&wait)?).await? {
                Some(current) => current,
                None => return Ok(not_modified(known)),
            }
        }
        (None, None) => {
            let current = timeout(ANSWER_WITHIN, api.center.get(&name)).await;
            current.map_err(|_late| Error::of(&reasons::DEADLINE_EXCEEDED))??
        }
        (Some(_), None) | (None, Some(_)) => {
            let together = Violation::new("wait", "together", "wait and version go together");
            return Err(Error::invalid(vec![together]).into());
        }
    };
    let version = current.revision.meta.version;
    let has = headers.get(header::IF_NONE_MATCH);
    let has = has.and_then(|tag| version_of(tag.to_str().ok()?));
    if has == Some(version) {
        return Ok(not_modified(version));
    }
    Ok(tagged(version, Success::new(Shown::from(current.revision))))
}

/// Waits until another version than the known one stands there; `None` if none does in time.
async fn wait_for_other(
    api: &Api,
    name: &DocumentName,
    known: u64,
    wait: Duration,
) -> Result<Option<Current>> {
    let _place = api
        .waiting
        .try_acquire()
        .map_err(|_full| Error::of(&reasons::OVERLOADED))?;
    let waiting = async {
        loop {
            let current = api.center.get(name).await?;
            if current.revision.meta.version != known {
                return Ok(current);
            }
            let watch = api.center.watch_document(name, current.read_at + 1).await;
            let mut watch = watch?;
            match watch.next().await {
                Ok(_) => {}
                // Compacted or cut: what stands there now is read in any case.
                Err(error) => tracing::debug!(%error, "a wait for a document begins anew"),
            }
        }
    };
    tokio::select! {
        waited = timeout(wait, waiting) => waited.ok().transpose(),
        () = api.closing.cancelled() => Ok(None),
    }
}

pub(super) async fn put(
    State(api): State<Api>,
    Document { name, .. }: Document,
    headers: HeaderMap,
    Typed(publication): Typed<Publication>,
) -> Result<Response> {
    let expect = expected(&headers)?;
    let change = Change {
        content: publication.content.into(),
        format: publication.format,
        author: publication.author,
        comment: publication.comment,
    };
    let meta = api.center.publish(&name, change, expect).await?;
    Ok(published(meta))
}

pub(super) async fn delete(
    State(api): State<Api>,
    Document { name, .. }: Document,
    headers: HeaderMap,
) -> Result<Response> {
    api.center.delete(&name, expected(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The answer to whatever publishes.
pub(super) fn published(meta: Meta) -> Response {
    tagged(meta.version, Success::new(meta))
}

fn tagged(version: u64, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(header::ETAG, etag(version));
    response
}

fn not_modified(version: u64) -> Response {
    tagged(version, StatusCode::NOT_MODIFIED)
}

/// What writers without conditions expect: what stands there, whatever it is.
pub(super) fn expected_or_any(headers: &HeaderMap) -> Result<Expect> {
    let conditional = [header::IF_MATCH, header::IF_NONE_MATCH];
    match conditional.iter().any(|name| headers.contains_key(name)) {
        true => Ok(expected(headers)?),
        false => Ok(Expect::Any),
    }
}

pub(super) fn number(field: &'static str, text: &str) -> Result<u64> {
    let number = text.parse().map_err(|_not_one| {
        Error::invalid(vec![Violation::new(field, "integer", "must be a version")])
    });
    Ok(number?)
}

/// `30s` or `500ms`, up to the longest wait.
fn duration(text: &str) -> Result<Duration> {
    let digits = |unit| {
        text.strip_suffix(unit)
            .and_then(|digits: &str| digits.parse().ok())
    };
    let found = digits("ms")
        .map(Duration::from_millis)
        .or_else(|| digits("s").map(Duration::from_secs));
    match found {
        Some(duration) => Ok(duration.min(WAIT_MAX)),
        None => {
            let wrong = Violation::new("wait", "duration", "must be like 30s or 500ms");
            Err(Error::invalid(vec![wrong]).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_bounded_and_well_written() {
        let read = |text| duration(text).ok();
        assert_eq!(read("30s"), Some(Duration::from_secs(30)));
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("99999s"), Some(WAIT_MAX));
        for wrong in ["", "30", "s", "-1s", "1h", "99999999999999999999s"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
