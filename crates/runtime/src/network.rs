//! Frames between members.

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::BoxFuture;

/// Frames that a stream holds in each direction: enough to keep a link busy over one round trip, little enough that a peer that
/// does not read cannot make us keep much.
pub const STREAM_FRAMES_MAX: usize = 64;

/// Why a peer did not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The peer cannot be reached: nothing was sent.
    #[error("peer is unreachable: {0}")]
    Unreachable(String),
    /// The request may have been received; no answer came.
    #[error("no answer from peer: {0}")]
    Lost(String),
    /// No answer within the time given; the request may have been received.
    #[error("no answer from peer in time")]
    Timeout,
    /// The peer refuses to speak with us; the text says what to do.
    #[error("refused by peer: {0}")]
    Refused(String),
}

/// An open stream of frames, in both directions, each in order.
#[derive(Debug)]
pub struct Duplex {
    /// Frames to the peer.
    pub tx: mpsc::Sender<Bytes>,
    /// Frames from the peer; an error is the last item.
    pub rx: mpsc::Receiver<Result<Bytes, NetError>>,
}

/// The way to the other members, by their ids. Addresses are looked up when a frame is sent.
pub trait Network: Send + Sync + 'static {
    /// One request, one answer.
    fn call(
        &self,
        to: u64,
        method: u32,
        body: Bytes,
        timeout: std::time::Duration,
    ) -> BoxFuture<'_, Result<Bytes, NetError>>;

    /// Opens a stream.
    fn stream(&self, to: u64, method: u32) -> BoxFuture<'_, Result<Duplex, NetError>>;
}

/// What answers at the other end of a [`Network`].
pub trait Service: Send + Sync + 'static {
    /// Answers a request. An error closes the call with that error at the caller.
    fn call(&self, from: u64, method: u32, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>>;

    /// Serves a stream until either side closes it.
    fn stream(&self, from: u64, method: u32, stream: Duplex) -> BoxFuture<'static, ()>;
}
