//! Service `v3lockpb.Lock`: the recipe of `client::mutex` on this member's own store.
//!
//! In etcd these handlers are clients of the store, and the errors they pass on have lost their code on the way: all arrive as
//! `Unknown`, with the text intact. Clients expect them so.

use std::sync::Arc;

use catena_api::{
    errors,
    etcd::lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse, lock_server::Lock},
};
use catena_client::{Error, Kv, mutex};
use tonic::{Request, Response, Status};

use crate::server::Server;

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct LockService {
    pub(crate) server: Arc<Server>,
    pub(crate) kv: Arc<dyn Kv>,
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let LockRequest { name, lease } = request.into_inner();
        let locked = mutex::lock(&self.kv, &name, lease);
        let response = while_serving(&self.server, locked).await?;
        Ok(Response::new(response))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let key = request.into_inner().key;
        let header = mutex::unlock(self.kv.as_ref(), key)
            .await
            .map_err(passed_on)?;
        Ok(Response::new(UnlockResponse {
            header: Some(header),
        }))
    }
}

/// An error of the inner client as it arrives.
pub(super) fn passed_on(error: Error) -> Status {
    Status::unknown(error.to_string())
}

/// Waits for something that may take for ever, but not beyond the member's end. When it is dropped, it leaves the line.
pub(super) async fn while_serving<T>(
    server: &Server,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Status> {
    tokio::select! {
        done = work => done.map_err(passed_on),
        () = server.stopping.cancelled() => Err(errors::STOPPED.into()),
    }
}
