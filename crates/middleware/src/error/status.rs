//! Errors as `google.rpc.Status`, in the form that kratos writes and reads: `ErrorInfo` with an empty domain.
//!
//! Fifty codes of HTTP share seventeen of gRPC. Where the way back would end at another one, the code travels in the metadata under
//! [`HTTP_STATUS`], so that between our own ends nothing is lost; others see a fact that they do not know.

use std::{collections::HashMap, error::Error as StdError, sync::Arc};

use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use super::{Error, Reason, reasons, table};
use crate::validate::Violation;

/// Where the code of HTTP travels if gRPC's does not lead back to it.
const HTTP_STATUS: &str = "http-status";

/// `ErrorInfo`'s domain: kratos leaves it empty, and finds no reason beside another one.
const DOMAIN: &str = "";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = table::grpc_of_error(error.code(), error.reason());
        let mut metadata: HashMap<_, _> = error.metadata().clone().into_iter().collect();
        if table::http_of_grpc(code) != error.code() {
            metadata.insert(HTTP_STATUS.to_owned(), error.code().to_string());
        }
        let mut details = ErrorDetails::with_error_info(error.reason(), DOMAIN, metadata);
        if !error.violations().is_empty() {
            let fields: Vec<_> = error.violations().iter().map(written).collect();
            details.set_bad_request(fields);
        }
        if let Some(after) = error.retry_after() {
            details.set_retry_info(Some(after));
        }
        let message = error.message().to_owned();
        let mut status =
            Status::with_error_details_and_metadata(code, message, details, MetadataMap::new());
        // Within the process, it comes out again whole: with what only the log may know.
        status.set_source(Arc::new(error));
        status
    }
}

/// `BadRequest` has no place for the rule, so it stands before the text.
fn written(violation: &Violation) -> FieldViolation {
    FieldViolation::new(
        &violation.field,
        format!("{}: {}", violation.rule, violation.message),
    )
}

fn read(violation: FieldViolation) -> Violation {
    let (rule, message) = match violation.description.split_once(": ") {
        Some((rule, message)) if is_name(rule) => (rule.to_owned(), message.to_owned()),
        _ => ("invalid".to_owned(), violation.description),
    };
    Violation {
        field: violation.field,
        rule: rule.into(),
        message,
    }
}

fn is_name(word: &str) -> bool {
    word.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Reads what a service answered, ours or another's. A text that nobody wrote for clients does not go further: see `is_told`.
impl From<Status> for Error {
    fn from(status: Status) -> Self {
        if let Some(error) = local(&status) {
            return error;
        }
        let details = status.get_error_details();
        let Some(info) = details.error_info().filter(|info| !info.reason.is_empty()) else {
            return untold(status);
        };
        let mut error = Error::new(
            table::http_of_grpc(status.code()),
            info.reason.clone(),
            status.message().to_owned(),
        );
        error.0.metadata = info.metadata.clone().into_iter().collect();
        let exact = error.0.metadata.remove(HTTP_STATUS);
        if let Some(code) = exact
            .and_then(|code| code.parse().ok())
            .filter(is_http_error)
        {
            error.0.code = code;
        }
        if let Some(bad) = details.bad_request() {
            error.0.violations = bad.field_violations.iter().cloned().map(read).collect();
        }
        error.0.retry_after = details.retry_info().and_then(|info| info.retry_delay);
        error
    }
}

fn is_http_error(code: &u16) -> bool {
    (400..=599).contains(code)
}

/// A status that was made on this side, of an error of ours or because the call broke: its source is what broke.
fn local(status: &Status) -> Option<Error> {
    let mut cause = StdError::source(status)?;
    let reason = loop {
        if cause.is::<tonic::TimeoutExpired>() {
            break &reasons::DEADLINE_EXCEEDED;
        }
        if let Some(error) = cause.downcast_ref::<Error>() {
            return Some(error.clone());
        }
        match cause.source() {
            Some(next) => cause = next,
            None if status.code() == Code::DeadlineExceeded => break &reasons::DEADLINE_EXCEEDED,
            None if status.code() == Code::Internal => break &reasons::BAD_UPSTREAM_RESPONSE,
            None => break &reasons::UPSTREAM_UNAVAILABLE,
        }
    };
    Some(Error::of(reason).with_source(status.clone()))
}

/// A status without a reason: the code names one, and only a text that was meant for a caller is handed on.
fn untold(status: Status) -> Error {
    let reason = reason_of(status.code());
    let error = Error::of(reason);
    let error = if is_told(status.code()) && !status.message().is_empty() {
        error.with_message(status.message().to_owned())
    } else {
        error
    };
    error.with_source(status)
}

/// Whether the text of a status with this code is for the caller. What is said about a fault of the server is not.
fn is_told(code: Code) -> bool {
    !matches!(
        code,
        Code::Unknown | Code::Internal | Code::DataLoss | Code::Unavailable
    )
}

fn reason_of(code: Code) -> &'static Reason {
    match code {
        Code::Ok | Code::Unknown => &reasons::UNKNOWN,
        Code::Cancelled => &reasons::CANCELLED,
        Code::InvalidArgument | Code::OutOfRange => &reasons::BAD_REQUEST,
        Code::DeadlineExceeded => &reasons::DEADLINE_EXCEEDED,
        Code::NotFound => &reasons::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => &reasons::CONFLICT,
        Code::PermissionDenied => &reasons::PERMISSION_DENIED,
        Code::ResourceExhausted => &reasons::RESOURCE_EXHAUSTED,
        Code::FailedPrecondition => &reasons::PRECONDITION_FAILED,
        Code::Unimplemented => &reasons::UNIMPLEMENTED,
        Code::Internal => &reasons::INTERNAL,
        Code::Unavailable => &reasons::UPSTREAM_UNAVAILABLE,
        Code::DataLoss => &reasons::DATA_LOSS,
        Code::Unauthenticated => &reasons::UNAUTHENTICATED,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    /// What is left of a status on the wire.
    fn over_the_wire(status: Status) -> Status {
        Status::from_header_map(status.into_http::<()>().headers()).unwrap()
    }

    fn violations() -> Vec<Violation> {
        [
            ("name", "required", "name is required"),
            ("a.b[2]", "max_chars", "too long: 3"),
        ]
        .map(|(field, rule, message)| Violation {
            field: field.to_owned(),
            rule: rule.into(),
            message: message.to_owned(),
        })
        .to_vec()
    }

    proptest! {
        #[test]
        fn every_code_and_reason_comes_back(
            code in 400u16..600,
            reason in "[A-Z][A-Z_]{0,30}",
            message in ".{0,50}",
            value in ".{0,20}",
        ) {
            let sent = Error::new(code, reason, message)
                .with_metadata("key", value)
                .with_violations(violations())
                .with_retry_after(Duration::from_millis(1500));
            let read = Error::from(over_the_wire(Status::from(sent.clone())));
            prop_assert_eq!(&read, &sent);
            prop_assert_eq!(read.message(), sent.message());
            prop_assert_eq!(read.metadata(), sent.metadata());
            prop_assert_eq!(read.violations(), sent.violations());
            prop_assert_eq!(read.retry_after(), sent.retry_after());
        }
    }

    #[test]
    fn the_catalogue_comes_back() {
        for reason in reasons::ALL {
            let read = Error::from(over_the_wire(Status::from(Error::of(reason))));
            assert!(read.is(reason), "{read:?}");
        }
    }

    /// What `errors.New(404, "USER_NOT_FOUND", "…")` of kratos puts on the wire.
    #[test]
    fn kratos_reasons_are_read_and_ours_are_what_kratos_reads() {
        let details = ErrorDetails::with_error_info(
            "USER_NOT_FOUND",
            "",
            [("id".to_owned(), "7".to_owned())],
        );
        let kratos = Status::with_error_details(Code::NotFound, "no user 7", details);
        let error = Error::from(kratos);
        assert_eq!((error.code(), error.reason()), (404, "USER_NOT_FOUND"));
        assert_eq!(error.metadata()["id"], "7");

        let ours = Status::from(Error::new(404, "USER_NOT_FOUND", "no user 7"));
        let info = field(1, b"USER_NOT_FOUND");
        let url = b"type.googleapis.com/google.rpc.ErrorInfo";
        let any = [field(1, url), field(2, &info)].concat();
        let expected = [vec![8, 5], field(2, b"no user 7"), field(3, &any)].concat();
        assert_eq!(ours.details(), expected);
    }

    /// A field of protobuf that has a length.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        assert!(content.len() < 128);
        [&[number << 3 | 2, content.len() as u8], content].concat()
    }

    #[test]
    fn what_a_server_says_of_its_faults_goes_no_further() {
        let error = Error::from(Status::unknown("password of db is hunter2"));
        assert!(error.is(&reasons::UNKNOWN));
        assert!(!error.message().contains("hunter2"));
        assert!(error.causes().unwrap().contains("hunter2"));
        assert_eq!(
            Error::from(Status::not_found("no such room")).message(),
            "no such room"
        );
    }
}
