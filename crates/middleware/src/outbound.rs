//! Calls that go out over gRPC: what is left of the deadline, the trace and the language go with them.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::{
    deadline::{self, Deadline, GRPC_TIMEOUT, write_grpc},
    error::{Error, reasons},
    protocol::Protocol,
    record,
};

/// What may break a call.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A way to a service in another process: a channel, or a balanced one.
///
/// What breaks it is an [`Error`] already, so that the one who called answers with it as it is.
pub type Transport = tower::util::BoxCloneSyncService<Request<Body>, Response<Body>, Error>;

/// The time that a unary call has if the caller says nothing else.
pub const UNARY_LIMIT: Duration = Duration::from_secs(2);

/// Makes calls part of the request that causes them. Clones, and the transports made of them, share one limit.
#[derive(Clone, Debug)]
pub struct Outbound {
    limit: Arc<ArcSwap<Duration>>,
}

impl Default for Outbound {
    fn default() -> Self {
        Self::new(UNARY_LIMIT)
    }
}

impl Outbound {
    /// With the most that a call may take.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit: Arc::new(ArcSwap::from_pointee(limit)),
        }
    }

    /// Gives every call from the next one on another limit. Those that have begun keep theirs.
    pub fn adjust(&self, limit: Duration) {
        self.limit.store(Arc::new(limit));
    }

    /// What calls may take now.
    pub(crate) fn limit(&self) -> Duration {
        **self.limit.load()
    }

    /// A transport of any kind, inside of this layer.
    pub fn transport<S>(&self, service: S) -> Transport
    where
        S: Service<Request<Body>> + Clone + Send + Sync + 'static,
        S::Response: IntoGrpc,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        Transport::new(self.layer(service))
    }
}

/// Answers of all transports.
pub trait IntoGrpc {
    /// The same answer with tonic's body.
    fn into_grpc(self) -> Response<Body>;
}

impl<B> IntoGrpc for Response<B>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn into_grpc(self) -> Response<Body> {
        self.map(Body::new)
    }
}

impl<S> Layer<S> for Outbound {
    type Service = Outgoing<S>;

    fn layer(&self, inner: S) -> Outgoing<S> {
        Outgoing {
            limit: self.limit.clone(),
            inner,
        }
    }
}

/// A transport whose calls carry the deadline.
#[derive(Clone, Debug)]
pub struct Outgoing<S> {
    limit: Arc<ArcSwap<Duration>>,
    inner: S,
}

impl<S> Service<Request<Body>> for Outgoing<S>
where
    S: Service<Request<Body>> + Clone + Send + 'static,
    S::Response: IntoGrpc,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| broken(error.into()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The clone takes the place of the one that is ready.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let limit = **self.limit.load();
        Box::pin(async move {
            let limit = deadline::outbound(limit)?;
            let headers = request.headers_mut();
            headers.insert(GRPC_TIMEOUT, write_grpc(limit));
            record::inject(headers);
            let Some(deadline) = Deadline::after(Instant::now(), limit) else {
                return Err(Error::of(&reasons::DEADLINE_MALFORMED));
            };
            // The callee hears of the limit first; this is for one who does not keep it.
            let response = deadline.enforce(inner.call(request)).await?;
            let response = response.map_err(|error| broken(error.into()))?.into_grpc();
            Ok(response.map(|body| {
                let body = axum::body::Body::new(body);
                Body::new(deadline::body::limit(body, Protocol::Grpc, deadline))
            }))
        })
    }
}

/// A call that broke on its way.
fn broken(error: BoxError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => match error.downcast::<Status>() {
            Ok(status) => Error::from(*status),
            // tonic's channel keeps a clock of its own by the header that was just written, and calls the same thing by another name.
            Err(error) if timed_out(error.as_ref()) => {
                Error::of(&reasons::DEADLINE_EXCEEDED).with_source(error)
            }
            Err(error) => Error::of(&reasons::UPSTREAM_UNAVAILABLE).with_source(error),
        },
    }
}

fn timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<tonic::TimeoutExpired>() || error.source().is_some_and(timed_out)
}
