//! A request body that can be sent once more.
//!
//! What has been read of it is kept, within a bound, until the answer begins. Each attempt reads the kept part first and then goes on
//! with the body itself, so a stream that has only begun is no obstacle either. An attempt that is given up may still be read by
//! its connection for a moment: it finds that it is out of turn and ends with an error, so it can take nothing away from the
//! next one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

/// How much of a body is kept. A body that has sent more is not sent again.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// A body and what has been read of it.
struct Kept<B> {
    body: B,
    frames: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    /// The body has ended.
    ended: bool,
    /// More was read than is kept.
    overflowed: bool,
    /// Which attempt may read.
    turn: u32,
}

/// Makes the attempts' bodies.
pub(super) struct Source<B> {
    kept: Arc<Mutex<Kept<B>>>,
}

/// The body of one attempt.
pub(super) struct Replay<B> {
    kept: Arc<Mutex<Kept<B>>>,
    turn: u32,
    /// The next frame to be read of those that are kept.
    next: usize,
    done: bool,
}

/// Why a body of an attempt ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplayError<E> {
    /// The request's own body failed.
    #[error("{0}")]
    Body(E),
    #[error("the request is sent elsewhere")]
    OutOfTurn,
}

impl<B> Source<B> {
    pub(super) fn new(body: B) -> Self {
        let kept = Kept {
            body,
            frames: Vec::new(),
            bytes: 0,
            trailers: None,
            ended: false,
            overflowed: false,
            turn: 0,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// The body for the next attempt; `None` if too much of it is gone. It takes the turn from the attempt before.
    pub(super) fn attempt(&self) -> Option<Replay<B>> {
        let mut kept = self.kept.lock();
        if kept.overflowed {
            return None;
        }
        kept.turn += 1;
        Some(Replay {
            kept: Arc::clone(&self.kept),
            turn: kept.turn,
            next: 0,
            done: false,
        })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Kept<B> {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => {
                self.ended = true;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        if let Some(bytes) = frame.data_ref() {
            self.keep(bytes.clone());
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.ended = true;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn keep(&mut self, bytes: Bytes) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > KEPT_BYTES_MAX {
            self.overflowed = true;
            self.frames = Vec::new();
        } else {
            self.frames.push(bytes);
        }
    }
}

impl<B> Body for Replay<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = ReplayError<B::Error>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let replay = self.get_mut();
        let mut kept = replay.kept.lock();
        if kept.turn != replay.turn {
            return Poll::Ready(Some(Err(ReplayError::OutOfTurn)));
        }
        // After an overflow this is the only attempt, and it has read all there is.
        if let Some(bytes) = kept.frames.get(replay.next) {
            replay.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if kept.ended {
            let trailers = kept.trailers.clone().filter(|_| !replay.done);
            replay.done = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let polled = kept.poll_body(cx);
        replay.next = kept.frames.len();
        replay.done = kept.ended;
        polled.map(|frame| frame.map(|frame| frame.map_err(ReplayError::Body)))
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.lock();
        if self.next < kept.frames.len() {
            return false;
        }
        if kept.ended {
            return self.done || kept.trailers.is_none();
        }
        kept.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.lock();
        let unread = kept.frames.iter().skip(self.next);
        let unread: usize = unread.map(Bytes::len).sum();
        let mut hint = kept.body.size_hint();
        if unread > 0 {
            let unread = unread as u64;
            let upper = hint.upper().map(|upper| upper.saturating_add(unread));
            // The upper bound first: it must not be below the lower one at any time.
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
            hint.set_lower(hint.lower().saturating_add(unread));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    type Frames = Vec<Result<Frame<Bytes>, Infallible>>;

    fn body(frames: Frames) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(stream::iter(frames))
    }

    fn data(bytes: &'static [u8]) -> Result<Frame<Bytes>, Infallible> {
        Ok(Frame::data(Bytes::from_static(bytes)))
    }

    #[tokio::test]
    async fn second_attempt_reads_what_the_first_did_and_goes_on() {
        let source = Source::new(body(vec![data(b"a"), data(b"b"), data(b"c")]));
        let mut first = source.attempt().unwrap();
        let frame = first.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "a");
        let mut second = source.attempt().unwrap();
        let error = first.frame().await.unwrap().unwrap_err();
        assert!(matches!(error, ReplayError::OutOfTurn));
        let frame = second.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "a");
        assert_eq!(second.collect().await.unwrap().to_bytes(), "bc");
        let third = source.attempt().unwrap();
        assert!(!third.is_end_stream());
        assert_eq!(third.size_hint().lower(), 3);
        assert_eq!(third.collect().await.unwrap().to_bytes(), "abc");
    }

    #[tokio::test]
    async fn trailers_are_sent_once_in_each_attempt() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x", "1".parse().unwrap());
        let frames = vec![data(b"a"), Ok(Frame::trailers(trailers.clone()))];
        let source = Source::new(body(frames));
        for _ in 0..2 {
            let mut attempt = source.attempt().unwrap();
            attempt.frame().await.unwrap().unwrap();
            let frame = attempt.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_trailers().unwrap(), trailers);
            assert!(attempt.is_end_stream() && attempt.frame().await.is_none());
        }
    }

    #[tokio::test]
    async fn long_body_is_sent_once() {
        let big = Bytes::from(vec![0; KEPT_BYTES_MAX]);
        let frames = vec![Ok(Frame::data(big)), data(b"a"), data(b"b")];
        let source = Source::new(body(frames));
        let mut attempt = source.attempt().unwrap();
        attempt.frame().await.unwrap().unwrap();
        assert_eq!(attempt.collect().await.unwrap().to_bytes(), "ab");
        assert!(source.attempt().is_none());
    }

    #[tokio::test]
    async fn empty_body_is_known_to_be_empty() {
        let source = Source::new(http_body_util::Empty::<Bytes>::new());
        assert!(source.attempt().unwrap().is_end_stream());
        assert_eq!(source.attempt().unwrap().size_hint().exact(), Some(0));
    }
}
