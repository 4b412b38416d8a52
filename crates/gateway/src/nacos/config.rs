//! Documents: read, published, taken away.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use catena_registry::config::{self, Change, DocumentName, Expect, Format};
use http::{HeaderName, StatusCode, header};
use serde_json::json;

use super::{Nacos, request::Params};
use crate::config_api::fault::{Fault, Result};

/// What clients compare a document by.
const MD5: HeaderName = HeaderName::from_static("content-md5");

/// Of a document, in hexadecimal.
pub(super) fn md5(content: &[u8]) -> String {
    use md5::{Digest, Md5};
    let digest = Md5::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a step gives, or none if there is no such document.
fn found<T>(result: std::result::Result<T, config::Error>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(config::Error::Absent { .. }) => Ok(None),
        Err(error) => Err(Fault::from(error)),
    }
}

/// A document's content; none if there is none.
pub(super) async fn content(nacos: &Nacos, name: &DocumentName) -> Result<Option<bytes::Bytes>> {
    let current = found(nacos.center.get(name).await)?;
    Ok(current.map(|current| current.revision.content))
}

async fn put(nacos: &Nacos, name: &DocumentName, mut params: Params) -> Result<()> {
    let content = params.required("content")?;
    let format = params.optional("type");
    let change = Change {
        content: content.into(),
        // Nacos knows some that are only text to us.
        format: format.map(|name| match name.as_str() {
            "yml" => Format::Yaml,
            name => Format::from_name(name).unwrap_or(Format::Text),
        }),
        author: params.optional("src_user").unwrap_or_default(),
        comment: params.optional("desc").unwrap_or_default(),
    };
    nacos.center.publish(name, change, Expect::Any).await?;
    Ok(())
}

pub(super) async fn get(State(nacos): State<Nacos>, mut params: Params) -> Result<Response> {
    let name = params.document(&nacos, "tenant")?;
    Ok(match content(&nacos, &name).await? {
        Some(content) => {
            let plain = (header::CONTENT_TYPE, "text/plain;charset=UTF-8".to_owned());
            ([plain, (MD5, md5(&content))], content).into_response()
        }
        None => (StatusCode::NOT_FOUND, "config data not exist").into_response(),
    })
}

pub(super) async fn publish(State(nacos): State<Nacos>, mut params: Params) -> Result<Response> {
    let name = params.document(&nacos, "tenant")?;
    put(&nacos, &name, params).await?;
    Ok("true".into_response())
}

/// What is not there is as good as deleted.
pub(super) async fn delete(State(nacos): State<Nacos>, mut params: Params) -> Result<Response> {
    let name = params.document(&nacos, "tenant")?;
    found(nacos.center.delete(&name, Expect::Any).await)?;
    Ok("true".into_response())
}

fn success(data: serde_json::Value) -> Response {
    Json(json!({"code": 0, "message": "success", "data": data})).into_response()
}

pub(super) async fn get_json(State(nacos): State<Nacos>, mut params: Params) -> Result<Response> {
    let name = params.document(&nacos, "namespaceId")?;
    Ok(match content(&nacos, &name).await? {
        Some(content) => success(String::from_utf8_lossy(&content).into()),
        None => {
            // Nacos' own number for it.
            let body = json!({"code": 20004, "message": "resource not found", "data": null});
            (StatusCode::NOT_FOUND, Json(body)).into_response()
        }
    })
}

pub(super) async fn publish_json(
    State(nacos): State<Nacos>,
    mut params: Params,
) -> Result<Response> {
    let name = params.document(&nacos, "namespaceId")?;
    put(&nacos, &name, params).await?;
    Ok(success(true.into()))
}

pub(super) async fn delete_json(
    State(nacos): State<Nacos>,
    mut params: Params,
) -> Result<Response> {
    let name = params.document(&nacos, "namespaceId")?;
    found(nacos.center.delete(&name, Expect::Any).await)?;
    Ok(success(true.into()))
}
