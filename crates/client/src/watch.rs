//! A watch as its two ends see it.
//!
//! The store's side sends through a [`WatchSender`], the user receives from a [`Watcher`]. Between them stands a short queue: when it
//! is full the sender waits, and the store keeps the watcher's place in history instead of its events.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::sync::{Notify, mpsc, watch};

use crate::{
    Error, Result,
    pb::{Event, ResponseHeader},
};

/// Responses between sender and user. A response can be as large as a revision, so the queue is no longer than it takes to keep
/// both ends busy.
const RESPONSES_MAX: usize = 16;

/// Events of one or more whole revisions, in order; or, without events, a mark of progress.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchResponse {
    /// The header. Its revision may be ahead of the events', unless there are none: then everything up to it has been received.
    pub header: ResponseHeader,
    /// The events.
    pub events: Vec<Event>,
}

impl WatchResponse {
    /// Whether this is a mark of progress: everything up to the header's revision has been received.
    pub fn is_progress(&self) -> bool {
        self.events.is_empty()
    }
}

/// The user's end of a watch. Dropping it cancels the watch.
#[derive(Debug)]
pub struct Watcher {
    created: ResponseHeader,
    responses: mpsc::Receiver<Result<WatchResponse>>,
    progress: Arc<Notify>,
    resumptions: watch::Receiver<u64>,
    ended: Option<Error>,
}

/// The store's end of a watch.
#[derive(Debug)]
pub struct WatchSender {
    responses: mpsc::Sender<Result<WatchResponse>>,
    progress: Arc<Notify>,
    resumptions: watch::Sender<u64>,
}

/// The user dropped the [`Watcher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Makes the two ends of a watch that the store created with the header `created`.
pub fn channel(created: ResponseHeader) -> (WatchSender, Watcher) {
    let (tx, rx) = mpsc::channel(RESPONSES_MAX);
    let progress = Arc::new(Notify::new());
    let (resumed, resumptions) = watch::channel(0);
    let sender = WatchSender {
        responses: tx,
        progress: progress.clone(),
        resumptions: resumed,
    };
    let watcher = Watcher {
        created,
        responses: rx,
        progress,
        resumptions,
        ended: None,
    };
    (sender, watcher)
}

impl Watcher {
    /// The header with which the store created the watch. A watch without a start revision begins after its revision.
    pub fn created(&self) -> &ResponseHeader {
        &self.created
    }

    /// The next response. An error is the watch's end and is given again by every later call. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<WatchResponse> {
        std::future::poll_fn(|cx| self.poll_response(cx)).await
    }

    /// Asks for a mark of progress. The store answers once this watch is caught up, or not at all: ask again if it matters.
    pub fn request_progress(&self) {
        self.progress.notify_one();
    }

    /// How often the watch was interrupted and went on. Each time the store may have been another in between: one that was restored
    /// from a backup numbers its revisions anew, and what was seen of the old ones means nothing in it.
    pub fn resumptions(&self) -> watch::Receiver<u64> {
        self.resumptions.clone()
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchResponse>> {
        if let Some(error) = &self.ended {
            return Poll::Ready(Err(error.clone()));
        }
        self.responses.poll_recv(cx).map(|received| {
            let response = received.unwrap_or(Err(Error::Closed));
            self.ended = response.as_ref().err().cloned();
            response
        })
    }
}

/// Ends after the first error.
impl Stream for Watcher {
    type Item = Result<WatchResponse>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended.is_some() {
            return Poll::Ready(None);
        }
        self.poll_response(cx).map(Some)
    }
}

impl WatchSender {
    /// Hands a response over, waiting for room. An error is the last thing that is sent.
    pub async fn send(&self, response: Result<WatchResponse>) -> Result<(), Gone> {
        self.responses.send(response).await.map_err(|_| Gone)
    }

    /// Tells the user that the watch was interrupted and goes on.
    pub fn resumed(&self) {
        self.resumptions.send_modify(|count| *count += 1);
    }

    /// Completes when the user has dropped the other end.
    pub async fn closed(&self) {
        self.responses.closed().await;
    }

    /// Completes when the user asked for a mark of progress since the last completion.
    pub async fn progress_requested(&self) {
        self.progress.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn error_ends_the_watch_for_good() {
        let (sender, mut watcher) = channel(ResponseHeader::default());
        let response = WatchResponse::default();
        sender.send(Ok(response.clone())).await.unwrap();
        let end = Error::Compacted { revision: 7 };
        sender.send(Err(end.clone())).await.unwrap();
        assert_eq!(watcher.next().await, Ok(response));
        assert_eq!(watcher.next().await, Err(end.clone()));
        assert_eq!(watcher.next().await, Err(end));
    }

    #[tokio::test]
    async fn dropped_watcher_stops_the_sender() {
        let (sender, watcher) = channel(ResponseHeader::default());
        drop(watcher);
        sender.closed().await;
        assert_eq!(sender.send(Ok(WatchResponse::default())).await, Err(Gone));
    }

    #[tokio::test]
    async fn progress_requests_coalesce() {
        let (sender, watcher) = channel(ResponseHeader::default());
        watcher.request_progress();
        watcher.request_progress();
        sender.progress_requested().await;
        let second = futures_util::FutureExt::now_or_never(sender.progress_requested());
        assert_eq!(second, None);
    }
}
