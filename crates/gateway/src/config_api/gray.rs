//! Documents for some instances.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use catena_middleware::Success;
use catena_registry::config::GrayRule;
use http::HeaderMap;
use serde::Deserialize;

use super::{
    Api,
    body::{Document, Typed},
    document::{expected_or_any, published},
    fault::Result,
};

/// A rule and its name.
#[derive(Deserialize)]
pub(super) struct Named {
    rule: String,
    #[serde(flatten)]
    gray: GrayRule,
}

pub(super) async fn list(
    State(api): State<Api>,
    Document { name, .. }: Document,
) -> Result<Response> {
    let rules = api.center.rules(&name).await?;
    Ok(Success::new(rules).into_response())
}

pub(super) async fn set(
    State(api): State<Api>,
    Document { name, .. }: Document,
    Typed(Named { rule, gray }): Typed<Named>,
) -> Result<Response> {
    api.center.gray(&name, &rule, &gray).await?;
    Ok(Success::empty().into_response())
}

pub(super) async fn abort(
    State(api): State<Api>,
    Document { name, rest }: Document,
) -> Result<Response> {
    api.center.abort(&name, &rest).await?;
    Ok(Success::empty().into_response())
}

/// Who gives the document to all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Promotion {
    #[serde(default)]
    author: String,
}

pub(super) async fn promote(
    State(api): State<Api>,
    Document { name, rest }: Document,
    headers: HeaderMap,
    Typed(Promotion { author }): Typed<Promotion>,
) -> Result<Response> {
    let expect = expected_or_any(&headers)?;
    let meta = api.center.promote(&name, &rest, &author, expect).await?;
    Ok(published(meta))
}
