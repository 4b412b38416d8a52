//! Answers that are still on their way when the deadline passes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::Status;

use super::Deadline;
use crate::{
    error::{Error, reasons},
    protocol::Protocol,
};

/// A body that ends when the deadline passes: over gRPC with trailers that say so, over HTTP by breaking off, since its head has
/// promised success.
pub(crate) struct Limited {
    body: Body,
    protocol: Protocol,
    passed: Pin<Box<Sleep>>,
    ended: bool,
}

/// Limits an answer, unless it is in memory already.
pub(crate) fn limit(body: Body, protocol: Protocol, deadline: Deadline) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    Body::new(Limited {
        body,
        protocol,
        passed: Box::pin(sleep_until(deadline.instant().into())),
        ended: false,
    })
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let frame @ Poll::Ready(_) = Pin::new(&mut self.body).poll_frame(cx) {
            return frame;
        }
        if self.passed.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        self.body = Body::empty();
        let error = Error::of(&reasons::DEADLINE_EXCEEDED);
        Poll::Ready(Some(match self.protocol {
            Protocol::Http => Err(axum::Error::new(error)),
            Protocol::Grpc => {
                let mut trailers = http::HeaderMap::new();
                match Status::from(error).add_header(&mut trailers) {
                    Ok(()) => Ok(Frame::trailers(trailers)),
                    Err(status) => Err(axum::Error::new(status)),
                }
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn endless() -> Body {
        Body::new(StreamBody::new(futures_util::stream::pending::<
            Result<Frame<Bytes>, axum::Error>,
        >()))
    }

    fn soon() -> Deadline {
        Deadline::after(Instant::now(), Duration::from_millis(50)).unwrap()
    }

    #[tokio::test]
    async fn a_stream_of_grpc_ends_with_trailers() {
        let body = limit(endless(), Protocol::Grpc, soon());
        let collected = body.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "4");
    }

    #[tokio::test]
    async fn an_answer_over_http_breaks_off() {
        assert!(
            limit(endless(), Protocol::Http, soon())
                .collect()
                .await
                .is_err()
        );
    }
}
