//! What breaks in the configuration, as an answer.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use catena_middleware::{
    error::{Error, reasons},
    validate::Violation,
};
use catena_registry::config;
use http::{HeaderValue, header};

/// When a store that is away may be asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error of the configuration or of the request.
pub(crate) enum Fault {
    Config(config::Error),
    Request(Error),
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl From<config::Error> for Fault {
    fn from(error: config::Error) -> Self {
        Self::Config(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Request(error)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Request(error) => return error.into_response(),
            Self::Config(error) => error,
        };
        let current = match &error {
            config::Error::Conflict { current, .. } => Some(*current),
            _ => None,
        };
        let mut response = answer(error).into_response();
        if let Some(current) = current {
            response.headers_mut().insert(header::ETAG, etag(current));
        }
        response
    }
}

/// A version as HTTP compares it.
pub(super) fn etag(version: u64) -> HeaderValue {
    let text = format!("\"{version}\"");
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// The one table from errors of the configuration to answers. Their texts name keys and places and never a value.
fn answer(error: config::Error) -> Error {
    use config::Error as Config;
    let told = |code| Error::new(code, error.reason(), error.to_string());
    match &error {
        Config::BadName { .. } => told(400),
        Config::Absent { .. } => told(404),
        Config::Conflict { .. } => told(412),
        Config::TooMuch { .. } => told(413),
        Config::Unreadable { line, column, .. } => {
            let place = format!("content:{line}:{column}");
            told(422).with_violations(vec![Violation::new(place, "format", error.to_string())])
        }
        Config::Refused(broken) => {
            let broken = broken.iter();
            let broken = broken.map(|broken| {
                Violation::new(broken.path.clone(), broken.rule, broken.message.clone())
            });
            told(422).with_violations(broken.collect())
        }
        Config::Sealed { path, .. } => told(422).with_violations(vec![Violation::new(
            path.clone(),
            "sealed",
            error.to_string(),
        )]),
        Config::Unresolved { .. }
        | Config::Cycle { .. }
        | Config::BadPlaceholder { .. }
        | Config::Missing { .. }
        | Config::Mistyped { .. } => told(422),
        Config::Store(cause) if cause.is_transient() => Error::of(&reasons::UNAVAILABLE)
            .with_retry_after(RETRY_AFTER)
            .with_source(error),
        Config::Closed | Config::NotReady { .. } => Error::of(&reasons::UNAVAILABLE)
            .with_retry_after(RETRY_AFTER)
            .with_source(error),
        Config::Store(_) | Config::File { .. } => Error::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_tells_the_version_that_stands_there() {
        let conflict = config::Error::Conflict {
            document: "prod/user/main".to_owned(),
            current: 8,
        };
        let response = Fault::from(conflict).into_response();
        assert_eq!(response.status(), 412);
        assert_eq!(response.headers()["etag"], "\"8\"");
    }

    #[test]
    fn each_error_has_its_status() {
        let refused = config::Error::Refused(vec![config::Violation {
            path: "server.port".to_owned(),
            rule: "type",
            message: "must be of type integer".to_owned(),
        }]);
        let error = answer(refused);
        assert_eq!((error.code(), error.reason()), (422, "CONFIG_INVALID"));
        assert_eq!(error.violations()[0].field, "server.port");
        let absent = config::Error::Absent {
            what: "document",
            name: "x".to_owned(),
        };
        assert_eq!(answer(absent).code(), 404);
        let away = answer(config::Error::Closed);
        assert_eq!((away.code(), away.retry_after()), (503, Some(RETRY_AFTER)));
    }
}
