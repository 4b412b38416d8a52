//! The same for HTTP/1.1.

use std::{
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Body;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{task::JoinSet, time::timeout};
use tower::Service;

use super::{
    AnswerBody, ChannelOptions, Error, Totals,
    attempts::{self, Fate, Missed, Sent, Transport},
    deadline::Protocol,
    fleet::{self, Fleet},
    peers::reason,
    replay::Replay,
    stream,
    tls::{HTTP1, Tls, TlsError},
};
use crate::{
    Change, ClientSlot, Discovery, Endpoint, Result, Scheme, ServiceName,
    balance::{Key, SlotView},
    health::{self, HttpProbe},
};

/// Connections to one instance that are kept for the next call.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// How often what is known is looked through. HTTP's connections look after themselves.
const SWEEP: Duration = Duration::from_secs(3600);

/// The body of a request, whatever it was made of.
type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A service reached over HTTP. Cloning is cheap and shares everything.
#[derive(Clone, Debug)]
pub struct HttpClient {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    fleet: Arc<Fleet>,
    pool: Pool,
    options: ChannelOptions,
    _tasks: JoinSet<()>,
}

/// The connections: as many for each instance as calls are made at once.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    client: Client<Connector, Replay<RequestBody>>,
}

/// Makes connections, secure ones where the scheme says so.
#[derive(Clone, Debug)]
struct Connector {
    http: HttpConnector,
    tls: Option<Arc<Tls>>,
    limit: Duration,
}

impl Connector {
    fn new(options: &ChannelOptions) -> Self {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(options.connect_timeout));
        http.set_nodelay(true);
        http.enforce_http(false);
        let tls = options.tls.clone();
        Self {
            http,
            tls: tls.map(|options| Arc::new(Tls::new(options, HTTP1))),
            limit: options.connect_timeout,
        }
    }

    async fn connect(mut self, uri: Uri) -> Result<TokioIo<stream::Stream>, ConnectError> {
        let host = uri.host().unwrap_or_default().to_owned();
        let tls = match uri.scheme_str() {
            Some("https") => Some(self.tls.ok_or(TlsError::Off)?),
            _ => None,
        };
        let stream = self.http.call(uri).await?.into_inner();
        Ok(TokioIo::new(match tls {
            None => stream::Stream::Plain(stream),
            Some(tls) => stream::Stream::Tls(Box::new(tls.connect(&host, stream).await?)),
        }))
    }
}

type ConnectError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = TokioIo<stream::Stream>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        let limit = self.limit;
        Box::pin(async move {
            let connected = timeout(limit, connector.connect(uri)).await;
            connected.unwrap_or_else(|_elapsed| Err(format!("no answer within {limit:?}").into()))
        })
    }
}

impl HttpClient {
    /// A client of a service. With a slot it uses a part of the instances. Connects to nobody yet.
    pub async fn connect(
        discovery: &dyn Discovery,
        service: &ServiceName,
        slot: Option<ClientSlot>,
        options: ChannelOptions,
    ) -> Result<Self> {
        let changes = discovery.watch(service).await?.into_stream();
        Ok(Self::new(service.clone(), changes, slot, options))
    }

    /// A client of the service that `changes` tell of. To be called within a runtime of tokio.
    pub fn new(
        service: ServiceName,
        changes: impl Stream<Item = Change> + Send + 'static,
        slot: Option<ClientSlot>,
        options: ChannelOptions,
    ) -> Self {
        let schemes = options.schemes(Scheme::Http);
        let fleet = Fleet::new(service, schemes, options.balance.clone());
        let fleet = Arc::new(fleet);
        let pool = Pool::new(&options);
        let mut tasks = JoinSet::new();
        tasks.spawn(fleet::feed(
            Arc::clone(&fleet),
            changes,
            slot,
            SWEEP,
            |_slots| {},
        ));
        if let Some(health) = options.health.clone() {
            let probe = HttpProbe::new(pool.clone(), &health);
            tasks.spawn(health::run(Arc::clone(&fleet), probe, health));
        }
        Self {
            shared: Arc::new(Shared {
                fleet,
                pool,
                options,
                _tasks: tasks,
            }),
        }
    }

    /// Makes a call. Of the request's URI, path and query count.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<AnswerBody>, Error>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let Shared {
            fleet,
            pool,
            options,
            ..
        } = &*self.shared;
        let answered = attempts::call(fleet, pool, Protocol::Http, request, options).await?;
        Ok(AnswerBody::of(answered, Protocol::Http))
    }

    /// The instances and what is known of them.
    pub fn instances(&self) -> Vec<SlotView> {
        self.shared.fleet.slots()
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        self.shared.fleet.totals()
    }
}

impl Pool {
    fn new(options: &ChannelOptions) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(Connector::new(options));
        Self { client }
    }

    /// Asks for a path of an instance; the status.
    pub(crate) async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<u16, String> {
        let scheme = endpoint.scheme.as_http();
        let uri = format!("{scheme}://{}{path}", endpoint.address());
        let body: RequestBody = http_body_util::Empty::new()
            .map_err(|never| match never {})
            .boxed_unsync();
        let body = attempts::once(body);
        let request = Request::get(uri)
            .body(body)
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| reason(&error))?;
        Ok(answer.status().as_u16())
    }
}

impl Transport for Pool {
    type Body = RequestBody;

    async fn send(
        &self,
        _key: Key,
        _endpoint: &Endpoint,
        request: Request<Replay<RequestBody>>,
    ) -> Result<Sent, Missed> {
        let sent = self.client.request(request).await;
        let response = sent.map_err(|error| {
            let fate = if error.is_connect() {
                Fate::Unreachable
            } else {
                Fate::Lost
            };
            let reason = reason(&error);
            Missed { fate, reason }
        })?;
        let stream = None;
        Ok(Sent { response, stream })
    }
}
