//! Sending entries.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, STREAM_FRAMES_MAX};
use futures_util::{Stream, StreamExt, stream};
use openraft::{
    OptionalSend,
    base::BoxStream,
    errors::{RPCError, Unreachable},
    raft::{AppendEntriesRequest, StreamAppendResult},
};

use super::{Link, Links};
use crate::{
    method,
    types::Types,
    wire::{self, AppendAnswer},
};

/// Bytes on the way and not answered: what a link of 1 Gbit/s carries in 64 ms, and little enough to keep for each follower.
const UNANSWERED_BYTES_MAX: usize = 8 << 20;

type Answer<C> = Result<StreamAppendResult<C>, RPCError<C>>;

/// Sends each request as a call, one after the other: heartbeats.
pub(super) fn calls<'s, C: Types, S>(
    link: &'s Link,
    input: S,
    timeout: Duration,
) -> BoxStream<'s, Answer<C>>
where
    S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
{
    let answers =
        input.then(move |request| async move { link.append_call(&request, timeout).await });
    Box::pin(answers)
}

/// Sends requests over the link's stream, several ahead of their answers. The stream is opened when there is a request: openraft
/// holds the first one back as long as it wants to leave an unreachable peer alone.
pub(super) fn stream<'s, C: Types, S>(link: &'s mut Link, input: S) -> BoxStream<'s, Answer<C>>
where
    S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
{
    let links = link.links.clone();
    let session = Session {
        stuck_at: links.runtime.clock.sleep(links.stuck),
        links,
        to: link.to,
        duplex: link.duplex.take(),
        keep: &mut link.duplex,
        input: Some(input),
        unanswered: VecDeque::new(),
        unanswered_bytes: 0,
    };
    let answers = stream::unfold(Some(session), |session| async move {
        let mut session = session?;
        let answer = session.next().await?;
        let goes_on = matches!(answer, Ok(Ok(_)));
        Some((answer, goes_on.then_some(session)))
    });
    Box::pin(answers)
}

/// One use of a stream. openraft ends it whenever it has nothing to send; the stream itself is kept for the next one.
struct Session<'s, S> {
    links: Links,
    to: u64,
    keep: &'s mut Option<Duplex>,
    duplex: Option<Duplex>,
    input: Option<S>,
    /// Size and time of each request that waits for its answer.
    unanswered: VecDeque<(usize, Duration)>,
    unanswered_bytes: usize,
    /// Runs again and again; looks only then how old the oldest request is, so that no request needs a timer.
    stuck_at: BoxFuture<'static, ()>,
}

enum Event<R> {
    Answered(Option<Result<Bytes, NetError>>),
    Request(Option<R>),
    Tick,
}

impl<S> Session<'_, S> {
    async fn next<C: Types>(&mut self) -> Option<Answer<C>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        loop {
            if self.input.is_none() && self.unanswered.is_empty() {
                *self.keep = self.duplex.take();
                return None;
            }
            match self.event::<C>().await {
                Event::Answered(answer) => return Some(self.answered(answer)),
                Event::Request(Some(request)) => {
                    let sent = self.send(wire::append_request(&request)).await;
                    if let Err(error) = sent {
                        return Some(Err(self.links.rpc_error(&error)));
                    }
                }
                Event::Request(None) => self.input = None,
                Event::Tick => {
                    if self.is_stuck() {
                        let error = NetError::Timeout;
                        return Some(Err(Unreachable::new(&error).into()));
                    }
                }
            }
        }
    }

    /// Answers come first, so that what they release is sent at once.
    async fn event<C: Types>(&mut self) -> Event<AppendEntriesRequest<C>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        let has_room = self.unanswered.len() < STREAM_FRAMES_MAX
            && self.unanswered_bytes < UNANSWERED_BYTES_MAX;
        let answer = async {
            match &mut self.duplex {
                Some(duplex) => duplex.rx.recv().await,
                None => std::future::pending().await,
            }
        };
        let request = async {
            match &mut self.input {
                Some(input) if has_room => input.next().await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answer = answer => Event::Answered(answer),
            request = request => Event::Request(request),
            () = &mut self.stuck_at => Event::Tick,
        }
    }

    async fn send(&mut self, frame: Bytes) -> Result<(), NetError> {
        let size = frame.len();
        let duplex = match &mut self.duplex {
            Some(duplex) => duplex,
            closed => {
                let opened = self.links.network.stream(self.to, method::APPEND).await?;
                closed.insert(opened)
            }
        };
        // There are never more frames in the queue than unanswered requests, so it is full only if the peer is gone.
        if duplex.tx.try_send(frame).is_err() {
            return Err(NetError::Lost("stream is closed".to_owned()));
        }
        self.unanswered
            .push_back((size, self.links.runtime.clock.now()));
        self.unanswered_bytes += size;
        Ok(())
    }

    fn answered<C: Types>(&mut self, answer: Option<Result<Bytes, NetError>>) -> Answer<C> {
        let answer = answer.unwrap_or_else(|| Err(NetError::Lost("stream ended".to_owned())));
        let answer = answer.map_err(|error| self.links.rpc_error::<C>(&error))?;
        let Some((size, _)) = self.unanswered.pop_front() else {
            let error = wire::BadBytes::Nonsense("answers nothing that was asked");
            return Err(Links::bad_answer(&error));
        };
        self.unanswered_bytes -= size;
        wire::decode_plain::<AppendAnswer>(&answer)
            .and_then(AppendAnswer::into_openraft)
            .map_err(|error| Links::bad_answer(&error))
    }

    fn is_stuck(&mut self) -> bool {
        let now = self.links.runtime.clock.now();
        let oldest = self.unanswered.front().map_or(now, |(_, sent)| *sent);
        let left = self.links.stuck.saturating_sub(now.saturating_sub(oldest));
        self.stuck_at = self.links.runtime.clock.sleep(left);
        left.is_zero()
    }
}
