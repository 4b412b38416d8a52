//! A member as a store in the same process: the same handlers, without a connection.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use catena_api::etcd::etcdserverpb::{
    self as pb, kv_server::Kv as _, lease_server::Lease as _, watch_request::RequestUnion,
};
use catena_client::{Error, Kv, Result, WatchResponse, WatchSender, Watcher, watch};
use catena_runtime::Task;
use catena_telemetry::panic::uncovered;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use crate::{
    server::Server,
    v3rpc::{kv::KvService, lease::LeaseService, watch::Driver},
};

/// Requests on their way to a watch's driver: its creation, and requests for progress, of which more say nothing more.
const REQUESTS_MAX: usize = 2;

/// The in-process form of [`Kv`].
pub(crate) struct Embedded {
    server: Arc<Server>,
    kv: KvService,
    lease: LeaseService,
    watches: Arc<Watches>,
}

/// The tasks that feed watchers. Each leaves by itself when its watcher is dropped.
#[derive(Default)]
struct Watches {
    next: AtomicU64,
    tasks: Mutex<HashMap<u64, Task>>,
}

impl Embedded {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            kv: KvService(server.clone()),
            lease: LeaseService(server.clone()),
            watches: Arc::default(),
            server,
        }
    }
}

/// Runs a handler for a caller in this process. Its panic is not the caller's to catch: the store would go on with what it left.
async fn answer<T>(
    handler: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    let answered = uncovered(handler).await;
    answered.map(Response::into_inner).map_err(Error::from)
}

#[async_trait]
impl Kv for Embedded {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse> {
        answer(self.kv.range(Request::new(request))).await
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse> {
        answer(self.kv.put(Request::new(request))).await
    }

    async fn delete_range(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse> {
        answer(self.kv.delete_range(Request::new(request))).await
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse> {
        answer(self.kv.txn(Request::new(request))).await
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse> {
        answer(self.kv.compact(Request::new(request))).await
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse> {
        answer(self.lease.lease_grant(Request::new(request))).await
    }

    async fn lease_revoke(&self, lease: i64) -> Result<pb::LeaseRevokeResponse> {
        let request = pb::LeaseRevokeRequest { id: lease };
        answer(self.lease.lease_revoke(Request::new(request))).await
    }

    async fn lease_renew(&self, lease: i64) -> Result<pb::LeaseKeepAliveResponse> {
        let header = self.server.header(self.server.reader.revision());
        let ttls = uncovered(self.server.renew_leases(vec![lease])).await?;
        Ok(pb::LeaseKeepAliveResponse {
            header: Some(header),
            id: lease,
            ttl: ttls.first().copied().unwrap_or_default(),
        })
    }

    async fn lease_time_to_live(
        &self,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse> {
        answer(self.lease.lease_time_to_live(Request::new(request))).await
    }

    async fn leases(&self) -> Result<pb::LeaseLeasesResponse> {
        let request = Request::new(pb::LeaseLeasesRequest {});
        answer(self.lease.lease_leases(request)).await
    }

    async fn watch(&self, request: pb::WatchCreateRequest) -> Result<Watcher> {
        let (requests, received) = mpsc::channel(REQUESTS_MAX);
        let create = pb::WatchCreateRequest {
            fragment: false,
            ..request
        };
        // The creation is taken first, by a stream of its own, so that progress cannot be asked of a watch that is not there yet.
        let first = stream::iter([Ok(message(RequestUnion::CreateRequest(create)))]);
        let received = ReceiverStream::new(received).map(Ok);
        let mut driver = Driver::new(self.server.clone(), first.chain(received).boxed());
        let created = uncovered(next(&mut driver)).await?;
        if created.canceled {
            return Err(end_of(&created));
        }
        let (sender, watcher) = watch::channel(created.header.unwrap_or_default());
        self.watches.feed(
            &self.server,
            Feed {
                driver,
                requests,
                sender,
            },
        );
        Ok(watcher)
    }
}

impl Watches {
    fn feed(self: &Arc<Self>, server: &Server, feed: Feed) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let owner = Arc::downgrade(self);
        // Held until the task is entered, so that it cannot leave before.
        let mut tasks = self.tasks.lock();
        let task = server.runtime.tasks.spawn(
            "embedded-watch",
            Box::pin(async move {
                feed.run().await;
                if let Some(owner) = owner.upgrade() {
                    owner.tasks.lock().remove(&number);
                }
            }),
        );
        tasks.insert(number, task);
    }
}

/// What carries the responses of one watch to its watcher.
struct Feed {
    driver: Driver,
    requests: mpsc::Sender<pb::WatchRequest>,
    sender: WatchSender,
}

impl Feed {
    async fn run(mut self) {
        loop {
            let response = tokio::select! {
                biased;
                () = self.sender.closed() => return,
                () = self.sender.progress_requested() => {
                    // A full queue already holds such a request.
                    let progress = message(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
                    let _full = self.requests.try_send(progress);
                    continue;
                }
                response = next(&mut self.driver) => response,
            };
            let response = response.and_then(|response| {
                if response.canceled {
                    return Err(end_of(&response));
                }
                Ok(WatchResponse {
                    header: response.header.unwrap_or_default(),
                    events: response.events,
                })
            });
            let ended = response.is_err();
            if self.sender.send(response).await.is_err() || ended {
                return;
            }
        }
    }
}

async fn next(driver: &mut Driver) -> Result<pb::WatchResponse> {
    match driver.next().await {
        Some(response) => response.map_err(Error::from),
        None => Err(Error::Closed),
    }
}

fn message(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(union),
    }
}

/// Why the store ended a watch.
fn end_of(response: &pb::WatchResponse) -> Error {
    if response.compact_revision > 0 {
        return Error::Compacted {
            revision: response.compact_revision,
        };
    }
    if response.cancel_reason.is_empty() {
        return Error::Answer {
            code: Code::Cancelled,
            text: "watch canceled".to_owned(),
        };
    }
    Error::from_cancel_reason(&response.cancel_reason)
}
