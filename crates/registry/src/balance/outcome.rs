//! How a call ended, as far as the choice of the next instance is concerned.

use std::time::Duration;

/// What the end of a call says about the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It answered. An answer that blames the request, such as HTTP 404 or gRPC 3, is one too.
    Success,
    /// Its answer blames itself, or never came: HTTP 429 and 5xx, gRPC 4, 8, 13, 14 and 15.
    Failure,
    /// No connection to it could be made. This says more than a failed call: any other would have failed too.
    Unreachable,
    /// The caller gave up before the end, which says nothing about the instance but how long it took until then.
    Canceled,
}

impl Class {
    /// The class of a gRPC status code.
    pub fn of_grpc(code: i32) -> Self {
        match code {
            1 => Self::Canceled,
            4 | 8 | 13 | 14 | 15 => Self::Failure,
            _ => Self::Success,
        }
    }

    /// The class of an HTTP status code.
    pub fn of_http(status: u16) -> Self {
        match status {
            429 | 500..=599 => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it says about the instance.
    pub class: Class,
    /// How long the instance asks to be left alone: `Retry-After` or gRPC's pushback.
    pub retry_after: Option<Duration>,
}

impl From<Class> for Outcome {
    fn from(class: Class) -> Self {
        Self {
            class,
            retry_after: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_blame_the_instance_are_failures() {
        let failures: Vec<i32> = (0..=16)
            .filter(|code| Class::of_grpc(*code) == Class::Failure)
            .collect();
        assert_eq!(failures, [4, 8, 13, 14, 15]);
        assert_eq!(Class::of_grpc(1), Class::Canceled);
        let failures: Vec<u16> = [200, 302, 400, 404, 409, 429, 499, 500, 501, 503, 504]
            .into_iter()
            .filter(|status| Class::of_http(*status) == Class::Failure)
            .collect();
        assert_eq!(failures, [429, 500, 501, 503, 504]);
    }
}
