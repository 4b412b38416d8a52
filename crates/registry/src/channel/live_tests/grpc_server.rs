//! A tonic server with a service made by hand, and tonic's client for it. Messages are plain text.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use tonic::{
    Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
    transport::server::TcpIncoming,
};
use tower::Service;

use super::super::{CallOptions, Channel};
use crate::Instance;

/// What a server does and has done.
struct Shared {
    id: String,
    calls: AtomicUsize,
    running: AtomicUsize,
    failing: AtomicBool,
    serving: AtomicBool,
    released: Semaphore,
}

/// Counts a call for as long as it runs.
struct Running(Arc<Shared>);

impl Running {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) struct Server {
    pub(super) id: String,
    instance: Instance,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(id: &str) -> Self {
        Self::start_with(id, tonic::transport::Server::builder()).await
    }

    /// One that asks its clients to connect anew after that time.
    pub(super) async fn start_with_age(id: &str, age: Duration) -> Self {
        let builder = tonic::transport::Server::builder().max_connection_age(age);
        Self::start_with(id, builder).await
    }

    /// One that takes so many calls at once on a connection.
    pub(super) async fn start_with_streams(id: &str, streams: u32) -> Self {
        let builder = tonic::transport::Server::builder().max_concurrent_streams(streams);
        Self::start_with(id, builder).await
    }

    async fn start_with(id: &str, mut builder: tonic::transport::Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            id: id.to_owned(),
            calls: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            serving: AtomicBool::new(true),
            released: Semaphore::new(0),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = builder
            .add_service(Named::<false>(Arc::clone(&shared)))
            .add_service(Named::<true>(Arc::clone(&shared)))
            .serve_with_incoming_shutdown(TcpIncoming::from(listener), async {
                let _dropped = stopped.await;
            });
        let task = tokio::spawn(async { serve.await.unwrap() });
        Self {
            id: id.to_owned(),
            instance: super::instance(id, &format!("grpc://{address}")),
            shared,
            stop: Some(stop),
            task,
        }
    }

    /// Stops in good order: no connections, GOAWAY, the calls in flight.
    pub(super) async fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.task).await.unwrap();
    }

    pub(super) fn instance(&self) -> Instance {
        self.instance.clone()
    }

    pub(super) fn calls(&self) -> usize {
        self.shared.calls.load(Ordering::SeqCst)
    }

    pub(super) fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    pub(super) fn fail(&self, failing: bool) {
        self.shared.failing.store(failing, Ordering::SeqCst);
    }

    pub(super) fn set_serving(&self, serving: bool) {
        self.shared.serving.store(serving, Ordering::SeqCst);
    }

    /// Lets one call of `Wait` end.
    pub(super) fn release(&self) {
        self.shared.released.add_permits(1);
    }
}

/// The service, or the health service.
#[derive(Clone)]
struct Named<const HEALTH: bool>(Arc<Shared>);

impl NamedService for Named<false> {
    const NAME: &'static str = "test.Echo";
}

impl NamedService for Named<true> {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl<const HEALTH: bool> Service<Request<Body>> for Named<HEALTH> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { Ok(answer(shared, request).await) })
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Body>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let method = path.rsplit('/').next().unwrap();
    if method == "Check" {
        let status = if shared.serving.load(Ordering::SeqCst) {
            1
        } else {
            2
        };
        return message(&[8, status]);
    }
    let running = Running::new(&shared);
    shared.calls.fetch_add(1, Ordering::SeqCst);
    if shared.failing.load(Ordering::SeqCst) {
        return Status::unavailable("not today").into_http();
    }
    let timeout = request.headers().get("grpc-timeout").cloned();
    // A server reads what it is sent before it answers.
    request.into_body().collect().await.unwrap();
    match method {
        "Hang" => std::future::pending().await,
        "HangInBody" => {
            let hangs = stream::pending::<Result<Frame<Bytes>, Status>>().map(move |frame| {
                let _counted = &running;
                frame
            });
            head(Body::new(StreamBody::new(hangs)))
        }
        "Wait" => {
            shared.released.acquire().await.unwrap().forget();
            message(shared.id.as_bytes())
        }
        "Timeout" => message(
            timeout
                .as_ref()
                .map_or(&b""[..], |timeout| timeout.as_bytes()),
        ),
        _ => message(shared.id.as_bytes()),
    }
}

fn head(body: Body) -> Response<Body> {
    let answer = Response::builder().header("content-type", "application/grpc");
    answer.body(body).unwrap()
}

/// A message and the status that all is well.
pub(super) fn message(text: &[u8]) -> Response<Body> {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(text.len()).unwrap());
    bytes.put_slice(text);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [Frame::data(bytes.freeze()), Frame::trailers(trailers)];
    let frames = frames.map(Ok::<_, Status>);
    head(Body::new(StreamBody::new(stream::iter(frames))))
}

/// What a generated client would be.
#[derive(Clone)]
pub(super) struct Client {
    channel: Channel,
}

impl Client {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel }
    }

    pub(super) async fn call(&self, method: &str) -> Result<String, Status> {
        self.call_with(method, CallOptions::default()).await
    }

    pub(super) async fn call_with(
        &self,
        method: &str,
        options: CallOptions,
    ) -> Result<String, Status> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let mut request = tonic::Request::new("hello".to_owned());
        request.extensions_mut().insert(options);
        let path = format!("/test.Echo/{method}").parse().unwrap();
        let answer = grpc.unary(request, path, Text).await?;
        Ok(answer.into_inner())
    }
}

/// Messages that are their own encoding.
#[derive(Clone, Copy, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}
