//! The rest of an answer, which ends the call.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep_until};

use super::{
    Error,
    attempts::{self, Answered},
    deadline::Protocol,
    fleet::{Chosen, InFlight},
    peers::{self, StreamGuard},
};
use crate::balance::{Class, Outcome};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// gRPC's word for "come back later", in milliseconds.
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The body of an answer. Its end is the end of the call; dropped before, the call is given up and its stream reset.
#[derive(Debug)]
pub struct AnswerBody {
    inner: Incoming,
    /// The call, until it has ended.
    call: Option<Call>,
}

#[derive(Debug)]
struct Call {
    in_flight: InFlight,
    _stream: Option<StreamGuard>,
    chosen: Chosen,
    protocol: Protocol,
    /// What the head of the answer says.
    head: Option<Outcome>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    /// Takes a call on from the head of its answer.
    pub(super) fn of(answered: Answered, protocol: Protocol) -> http::Response<Self> {
        let Answered {
            response,
            chosen,
            in_flight,
            stream,
            deadline,
        } = answered;
        let (parts, inner) = response.into_parts();
        let call = Call {
            in_flight,
            _stream: stream,
            chosen,
            protocol,
            head: head_outcome(protocol, parts.status, &parts.headers),
            deadline: deadline.map(|deadline| Box::pin(sleep_until(deadline))),
        };
        let mut body = Self {
            inner,
            call: Some(call),
        };
        // An answer without body, trailers-only for one, may never be read.
        if body.inner.is_end_stream() {
            body.end();
        }
        http::Response::from_parts(parts, body)
    }

    /// Ends the call as its answer's head said, for want of trailers.
    fn end(&mut self) {
        if let Some(call) = self.call.take() {
            // An answer that owes its status has failed.
            let outcome = call.head.unwrap_or(Outcome::from(Class::Failure));
            call.in_flight.done(outcome);
        }
    }

    fn end_as(&mut self, outcome: Outcome) {
        if let Some(call) = self.call.take() {
            call.in_flight.done(outcome);
        }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.call.as_mut().and_then(|call| call.deadline.as_mut());
        deadline.is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
    }

    fn lose(&mut self, error: &hyper::Error) -> Error {
        let reason = peers::reason(error);
        match self.call.take() {
            Some(call) => {
                call.in_flight.done(Outcome::from(Class::Failure));
                attempts::lost(&call.chosen, reason)
            }
            None => Error::Lost {
                instance: String::new(),
                address: String::new(),
                reason,
            },
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending() && self.is_late(cx) {
            self.end_as(Outcome::from(Class::Failure));
            return Poll::Ready(Some(Err(Error::Deadline)));
        }
        match ready!(polled) {
            Some(Ok(frame)) => {
                let call = self.call.as_ref();
                if let (Some(call), Some(trailers)) = (call, frame.trailers_ref()) {
                    let outcome = trailers_outcome(call.protocol, trailers);
                    match outcome {
                        Some(outcome) => self.end_as(outcome),
                        None => self.end(),
                    }
                } else if self.inner.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(self.lose(&error)))),
            None => {
                self.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // The head of an HTTP answer says how the call went, whether or not the rest is read.
        if self.call.as_ref().is_some_and(|call| call.head.is_some()) {
            self.end();
        }
    }
}

/// What the head says; `None` if the trailers will.
fn head_outcome(protocol: Protocol, status: StatusCode, headers: &HeaderMap) -> Option<Outcome> {
    match protocol {
        Protocol::Grpc if status == StatusCode::OK => trailers_outcome(protocol, headers),
        Protocol::Grpc | Protocol::Http => Some(Outcome {
            class: Class::of_http(status.as_u16()),
            retry_after: number(headers, &header::RETRY_AFTER).map(Duration::from_secs),
        }),
    }
}

/// What a gRPC status in headers or trailers says.
fn trailers_outcome(protocol: Protocol, trailers: &HeaderMap) -> Option<Outcome> {
    if protocol == Protocol::Http {
        return None;
    }
    let code = number(trailers, &GRPC_STATUS)?;
    Some(Outcome {
        // A code that no version of gRPC knows is "unknown", 2.
        class: Class::of_grpc(i32::try_from(code).unwrap_or(2)),
        retry_after: number(trailers, &GRPC_PUSHBACK).map(Duration::from_millis),
    })
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, http::HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn outcome_is_read_where_its_protocol_writes_it() {
        let busy = headers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "250")]);
        let outcome = head_outcome(Protocol::Grpc, StatusCode::OK, &busy).unwrap();
        assert_eq!(outcome.class, Class::Failure);
        assert_eq!(outcome.retry_after, Some(Duration::from_millis(250)));
        assert_eq!(
            head_outcome(Protocol::Grpc, StatusCode::OK, &HeaderMap::new()),
            None
        );
        let foreign = head_outcome(Protocol::Grpc, StatusCode::BAD_GATEWAY, &HeaderMap::new());
        assert_eq!(foreign.unwrap().class, Class::Failure);
        let not_found = headers(&[("grpc-status", "5")]);
        let outcome = trailers_outcome(Protocol::Grpc, &not_found).unwrap();
        assert_eq!(outcome.class, Class::Success);
        let later = headers(&[("retry-after", "3")]);
        let outcome = head_outcome(Protocol::Http, StatusCode::SERVICE_UNAVAILABLE, &later);
        let outcome = outcome.unwrap();
        assert_eq!(outcome.class, Class::Failure);
        assert_eq!(outcome.retry_after, Some(Duration::from_secs(3)));
        // A date, which may stand there too, is left alone.
        let dated = headers(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]);
        let outcome = head_outcome(Protocol::Http, StatusCode::OK, &dated).unwrap();
        assert_eq!((outcome.class, outcome.retry_after), (Class::Success, None));
    }
}
