//! etcd's services over plain stubs.
//!
//! Deliberately absent: retries, failover, reconnecting streams. A test must see what the member answered.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use catena_api::etcd::{
    electionpb::election_client::ElectionClient,
    etcdserverpb::{
        self as pb, auth_client::AuthClient, cluster_client::ClusterClient, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient,
        watch_client::WatchClient,
    },
    health::health_client::HealthClient,
    lockpb::lock_client::LockClient,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// Longer than a member's own time limit for a request (7 s), so that the member's answer is seen and not ours.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Answers of any size are taken.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// A connection to one member; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client of the member at a client URL. Connects when first used, and again after a failure.
    pub fn new(endpoint: &str) -> Result<Self> {
        let endpoint =
            Endpoint::from_shared(endpoint.to_owned())?.connect_timeout(Duration::from_secs(2));
        Ok(Self {
            channel: endpoint.connect_lazy(),
        })
    }

    /// The service KV.
    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The service Watch.
    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The service Lease.
    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    /// The service Cluster.
    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    /// The service Maintenance.
    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    /// The service Auth.
    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    /// The service Lock.
    pub fn lock(&self) -> LockClient<Channel> {
        LockClient::new(self.channel.clone())
    }

    /// The service Election.
    pub fn election(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.channel.clone())
    }

    /// gRPC's health service.
    pub fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// Any range.
    pub async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        Ok(self.kv().range(within(request)).await?.into_inner())
    }

    /// One key, linearizable.
    pub async fn get(&self, key: impl Into<Bytes>) -> Result<pb::RangeResponse, Status> {
        self.range(pb::RangeRequest {
            key: key.into(),
            ..Default::default()
        })
        .await
    }

    /// Every key that begins with `prefix`.
    pub async fn get_prefix(&self, prefix: impl Into<Bytes>) -> Result<pb::RangeResponse, Status> {
        let key = prefix.into();
        let range_end = prefix_end(&key);
        self.range(pb::RangeRequest {
            key,
            range_end,
            ..Default::default()
        })
        .await
    }

    /// Any put.
    pub async fn put_with(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Status> {
        Ok(self.kv().put(within(request)).await?.into_inner())
    }

    /// A put without options.
    pub async fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Result<pb::PutResponse, Status> {
        let (key, value) = (key.into(), value.into());
        self.put_with(pb::PutRequest {
            key,
            value,
            ..Default::default()
        })
        .await
    }

    /// Any delete.
    pub async fn delete_with(
        &self,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Status> {
        Ok(self.kv().delete_range(within(request)).await?.into_inner())
    }

    /// Deletes one key.
    pub async fn delete(&self, key: impl Into<Bytes>) -> Result<pb::DeleteRangeResponse, Status> {
        self.delete_with(pb::DeleteRangeRequest {
            key: key.into(),
            ..Default::default()
        })
        .await
    }

    /// Any transaction.
    pub async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Status> {
        Ok(self.kv().txn(within(request)).await?.into_inner())
    }

    /// Compacts and waits until the work is done.
    pub async fn compact(&self, revision: i64) -> Result<pb::CompactionResponse, Status> {
        let request = pb::CompactionRequest {
            revision,
            physical: true,
        };
        Ok(self.kv().compact(within(request)).await?.into_inner())
    }

    /// The present revision, by a linearizable read of a key that never exists.
    pub async fn revision(&self) -> Result<i64, Status> {
        let response = self.get("\0nothing").await?;
        Ok(response.header.unwrap_or_default().revision)
    }

    /// Grants a lease; id 0 leaves the choice to the member.
    pub async fn grant(&self, ttl: i64, id: i64) -> Result<pb::LeaseGrantResponse, Status> {
        let request = pb::LeaseGrantRequest { ttl, id };
        Ok(self
            .lease()
            .lease_grant(within(request))
            .await?
            .into_inner())
    }

    /// Revokes a lease.
    pub async fn revoke(&self, id: i64) -> Result<pb::LeaseRevokeResponse, Status> {
        Ok(self
            .lease()
            .lease_revoke(within(pb::LeaseRevokeRequest { id }))
            .await?
            .into_inner())
    }

    /// The ids of all leases.
    pub async fn leases(&self) -> Result<Vec<i64>, Status> {
        let request = within(pb::LeaseLeasesRequest {});
        let response = self.lease().lease_leases(request).await?.into_inner();
        Ok(response.leases.iter().map(|lease| lease.id).collect())
    }

    /// Time left of a lease, with its keys.
    pub async fn time_to_live(&self, id: i64) -> Result<pb::LeaseTimeToLiveResponse, Status> {
        let request = pb::LeaseTimeToLiveRequest { id, keys: true };
        Ok(self
            .lease()
            .lease_time_to_live(within(request))
            .await?
            .into_inner())
    }

    /// One renewal on a stream of its own; `None` if the stream ended without an answer.
    pub async fn keep_alive(&self, id: i64) -> Result<Option<pb::LeaseKeepAliveResponse>, Status> {
        let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
        self.lease()
            .lease_keep_alive(within(requests))
            .await?
            .into_inner()
            .message()
            .await
    }

    /// The member's status.
    pub async fn status(&self) -> Result<pb::StatusResponse, Status> {
        Ok(self
            .maintenance()
            .status(within(pb::StatusRequest {}))
            .await?
            .into_inner())
    }

    /// HashKV at a revision, 0 for the present one.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Status> {
        let request = pb::HashKvRequest { revision };
        Ok(self
            .maintenance()
            .hash_kv(within(request))
            .await?
            .into_inner())
    }

    /// The members, linearizable.
    pub async fn members(&self) -> Result<Vec<pb::Member>, Status> {
        let request = pb::MemberListRequest { linearizable: true };
        Ok(self
            .cluster()
            .member_list(within(request))
            .await?
            .into_inner()
            .members)
    }
}

fn within<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_WITHIN);
    request
}

/// The end of the interval of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff);
    kept.map_or(Bytes::from_static(b"\0"), |last| {
        let mut end = prefix[..=last].to_vec();
        end[last] += 1;
        end.into()
    })
}
