//! The codes of gRPC and of HTTP, each way.

use tonic::Code;

/// What HTTP answers for a code of gRPC.
pub fn http_of_grpc(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::InvalidArgument | Code::OutOfRange => 400,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        // As kratos; others use 400.
        Code::FailedPrecondition => 412,
        Code::ResourceExhausted => 429,
        Code::Cancelled => 499,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
    }
}

/// What gRPC answers for an error of our own.
pub fn grpc_of_error(http: u16, reason: &str) -> Code {
    match http {
        200..=299 => Code::Ok,
        400 | 415 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        405 | 501 => Code::Unimplemented,
        408 | 504 => Code::DeadlineExceeded,
        409 if reason.ends_with("_ALREADY_EXISTS") => Code::AlreadyExists,
        409 => Code::Aborted,
        412 | 428 => Code::FailedPrecondition,
        413 | 429 | 431 => Code::ResourceExhausted,
        416 => Code::OutOfRange,
        499 => Code::Cancelled,
        500 => Code::Internal,
        502 | 503 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What a gRPC client makes of an HTTP answer that is not gRPC's at all, of a proxy for example.
pub fn grpc_of_foreign(http: u16) -> Code {
    match http {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_to_http_is_the_published_table() {
        let expected = [
            200, 499, 500, 400, 504, 404, 409, 403, 429, 412, 409, 400, 501, 500, 503, 500, 401,
        ];
        for (code, http) in expected.into_iter().enumerate() {
            assert_eq!(http_of_grpc(Code::from(code as i32)), http, "{code}");
        }
    }

    #[test]
    fn own_http_to_grpc_is_the_published_table() {
        for (http, code) in [
            (204, 0),
            (400, 3),
            (415, 3),
            (422, 3),
            (401, 16),
            (403, 7),
            (404, 5),
            (405, 12),
            (501, 12),
            (408, 4),
            (504, 4),
            (409, 10),
            (412, 9),
            (428, 9),
            (413, 8),
            (429, 8),
            (431, 8),
            (416, 11),
            (499, 1),
            (500, 13),
            (502, 14),
            (503, 14),
            (418, 2),
            (421, 2),
        ] {
            assert_eq!(grpc_of_error(http, "X") as i32, code, "{http}");
        }
        assert_eq!(
            grpc_of_error(409, "USER_ALREADY_EXISTS"),
            Code::AlreadyExists
        );
    }

    #[test]
    fn foreign_answers_are_read_as_grpc_says() {
        for (http, code) in [
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (502, 14),
            (503, 14),
            (504, 14),
            (500, 2),
            (302, 2),
        ] {
            assert_eq!(grpc_of_foreign(http) as i32, code, "{http}");
        }
    }
}
