//! A member whose answers a test writes.

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use catena_api::etcd::etcdserverpb::{
    kv_server::{Kv, KvServer},
    lease_server::{Lease, LeaseServer},
    watch_server::{Watch, WatchServer},
    *,
};
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use tokio::{runtime::Runtime, sync::mpsc};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};

/// What a member does on a call.
pub(crate) enum Answer {
    Ok,
    Fail(Status),
    Silence,
}

/// What a member does on a watch stream, in order. A stream whose steps are used up stays open.
pub(crate) enum Step {
    Send(WatchResponse),
    Cut(Status),
}

/// What a member was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    Range,
    Put,
    Renew(i64),
    Watch { start_revision: i64 },
    Progress,
    WatchEnded,
}

/// The answers and the questions; outlives a member that is killed.
#[derive(Default)]
pub(crate) struct Script {
    /// One for each call; [`Answer::Ok`] when used up.
    pub(crate) answers: Mutex<VecDeque<Answer>>,
    /// One for each watch stream.
    pub(crate) streams: Mutex<VecDeque<Vec<Step>>>,
    /// In order.
    pub(crate) asked: Mutex<Vec<Asked>>,
    /// How many steps of streams were taken.
    pub(crate) steps: AtomicUsize,
    /// Of the last call.
    pub(crate) metadata: Mutex<MetadataMap>,
}

/// A running member. It has a runtime of its own, so that dropping it cuts every connection as the death of a process would.
pub(crate) struct Member {
    pub(crate) addr: SocketAddr,
    pub(crate) script: Arc<Script>,
    runtime: Option<Runtime>,
}

impl Member {
    pub(crate) fn start(script: Script) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), Arc::new(script))
    }

    pub(crate) fn start_at(addr: SocketAddr, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind(addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = Service(script.clone());
        let server = Server::builder()
            .add_service(KvServer::new(service.clone()))
            .add_service(LeaseServer::new(service.clone()))
            .add_service(WatchServer::new(service));
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self {
            addr,
            script,
            runtime: Some(runtime),
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Kills the member and starts it again at the same address.
    pub(crate) fn restart(self) -> Self {
        let (addr, script) = (self.addr, self.script.clone());
        drop(self);
        Self::start_at(addr, script)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().clone()
    }

    /// Waits until the member was asked this.
    pub(crate) async fn saw(&self, asked: Asked) {
        self.until(|member| member.asked().contains(&asked)).await;
    }

    /// Waits until the member's streams took this many steps in all.
    pub(crate) async fn took(&self, steps: usize) {
        self.until(|member| member.script.steps.load(Ordering::Relaxed) >= steps)
            .await;
    }

    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let met = async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        crate::within(met).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let runtime = self.runtime.take().unwrap();
        runtime.shutdown_background();
        // The port is free once the listener's task is gone.
        while std::net::TcpStream::connect(self.addr).is_ok() {
            std::thread::yield_now();
        }
    }
}

/// An address at which nobody listens.
pub(crate) fn dead_endpoint() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 1,
        revision,
        ..ResponseHeader::default()
    })
}

#[derive(Clone)]
struct Service(Arc<Script>);

impl Service {
    async fn answer<Q, A: Default>(
        &self,
        asked: Asked,
        request: Request<Q>,
    ) -> Result<Response<A>, Status> {
        self.0.asked.lock().push(asked);
        *self.0.metadata.lock() = request.metadata().clone();
        let answer = self.0.answers.lock().pop_front();
        match answer.unwrap_or(Answer::Ok) {
            Answer::Ok => Ok(Response::new(A::default())),
            Answer::Fail(status) => Err(status),
            Answer::Silence => std::future::pending().await,
        }
    }
}

fn unscripted<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no test asks this"))
}

#[tonic::async_trait]
impl Kv for Service {
    type RangeStreamStream = BoxStream<'static, Result<RangeStreamResponse, Status>>;

    async fn range(&self, r: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        self.answer(Asked::Range, r).await
    }

    async fn put(&self, r: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.answer(Asked::Put, r).await
    }

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        unscripted()
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        unscripted()
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        unscripted()
    }

    async fn compact(
        &self,
        _: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        unscripted()
    }
}

#[tonic::async_trait]
impl Lease for Service {
    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (metadata, _, mut renewals) = request.into_parts();
        let Some(renewal) = renewals.message().await? else {
            return Ok(Response::new(futures_util::stream::empty().boxed()));
        };
        let mut request = Request::new(());
        *request.metadata_mut() = metadata;
        let mut answer: LeaseKeepAliveResponse = self
            .answer(Asked::Renew(renewal.id), request)
            .await?
            .into_inner();
        (answer.id, answer.ttl) = (renewal.id, 10);
        Ok(Response::new(
            futures_util::stream::iter([Ok(answer)]).boxed(),
        ))
    }

    async fn lease_grant(
        &self,
        _: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        unscripted()
    }

    async fn lease_revoke(
        &self,
        _: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        unscripted()
    }

    async fn lease_time_to_live(
        &self,
        _: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        unscripted()
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        unscripted()
    }
}

#[tonic::async_trait]
impl Watch for Service {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        *self.0.metadata.lock() = request.metadata().clone();
        let mut requests = request.into_inner();
        let script = self.0.clone();
        let (tx, rx) = mpsc::channel(1);
        tokio::spawn(async move {
            let steps = async {
                while let Ok(Some(request)) = requests.message().await {
                    match request.request_union.unwrap() {
                        watch_request::RequestUnion::CreateRequest(create) => {
                            script.asked.lock().push(Asked::Watch {
                                start_revision: create.start_revision,
                            });
                            let steps = script.streams.lock().pop_front().unwrap_or_default();
                            for step in steps {
                                let item = match step {
                                    Step::Send(response) => Ok(response),
                                    Step::Cut(status) => Err(status),
                                };
                                let cut = item.is_err();
                                if tx.send(item).await.is_err() || cut {
                                    return;
                                }
                                script.steps.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        watch_request::RequestUnion::ProgressRequest(_) => {
                            script.asked.lock().push(Asked::Progress);
                        }
                        watch_request::RequestUnion::CancelRequest(_) => {}
                    }
                }
            };
            tokio::select! {
                () = steps => {}
                () = tx.closed() => {}
            }
            script.asked.lock().push(Asked::WatchEnded);
        });
        Ok(Response::new(
            tokio_stream::wrappers::ReceiverStream::new(rx).boxed(),
        ))
    }
}
