//! Serving the other members.

use std::{io, pin::Pin, sync::Arc};

use bytes::Bytes;
use catena_api::peer::{
    Frame,
    door_server::DoorServer,
    peer_server::{Peer, PeerServer},
};
use catena_runtime::{Duplex, STREAM_FRAMES_MAX, Service};
use futures_util::{Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::Connected},
};

use super::{
    CONNECTION_WINDOW_BYTES, FRAME_BYTES_MAX, KEEPALIVE, METHOD_KEY, SESSION_KEY,
    STREAM_WINDOW_BYTES, Transport,
    door::{Doorkeeper, Sessions},
    status::{from_status, to_status},
};
use crate::{Node, Observer};

/// Largest greeting: it has a few numbers.
const GREETING_BYTES_MAX: usize = 4 << 10;

/// Calls and streams that one connection may have open; a member with more waits.
const STREAMS_MAX: u32 = 256;

/// Calls that were reset before we have seen them; with more the connection ends (CVE-2023-44487). h2's own default.
const RESET_STREAMS_MAX: usize = 20;

/// Bytes of a call's head, as HTTP/2 counts them: it has a session and a method.
const HEADER_LIST_BYTES_MAX: u32 = 4 << 10;

/// The member that speaks, found by its session before anything of a request is read.
#[derive(Clone, Copy)]
struct Speaker(u64);

impl Transport {
    /// Serves the other members on connections that come from `incoming`, until the member stops or the returned future is dropped.
    /// Who lets strangers in has to bound how many there are and what they send besides calls.
    pub async fn serve<S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static>(
        self: Arc<Self>,
        incoming: impl Stream<Item = io::Result<S>>,
        node: Node,
    ) -> Result<(), tonic::transport::Error> {
        let sessions = Arc::new(Sessions::default());
        let doorkeeper = Doorkeeper {
            shared: self.shared.clone(),
            sessions: sessions.clone(),
            node: node.clone(),
        };
        let peers = PeerServer::new(Peers {
            service: node.service(),
            observer: self.shared.observer.clone(),
        })
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
        let peers = tonic::service::interceptor::InterceptedService::new(
            peers,
            move |request: Request<()>| identify(&sessions, request),
        );
        let stopped = async move {
            let reason = node.stopped().await;
            tracing::debug!(%reason, "peer port closes");
        };
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_pending_accept_reset_streams(Some(RESET_STREAMS_MAX))
            .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(DoorServer::new(doorkeeper).max_decoding_message_size(GREETING_BYTES_MAX))
            .add_service(peers)
            .serve_with_incoming_shutdown(incoming, stopped)
            .await
    }
}

/// Finds out who speaks.
#[allow(
    clippy::result_large_err,
    reason = "the signature of tonic's interceptors"
)]
fn identify(sessions: &Sessions, mut request: Request<()>) -> Result<Request<()>, Status> {
    let session = request.metadata().get(SESSION_KEY);
    let speaker = session
        .and_then(|session| session.to_str().ok())
        .and_then(|session| sessions.speaker(session));
    match speaker {
        Some(from) => {
            request.extensions_mut().insert(Speaker(from));
            Ok(request)
        }
        None => Err(Status::unauthenticated(
            "the session is unknown: greet first",
        )),
    }
}

/// Passes calls on to the member's service.
struct Peers {
    service: Arc<dyn Service>,
    observer: Arc<dyn Observer>,
}

#[allow(clippy::result_large_err, reason = "statuses are what tonic returns")]
fn speaker<T>(request: &Request<T>) -> Result<u64, Status> {
    let speaker = request.extensions().get::<Speaker>();
    speaker
        .map(|speaker| speaker.0)
        .ok_or_else(|| Status::unauthenticated("the session is unknown: greet first"))
}

#[tonic::async_trait]
impl Peer for Peers {
    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let from = speaker(&request)?;
        let Frame { method, body } = request.into_inner();
        self.observer.peer_received(from, body.len());
        let answer = self.service.call(from, method, body).await;
        let body = answer.map_err(to_status)?;
        self.observer.peer_sent(from, body.len());
        Ok(Response::new(Frame { method, body }))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let from = speaker(&request)?;
        let method = request
            .metadata()
            .get(METHOD_KEY)
            .and_then(|method| method.to_str().ok()?.parse().ok())
            .ok_or_else(|| Status::invalid_argument("the stream names no method"))?;
        let (tx, answers) = mpsc::channel::<Bytes>(STREAM_FRAMES_MAX);
        let (frames, rx) = mpsc::channel(STREAM_FRAMES_MAX);
        // Both end with the stream: the first when the caller drops it, the second when it has served it.
        let frames = Received {
            from,
            observer: self.observer.clone(),
            to_service: frames,
        };
        tokio::spawn(frames.forward(request.into_inner()));
        tokio::spawn(self.service.stream(from, method, Duplex { tx, rx }));
        let observer = self.observer.clone();
        let answers = ReceiverStream::new(answers).map(move |body: Bytes| {
            observer.peer_sent(from, body.len());
            Ok(Frame { method: 0, body })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The frames of a stream on their way to the service.
struct Received {
    from: u64,
    observer: Arc<dyn Observer>,
    to_service: mpsc::Sender<Result<Bytes, catena_runtime::NetError>>,
}

impl Received {
    async fn forward(self, mut frames: Streaming<Frame>) {
        while let Some(frame) = frames.next().await {
            let is_last = frame.is_err();
            let frame = frame
                .map(|frame| frame.body)
                .map_err(|status| from_status(&status));
            if let Ok(body) = &frame {
                self.observer.peer_received(self.from, body.len());
            }
            if self.to_service.send(frame).await.is_err() || is_last {
                return;
            }
        }
    }
}
