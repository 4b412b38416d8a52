//! What succeeds: `{"code":200,"message":"success","data":{…}}`, the three keys of the article in this order.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::Error;

/// An answer with a payload.
#[derive(Clone, Debug)]
pub struct Success<T> {
    status: StatusCode,
    location: Option<String>,
    data: T,
}

/// No payload: `{}`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Empty {}

impl<T> Success<T> {
    /// 200 with a payload.
    pub fn new(data: T) -> Self {
        Self {
            status: StatusCode::OK,
            location: None,
            data,
        }
    }

    /// 201 with a payload, and where it is from now on.
    pub fn created(location: String, data: T) -> Self {
        Self {
            status: StatusCode::CREATED,
            location: Some(location),
            data,
        }
    }
}

impl Success<Empty> {
    /// 200 without a payload.
    pub fn empty() -> Self {
        Self::new(Empty {})
    }
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    code: u16,
    message: &'static str,
    data: &'a T,
}

impl<T: Serialize> IntoResponse for Success<T> {
    fn into_response(self) -> Response {
        let envelope = Envelope {
            code: self.status.as_u16(),
            message: "success",
            data: &self.data,
        };
        let body = match serde_json::to_vec(&envelope) {
            Ok(body) => body,
            Err(error) => return Error::internal(error).into_response(),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(location) = self
            .location
            .and_then(|path| HeaderValue::try_from(path).ok())
        {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn success_has_three_keys_in_the_article_s_order() {
        let created = Success::created("/users/7".to_owned(), [1, 2]).into_response();
        assert_eq!(
            (created.status().as_u16(), &created.headers()["location"]),
            (201, &HeaderValue::from_static("/users/7"))
        );
        assert_eq!(
            text(created).await,
            r#"{"code":201,"message":"success","data":[1,2]}"#
        );
        let empty = Success::empty().into_response();
        assert_eq!(
            text(empty).await,
            r#"{"code":200,"message":"success","data":{}}"#
        );
    }
}
