//! What an error says about whether the operation was executed.

use catena_api::errors;
use tonic::{Code, Status};

use super::{Failure, Outcome};

/// Texts of `ResourceExhausted` that a member sends before it does anything. Any other text of that code may be the client's own,
/// about an answer that was too large: then the write did run.
const REFUSED: [errors::ApiError; 2] = [errors::TOO_MANY_REQUESTS, errors::NO_SPACE];

/// The outcome of a call that ended in an error after it may have been sent.
///
/// `Fail` needs a known text of the server with a code that says that the request was not executed. A deadline, a broken
/// connection, a leader that was lost, an internal error: unknown.
pub fn outcome_of(status: &Status) -> Outcome {
    let failure = failure(status.code(), status.message());
    match refused(status) {
        true => Outcome::Fail(failure),
        false => Outcome::Unknown(Some(failure)),
    }
}

/// The outcome of a call of which no byte was sent, such as one to a member that refuses connections.
pub fn not_sent(why: &str) -> Outcome {
    Outcome::Fail(failure(Code::Unavailable, why))
}

fn failure(code: Code, text: &str) -> Failure {
    Failure {
        code: format!("{code:?}"),
        text: text.to_owned(),
    }
}

fn refused(status: &Status) -> bool {
    let is =
        |error: &errors::ApiError| error.code == status.code() && error.text == status.message();
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => errors::ALL.iter().any(is),
        Code::ResourceExhausted => REFUSED.iter().any(is),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_words_prove_a_refusal() {
        let cases = [
            (Code::OutOfRange, errors::COMPACTED.text, true),
            (Code::OutOfRange, "decoded message length too large", false),
            (Code::ResourceExhausted, errors::NO_SPACE.text, true),
            (Code::ResourceExhausted, "message too large", false),
            (Code::Unavailable, errors::NO_LEADER.text, false),
            (Code::DeadlineExceeded, "context deadline exceeded", false),
            (Code::Internal, "h2 protocol error", false),
        ];
        for (code, text, proved) in cases {
            let outcome = outcome_of(&Status::new(code, text));
            assert_eq!(
                matches!(outcome, Outcome::Fail(_)),
                proved,
                "{code:?} {text}"
            );
        }
    }
}
