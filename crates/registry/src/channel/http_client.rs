//! The same for HTTP/1.1.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::Stream;
use http::{Request, Response};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::{Body, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::task::JoinSet;

use super::{
    AnswerBody, ChannelOptions, Error, Totals,
    attempts::{self, Fate, Missed, Transport},
    deadline::Protocol,
    fleet::{self, Fleet},
    peers::reason,
    replay::Replay,
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
    client: Client<HttpConnector, Replay<RequestBody>>,
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
        let fleet = Fleet::new(service, Scheme::Http, options.balance.clone());
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
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(options.connect_timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(options.idle)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self { client }
    }

    /// Asks for a path of an instance; the status.
    pub(crate) async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<u16, String> {
        let uri = format!("http://{}{path}", endpoint.address());
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
    ) -> Result<Response<Incoming>, Missed> {
        self.client.request(request).await.map_err(|error| {
            let fate = if error.is_connect() {
                Fate::Unreachable
            } else {
                Fate::Lost
            };
            let reason = reason(&error);
            Missed { fate, reason }
        })
    }
}
