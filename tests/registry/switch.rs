//! A store behind a switch: cut, it is a store that cannot be reached; joined, the same one again or another.

use std::sync::Arc;

use async_trait::async_trait;
use catena_client::{
    Error, Kv, Result, Watcher,
    pb::*,
    watch::{self, WatchSender},
};
use tokio::sync::watch as state;

/// The store, while the switch is closed.
pub(crate) struct Switch {
    inner: state::Sender<Option<Arc<dyn Kv>>>,
}

impl Switch {
    pub(crate) fn new(kv: Arc<dyn Kv>) -> Arc<Self> {
        Arc::new(Self {
            inner: state::channel(Some(kv)).0,
        })
    }

    /// Nothing reaches the store any more; what is under way is lost, and watches end.
    pub(crate) fn cut(&self) {
        self.inner.send_replace(None);
    }

    /// Leads to this store from now on.
    pub(crate) fn join(&self, kv: Arc<dyn Kv>) {
        self.inner.send_replace(Some(kv));
    }

    async fn call<T, F>(&self, call: impl FnOnce(Arc<dyn Kv>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut switch = self.inner.subscribe();
        let Some(kv) = switch.borrow_and_update().clone() else {
            return Err(Error::Unreachable("cut".to_owned()));
        };
        tokio::select! {
            answer = call(kv) => answer,
            _ = switch.changed() => Err(Error::Lost("cut".to_owned())),
        }
    }
}

async fn carry(
    mut from: Watcher,
    to: WatchSender,
    mut switch: state::Receiver<Option<Arc<dyn Kv>>>,
) {
    loop {
        let response = tokio::select! {
            response = from.next() => response,
            _ = switch.changed() => Err(Error::Lost("cut".to_owned())),
            () = to.closed() => return,
            () = to.progress_requested() => {
                from.request_progress();
                continue;
            }
        };
        let ended = response.is_err();
        if to.send(response).await.is_err() || ended {
            return;
        }
    }
}

#[async_trait]
impl Kv for Switch {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.call(|kv| async move { kv.range(request).await }).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse> {
        self.call(|kv| async move { kv.put(request).await }).await
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        self.call(|kv| async move { kv.delete_range(request).await })
            .await
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        self.call(|kv| async move { kv.txn(request).await }).await
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse> {
        self.call(|kv| async move { kv.compact(request).await })
            .await
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        self.call(|kv| async move { kv.lease_grant(request).await })
            .await
    }

    async fn lease_revoke(&self, lease: i64) -> Result<LeaseRevokeResponse> {
        self.call(|kv| async move { kv.lease_revoke(lease).await })
            .await
    }

    async fn lease_renew(&self, lease: i64) -> Result<LeaseKeepAliveResponse> {
        self.call(|kv| async move { kv.lease_renew(lease).await })
            .await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.call(|kv| async move { kv.lease_time_to_live(request).await })
            .await
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        self.call(|kv| async move { kv.leases().await }).await
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Watcher> {
        let switch = self.inner.subscribe();
        let from = self
            .call(|kv| async move { kv.watch(request).await })
            .await?;
        let (sender, watcher) = watch::channel(*from.created());
        tokio::spawn(carry(from, sender, switch));
        Ok(watcher)
    }
}
