//! Bodies: how long they may be, and how long they may take.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep};

use crate::error::{Error, Result, reasons};

/// What a body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes.
    pub bytes_max: u64,
    /// The time in which some of it has to come.
    pub idle: Duration,
}

impl Default for BodyLimits {
    /// 1 MiB, and ten seconds.
    fn default() -> Self {
        Self {
            bytes_max: 1 << 20,
            idle: Duration::from_secs(10),
        }
    }
}

/// Refuses a body that says that it is too long (413), before a byte of it is asked for; limits any other.
pub fn admit(request: Request<Body>, limits: BodyLimits) -> Result<Request<Body>> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.bytes_max) {
        return Err(Error::of(&reasons::BODY_TOO_LARGE));
    }
    Ok(request.map(|body| {
        Body::new(Limited {
            body,
            left: limits.bytes_max,
            limits,
            silence: None,
        })
    }))
}

/// The whole of a limited body. What is wrong with it becomes the error to answer with.
pub async fn read(body: Body) -> Result<Bytes> {
    match body.collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => Err(fault(error)),
    }
}

/// The error that ended a body: ours if we ended it, the client's otherwise.
fn fault(error: axum::Error) -> Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<Error>() {
            return error.clone();
        }
        cause = error.source();
    }
    Error::of(&reasons::BODY_BROKEN).with_source(error)
}

struct Limited {
    body: Body,
    left: u64,
    limits: BodyLimits,
    /// Runs while nothing comes.
    silence: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Limited {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let idle = this.limits.idle;
            let silence = this
                .silence
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
            ready!(silence.as_mut().poll(cx));
            let error = Error::of(&reasons::REQUEST_TIMEOUT);
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        };
        if let Some(silence) = &mut this.silence {
            silence.as_mut().reset(Instant::now() + this.limits.idle);
        }
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(left) = this.left.checked_sub(length) else {
                let error = Error::of(&reasons::BODY_TOO_LARGE);
                return Poll::Ready(Some(Err(axum::Error::new(error))));
            };
            this.left = left;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        bytes_max: 10,
        idle: Duration::from_millis(50),
    };

    fn pieces(pieces: Vec<&'static str>, ends: bool) -> Request<Body> {
        use futures_util::{StreamExt, stream};
        let frames =
            stream::iter(pieces).map(|piece| Ok::<_, axum::Error>(Frame::data(Bytes::from(piece))));
        let rest = if ends {
            stream::empty().boxed()
        } else {
            stream::pending().boxed()
        };
        Request::new(Body::new(StreamBody::new(frames.chain(rest))))
    }

    async fn outcome(request: Request<Body>) -> Result<Bytes> {
        read(admit(request, LIMITS)?.into_body()).await
    }

    #[tokio::test]
    async fn a_body_is_read_within_its_limits() {
        assert_eq!(
            outcome(pieces(vec!["01234", "56789"], true)).await.unwrap(),
            "0123456789"
        );
        let long = outcome(pieces(vec!["01234", "567890"], true))
            .await
            .unwrap_err();
        assert!(long.is(&reasons::BODY_TOO_LARGE));
        let slow = outcome(pieces(vec!["01234"], false)).await.unwrap_err();
        assert!(slow.is(&reasons::REQUEST_TIMEOUT));
    }

    #[test]
    fn a_length_that_is_too_great_is_refused_at_once() {
        let mut request = pieces(vec![], false);
        request
            .headers_mut()
            .insert("content-length", "11".parse().unwrap());
        assert!(
            admit(request, LIMITS)
                .unwrap_err()
                .is(&reasons::BODY_TOO_LARGE)
        );
    }
}
