//! The store as an interface.

use async_trait::async_trait;

use crate::{
    Result, Watcher,
    pb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
        LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest,
    },
};

/// A key-value store with etcd's semantics, reached over a network or in the same process.
///
/// - *Order*: calls that overlap take effect in any order. A read that is not serializable sees every write that was answered before
///   the read began, whoever wrote it.
/// - *Durability*: a write that was answered is on the disks of a majority.
/// - *Failure*: every error of a write says whether it may have happened ([`Error::is_unknown_outcome`](crate::Error)). No
///   implementation repeats a write of unknown outcome; reads and [`lease_renew`](Kv::lease_renew) may be repeated.
/// - *Time*: every call ends within a time that the implementation bounds. Dropping a call's future gives the call up; a write
///   given up is one of unknown outcome.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// Reads a key or an interval of keys.
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse>;

    /// Writes a key.
    async fn put(&self, request: PutRequest) -> Result<PutResponse>;

    /// Deletes a key or an interval of keys.
    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse>;

    /// Compares, then runs one of two lists of operations, atomically and in one revision.
    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse>;

    /// Forgets all revisions before the given one, except what is still current at it.
    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse>;

    /// Grants a lease; id 0 lets the store choose. The store may raise the TTL: the answer's holds.
    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse>;

    /// Ends a lease and deletes the keys attached to it.
    async fn lease_revoke(&self, lease: i64) -> Result<LeaseRevokeResponse>;

    /// Sets a lease's remaining time back to its TTL, once. A lease that is gone answers with TTL 0 and no error.
    /// [`KeepAlive`](crate::KeepAlive) does it again and again.
    async fn lease_renew(&self, lease: i64) -> Result<LeaseKeepAliveResponse>;

    /// Remaining time and keys of a lease. A lease that is gone answers with TTL -1 and no error.
    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse>;

    /// All leases.
    async fn leases(&self) -> Result<LeaseLeasesResponse>;

    /// Watches a key or an interval. Completes when the watch stands: events from the requested revision on, or from the one after
    /// [`Watcher::created`]'s, will be received without gap or repetition, also beyond a loss of the connection.
    ///
    /// `watch_id` is without meaning here; `fragment` bounds the size of a message on the wire, what is received is whole.
    async fn watch(&self, request: WatchCreateRequest) -> Result<Watcher>;
}
