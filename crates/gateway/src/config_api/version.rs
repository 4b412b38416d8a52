//! Versions of a document, and what it must be.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use catena_middleware::Success;
use http::HeaderMap;
use serde::Deserialize;

use super::{
    Api,
    body::{Document, Typed},
    document::{Shown, expected_or_any, number, published},
    fault::Result,
};
use crate::extract::Query;

pub(super) async fn history(
    State(api): State<Api>,
    Document { name, .. }: Document,
) -> Result<Response> {
    let metas = api.center.history(&name).await?;
    Ok(Success::new(metas).into_response())
}

pub(super) async fn one(
    State(api): State<Api>,
    Document { name, rest }: Document,
) -> Result<Response> {
    let version = number("version", &rest)?;
    let revision = api.center.version(&name, version).await?;
    Ok(Success::new(Shown::from(revision)).into_response())
}

pub(super) async fn diff(
    State(api): State<Api>,
    Document { name, .. }: Document,
    mut query: Query,
) -> Result<Response> {
    let from = number("from", &query.text("from").unwrap_or_default());
    let to = number("to", &query.text("to").unwrap_or_default());
    query.finish()?;
    let differences = api.center.diff(&name, from?, to?).await?;
    Ok(Success::new(differences).into_response())
}

/// Which version to go back to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    to: u64,
    #[serde(default)]
    author: String,
}

pub(super) async fn rollback(
    State(api): State<Api>,
    Document { name, .. }: Document,
    headers: HeaderMap,
    Typed(Rollback { to, author }): Typed<Rollback>,
) -> Result<Response> {
    let expect = expected_or_any(&headers)?;
    let meta = api.center.rollback(&name, to, &author, expect).await?;
    Ok(published(meta))
}

pub(super) async fn set_schema(
    State(api): State<Api>,
    Document { name, .. }: Document,
    Typed(schema): Typed<serde_json::Value>,
) -> Result<Response> {
    let schema = schema.to_string();
    api.center
        .set_schema(&name, Some(schema.as_bytes()))
        .await?;
    Ok(Success::empty().into_response())
}

pub(super) async fn drop_schema(
    State(api): State<Api>,
    Document { name, .. }: Document,
) -> Result<Response> {
    api.center.set_schema(&name, None).await?;
    Ok(Success::empty().into_response())
}
