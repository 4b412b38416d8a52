//! Errors over HTTP: the envelope's other half.

use std::time::Duration;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::Error;
use crate::{record::Record, validate::Violation};

/// The longest time that a client is told to wait: beyond it, the header would say nothing that helps.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// An error's body, in this order.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// HTTP's status.
    pub code: u16,
    /// For people.
    pub message: &'a str,
    /// Always null.
    pub data: (),
    /// For programs.
    pub reason: &'a str,
    /// Where to look in the logs.
    pub trace_id: String,
    /// The fields that break rules.
    pub details: &'a [Violation],
}

/// Answers over HTTP, and notes reason and causes for the line in the log.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let record = Record::current();
        let body = ErrorBody {
            code: self.code(),
            message: self.message(),
            data: (),
            reason: self.reason(),
            trace_id: record
                .as_ref()
                .map(|record| record.trace().id().to_string())
                .unwrap_or_default(),
            details: self.violations(),
        };
        let body = serde_json::to_vec(&body).expect("strings and numbers are always JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if let Some(record) = record {
            record.note_error(&self);
        }
        response
    }
}

fn whole_seconds(after: Duration) -> u64 {
    let after = after.min(RETRY_AFTER_MAX);
    after.as_secs() + u64::from(after.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::error::reasons;

    async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn an_error_has_the_envelope_s_keys_in_their_order() {
        let error = Error::invalid(vec![Violation::new("name", "required", "name is required")])
            .with_message("no")
            .with_source("a secret of the database")
            .with_retry_after(Duration::from_millis(1001));
        let response = error.into_response();
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(
            text(response).await,
            r#"{"code":400,"message":"no","data":null,"reason":"VALIDATION_FAILED","trace_id":"","details":[{"field":"name","rule":"required","message":"name is required"}]}"#
        );
    }

    #[tokio::test]
    async fn causes_stay_inside() {
        let response = Error::internal("password of db is hunter2").into_response();
        assert_eq!(response.status(), 500);
        let text = text(response).await;
        assert!(
            text.contains(reasons::INTERNAL.zh) && !text.contains("hunter2"),
            "{text}"
        );
    }
}
