//! The order in which a request meets everything that is not its handler, written in one place.
//!
//! ```text
//!   recover ─ trace ─ log, metrics ─ host ─ target ─ origin ─ content ─ deadline ─ body limit ─ handler
//! ```
//!
//! One service holds them all: each is an `async fn` or a plain one, so the chain is a single future with no box and no lock between
//! its parts. What one part hands to the next to run is pinned where it stands: each part that took it by value would hold it twice, and
//! the whole would be moved into its box. The chain stands outside of the router, so that a path that nobody has passes it like any other.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use axum::body::Body;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use tonic::Code;
use tower::{Layer, Service, ServiceExt};

use crate::{
    admit::{
        body::{self, BodyLimits},
        content,
        host::Hosts,
        origin, target,
    },
    deadline::{self, Deadline},
    error::Result,
    observe::{RequestMetrics, Watch},
    protocol::{Protocol, grpc_code},
    record::Record,
    recover,
    trace::TRACE_ID,
};

/// The names of the parts, from the outside in.
pub const ORDER: [&str; 10] = [
    "recover",
    "trace",
    "log",
    "metrics",
    "host",
    "target",
    "origin",
    "content",
    "deadline",
    "body limit",
];

/// The time a route has if nothing else is said.
pub const ROUTE_LIMIT: Duration = Duration::from_secs(3);

/// What the parts of the chain need to know.
#[derive(Clone)]
pub struct Chain {
    /// The series of requests.
    pub metrics: Arc<RequestMetrics>,
    /// Which hosts are served over HTTP.
    pub hosts: Hosts,
    /// Whether gRPC is spoken here. If not, it is answered 415.
    pub grpc: bool,
    /// Below this path writes may be forms, as programs of others send them; who comes from a web page is refused there.
    pub forms: Option<&'static str>,
    /// What bodies may be over HTTP; messages of gRPC have limits of their own.
    pub body: BodyLimits,
    /// The time that routes have.
    pub limits: RouteLimits,
}

/// The time that a route has, by the beginning of its path.
#[derive(Clone, Debug)]
pub struct RouteLimits {
    /// Of all others.
    pub default: Option<Duration>,
    /// The first one whose path begins so counts; none is no limit, for streams and long polls.
    pub prefixes: Vec<(&'static str, Option<Duration>)>,
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self {
            default: Some(ROUTE_LIMIT),
            prefixes: Vec::new(),
        }
    }
}

impl RouteLimits {
    /// With another limit of all routes that have none of their own.
    fn of(&self, path: &str, default: Option<Duration>) -> Option<Duration> {
        let found = self
            .prefixes
            .iter()
            .find(|(prefix, _)| path.starts_with(prefix));
        found.map_or(default, |(_, limit)| *limit)
    }
}

/// What requests are held to, as far as that may change while they are served.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What bodies may be over HTTP.
    pub body: BodyLimits,
    /// The time of routes that have none of their own.
    pub route: Option<Duration>,
}

impl<S> Layer<S> for Chain {
    type Service = Chained<S>;

    fn layer(&self, inner: S) -> Chained<S> {
        Chained {
            limits: Arc::new(ArcSwap::from_pointee(Limits {
                body: self.body,
                route: self.limits.default,
            })),
            chain: Arc::new(self.clone()),
            inner,
        }
    }
}

/// A service inside of the chain.
#[derive(Clone)]
pub struct Chained<S> {
    chain: Arc<Chain>,
    /// Shared by all clones.
    limits: Arc<ArcSwap<Limits>>,
    inner: S,
}

impl<S> Chained<S> {
    /// Holds every request from the next one on to other limits, here and in all clones. Those that have begun keep theirs.
    pub fn adjust(&self, limits: Limits) {
        self.limits.store(Arc::new(limits));
    }
}

impl<S> Service<Request<Body>> for Chained<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // The handler is asked for room when its request is there: what stands before it has always room.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (chain, inner) = (self.chain.clone(), self.inner.clone());
        let limits = **self.limits.load();
        Box::pin(async move { Ok(chain.answer(inner, limits, request).await) })
    }
}

impl Chain {
    async fn answer<S>(&self, inner: S, limits: Limits, request: Request<Body>) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let record = Record::begin(&request);
        let peer = request.extensions().get().copied();
        let watch = Watch::begin(record.clone(), self.metrics.clone(), peer);
        let work = pin!(record.clone().scope(async {
            let response = match self.admit(&record, inner, limits, request).await {
                Ok(response) => response,
                Err(error) => record.protocol().answer(error),
            };
            watch.follow(response)
        }));
        let mut response = match recover::catch(work).await {
            Ok(response) => response,
            Err(error) => {
                let protocol = record.protocol();
                record.clone().scope(async { protocol.answer(error) }).await
            }
        };
        if let Ok(id) = HeaderValue::try_from(record.trace().id().to_string()) {
            response.headers_mut().insert(TRACE_ID, id);
        }
        response
    }

    /// Hands on what is well-formed, by its deadline.
    async fn admit<S>(
        &self,
        record: &Record,
        inner: S,
        limits: Limits,
        request: Request<Body>,
    ) -> Result<Response<Body>>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let protocol = record.protocol();
        let is_grpc = self.grpc && protocol == Protocol::Grpc;
        if !is_grpc {
            self.hosts.admit(&request)?;
            target::admit(&request)?;
            let path = request.uri().path();
            match self.forms.filter(|forms| path.starts_with(forms)) {
                Some(_forms) => origin::admit_programs(&request)?,
                None => {
                    origin::admit(&request)?;
                    content::admit(&request)?;
                }
            }
        }
        let asked = deadline::header::read(request.headers())?;
        let limit = asked
            .into_iter()
            .chain(self.limits.of(request.uri().path(), limits.route))
            .min();
        let deadline = limit.and_then(|limit| Deadline::after(Instant::now(), limit));
        let method = is_grpc.then(|| request.uri().path().trim_start_matches('/').to_owned());
        let request = match is_grpc {
            true => request,
            false => body::admit(request, limits.body)?,
        };
        let work = pin!(inner.oneshot(request));
        let Ok(response) = match deadline {
            None => work.await,
            Some(deadline) => {
                let limited = |body| deadline::body::limit(body, protocol, deadline);
                deadline
                    .enforce(work)
                    .await?
                    .map(|response| response.map(limited))
            }
        };
        if let Some(method) =
            method.filter(|_| grpc_code(response.headers()) != Some(Code::Unimplemented))
        {
            record.note_route(method);
        }
        Ok(response)
    }
}
