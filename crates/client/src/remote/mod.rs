//! The store behind a network: [`Kv`] over etcd's gRPC API.
//!
//! All calls go to one member at a time, over one HTTP/2 connection, and move to the next one when it fails ([`endpoints`]). What may
//! be repeated, and when, is decided in one place ([`call`]). Each watch is a stream of its own ([`watch`]): a slow one then
//! holds up neither calls nor other watches, and needs no buffer for being slow.

mod call;
mod endpoints;
mod watch;

use std::{future::Future, time::Duration};

use async_trait::async_trait;
use catena_api::etcd::etcdserverpb::{kv_client::KvClient, lease_client::LeaseClient};
use futures_util::stream;
use tonic::{Response, Status, transport::Channel};

use self::{call::Repeat, endpoints::Endpoints};
use crate::{
    Kv, Result, Watcher,
    pb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
        LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
        RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, request_op::Request,
    },
};

/// The largest message that is accepted: etcd's clients take what they asked for, whatever its size.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// How a remote store is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A call ends within this time, its repetitions included. The default, 10 seconds, is longer than the 7 after which a member
    /// itself gives a request up, so that its own, more exact error arrives.
    pub request_timeout: Duration,
    /// A connection stands within this time or counts as failed: 2 seconds.
    pub connect_timeout: Duration,
    /// A connection without traffic is tried after this time: 10 seconds. Members close one that is tried more often than each 5.
    pub ping_interval: Duration,
    /// A connection is dead when a ping goes unanswered for this time: 5 seconds.
    pub ping_timeout: Duration,
    /// Whether watches and renewals of leases leave a member that has lost its leader (metadata `hasleader`): true. Reads and writes
    /// wait there for the next leader in any case.
    pub require_leader: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(2),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(5),
            require_leader: true,
        }
    }
}

/// A store that is reached over gRPC. Cloning is cheap and shares the connections.
#[derive(Clone, Debug)]
pub struct Remote {
    endpoints: Endpoints,
    options: Options,
}

impl Remote {
    /// Takes `http://host:port` or `host:port` of any number of members of one cluster. Connects when the first call is made, from
    /// then on whenever it is needed; which member is asked first is left to chance. Must be called within a tokio runtime.
    pub fn connect<S: AsRef<str>>(endpoints: &[S], options: Options) -> Result<Self> {
        Ok(Self {
            endpoints: Endpoints::new(endpoints, options)?,
            options,
        })
    }

    async fn call<Q, A, F>(
        &self,
        repeat: Repeat,
        request: Q,
        send: impl Fn(Channel, tonic::Request<Q>) -> F + Send + Sync,
    ) -> Result<A>
    where
        Q: Clone + Send + Sync,
        F: Future<Output = Result<Response<A>, Status>> + Send,
    {
        call::call(
            &self.endpoints,
            self.options.request_timeout,
            repeat,
            request,
            send,
        )
        .await
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn lease(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

#[async_trait]
impl Kv for Remote {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.call(Repeat::Always, request, |channel, request| async move {
            kv(channel).range(request).await
        })
        .await
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse> {
        self.call(Repeat::IfUnsent, request, |channel, request| async move {
            kv(channel).put(request).await
        })
        .await
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        self.call(Repeat::IfUnsent, request, |channel, request| async move {
            kv(channel).delete_range(request).await
        })
        .await
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        let repeat = if only_reads(&request) {
            Repeat::Always
        } else {
            Repeat::IfUnsent
        };
        self.call(repeat, request, |channel, request| async move {
            kv(channel).txn(request).await
        })
        .await
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse> {
        self.call(Repeat::IfUnsent, request, |channel, request| async move {
            kv(channel).compact(request).await
        })
        .await
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.call(Repeat::IfUnsent, request, |channel, request| async move {
            lease(channel).lease_grant(request).await
        })
        .await
    }

    async fn lease_revoke(&self, id: i64) -> Result<LeaseRevokeResponse> {
        let request = LeaseRevokeRequest { id };
        self.call(Repeat::IfUnsent, request, |channel, request| async move {
            lease(channel).lease_revoke(request).await
        })
        .await
    }

    async fn lease_renew(&self, id: i64) -> Result<LeaseKeepAliveResponse> {
        let request = LeaseKeepAliveRequest { id };
        let require_leader = self.options.require_leader;
        self.call(Repeat::Always, request, |channel, request| {
            renew_once(channel, request, require_leader)
        })
        .await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.call(Repeat::Always, request, |channel, request| async move {
            lease(channel).lease_time_to_live(request).await
        })
        .await
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        let request = LeaseLeasesRequest {};
        self.call(Repeat::Always, request, |channel, request| async move {
            lease(channel).lease_leases(request).await
        })
        .await
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Watcher> {
        watch::open(self.endpoints.clone(), self.options, request).await
    }
}

/// The renewal is a stream in etcd's API; one request and one answer of it are all that is used, so that a renewal fails over like
/// any other call.
async fn renew_once(
    channel: Channel,
    request: tonic::Request<LeaseKeepAliveRequest>,
    require_leader: bool,
) -> Result<Response<LeaseKeepAliveResponse>, Status> {
    let mut request = request.map(|request| stream::iter([request]));
    if require_leader {
        call::mark_require_leader(&mut request);
    }
    let mut answers = lease(channel).lease_keep_alive(request).await?.into_inner();
    match answers.message().await? {
        Some(answer) => Ok(Response::new(answer)),
        None => Err(Status::unavailable("stream ended without an answer")),
    }
}

/// Whether a transaction can be repeated like a read.
fn only_reads(request: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| match &op.request {
        Some(Request::RequestRange(_)) | None => true,
        Some(Request::RequestTxn(txn)) => only_reads(txn),
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
    };
    request.success.iter().all(reads) && request.failure.iter().all(reads)
}
