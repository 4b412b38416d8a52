//! Service `etcdserverpb.Lease`.

use std::{collections::VecDeque, sync::Arc};

use catena_api::{
    errors,
    etcd::etcdserverpb::{self as pb, lease_server::Lease},
};
use catena_store::{Request as Command, Response as Answer};
use futures_util::{FutureExt, StreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{server::Server, write::mismatched};

/// Longest TTL that is granted, in seconds.
const TTL_SECS_MAX: i64 = 9_000_000_000;

/// Renewals of one stream that are answered together.
const RENEWALS_MAX: usize = 256;

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct LeaseService(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = self.0.complete(request.into_inner());
        match self.0.write(Command::LeaseGrant(request)).await? {
            (Answer::LeaseGrant(mut response), header) => {
                response.header = Some(header);
                Ok(Response::new(response))
            }
            _ => Err(mismatched()),
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let request = request.into_inner();
        match self.0.write(Command::LeaseRevoke(request)).await? {
            (Answer::LeaseRevoke(mut response), header) => {
                response.header = Some(header);
                Ok(Response::new(response))
            }
            _ => Err(mismatched()),
        }
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let renewals = Renewals {
            server: self.0.clone(),
            requests: request.into_inner(),
            answers: VecDeque::new(),
            ended: false,
        };
        let responses = stream::unfold(renewals, |mut renewals| async move {
            let response = renewals.next().await?;
            Some((response, renewals))
        });
        Ok(Response::new(responses.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let Self(server) = self;
        let request = request.into_inner();
        let remaining = server.lease_remaining_secs(request.id).await?;
        let mut response = pb::LeaseTimeToLiveResponse {
            id: request.id,
            ttl: -1,
            ..Default::default()
        };
        if let Some(remaining) = remaining {
            let lease = server.known_lease(request.id).await?;
            if let Some(lease) = lease {
                response.ttl = remaining;
                response.granted_ttl = lease.ttl_secs;
                if request.keys {
                    response.keys = lease.keys;
                }
            }
        }
        response.header = Some(server.header(server.reader.revision()));
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let Self(server) = self;
        let ids = server.lessor.by_deadline().unwrap_or_else(|| {
            let leases = server.reader.leases();
            leases.into_iter().map(|lease| lease.id).collect()
        });
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        let header = Some(server.header(server.reader.revision()));
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

impl Server {
    /// Chooses the id where the client leaves that to us, and raises a TTL that is shorter than an election may take.
    fn complete(&self, mut request: pb::LeaseGrantRequest) -> pb::LeaseGrantRequest {
        // Beyond the maximum the store refuses it, as it is.
        if request.ttl <= TTL_SECS_MAX {
            request.ttl = request.ttl.max(self.config.min_lease_ttl_secs());
        }
        while request.id == 0 {
            request.id = (self.runtime.random.next_u64() >> 1) as i64;
        }
        request
    }

    /// A lease that the leader knows: this member may have to catch up to know it too.
    async fn known_lease(&self, id: i64) -> Result<Option<catena_store::LeaseView>, Status> {
        if !self.reader.has_lease(id) {
            self.linearize().await?;
        }
        Ok(self.reader.lease(id))
    }
}

/// One stream of renewals; like a watch stream it is pulled by its connection.
struct Renewals {
    server: Arc<Server>,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
    answers: VecDeque<pb::LeaseKeepAliveResponse>,
    ended: bool,
}

impl Renewals {
    async fn next(&mut self) -> Option<Result<pb::LeaseKeepAliveResponse, Status>> {
        if self.answers.is_empty() && !self.ended {
            let stopping = self.server.stopping.clone();
            let renewed = tokio::select! {
                biased;
                () = stopping.cancelled() => Err(errors::STOPPED.into()),
                renewed = self.renew() => renewed,
            };
            if let Err(end) = renewed {
                self.ended = true;
                return Some(Err(end));
            }
        }
        self.answers.pop_front().map(Ok)
    }

    /// Answers all requests that are there, at least one; none if the client has sent its last.
    async fn renew(&mut self) -> Result<(), Status> {
        let mut ids = Vec::new();
        let first = self.requests.next().await;
        let mut request = first;
        while let Some(next) = request {
            ids.push(next?.id);
            if ids.len() == RENEWALS_MAX {
                break;
            }
            request = self.requests.next().now_or_never().flatten();
        }
        if ids.is_empty() {
            return Ok(());
        }
        // Read before the renewal, so that a revocation that comes in between is at a later revision.
        let header = self.server.header(self.server.reader.revision());
        let ttls = self.server.renew_leases(ids.clone()).await?;
        let answer = |(id, ttl)| pb::LeaseKeepAliveResponse {
            header: Some(header),
            id,
            ttl,
        };
        self.answers.extend(ids.into_iter().zip(ttls).map(answer));
        Ok(())
    }
}
