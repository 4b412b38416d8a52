//! Service `etcdserverpb.KV`.

use std::sync::Arc;

use catena_api::{
    errors,
    etcd::etcdserverpb::{self as pb, kv_server::Kv},
};
use catena_runtime::BoxFuture;
use catena_store::{Request as Command, Response as Answer, check};
use futures_util::{StreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status};

use crate::{error::status, server::Server, write::mismatched};

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct KvService(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let Self(server) = self;
        let request = request.into_inner();
        if !request.serializable && server.is_learner() {
            return Err(errors::NOT_SUPPORTED_FOR_LEARNER.into());
        }
        check::range(&request).map_err(status)?;
        if !request.serializable {
            server.linearize().await?;
        }
        // Whatever its limit, an interval is walked to its end for the count: away from the thread that serves.
        let (read, _room) = if request.range_end.is_empty() {
            (server.reader.range(&request), None)
        } else {
            let room = server.ranges.acquire().await.map_err(|_| errors::STOPPED)?;
            let reader = server.reader.clone();
            let read = move || reader.range(&request);
            (server.blocking("range", read).await?, Some(room))
        };
        let (mut response, revision) = read.map_err(|error| server.read_failed(error))?;
        response.header = Some(server.header(revision));
        server.metrics.mvcc.ranges.inc();
        Ok(Response::new(response))
    }

    type RangeStreamStream = BoxStream<'static, Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let Self(server) = self;
        let request = request.into_inner();
        check::range_stream(&request).map_err(status)?;
        if !request.serializable {
            server.linearize().await?;
        }
        let chunk_bytes = server.config.max_request_bytes;
        let chunks = server.reader.range_stream(&request, chunk_bytes);
        let chunks = chunks.map_err(|error| server.read_failed(error))?;
        let stream = stream::unfold((server.clone(), chunks), next_chunk);
        Ok(Response::new(stream.boxed()))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        match self.0.write(Command::Put(request.into_inner())).await? {
            (Answer::Put(mut response), header) => {
                response.header = Some(header);
                Ok(Response::new(response))
            }
            _ => Err(mismatched()),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        match self
            .0
            .write(Command::DeleteRange(request.into_inner()))
            .await?
        {
            (Answer::DeleteRange(mut response), header) => {
                response.header = Some(header);
                Ok(Response::new(response))
            }
            _ => Err(mismatched()),
        }
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        if check::is_read_only(&request) {
            return self.0.read_txn(request).await;
        }
        match self.0.write(Command::Txn(request)).await? {
            (Answer::Txn(mut response), header) => {
                response.header = Some(header);
                Ok(Response::new(response))
            }
            _ => Err(mismatched()),
        }
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let request = request.into_inner();
        match self.0.write(Command::Compact(request)).await? {
            (Answer::Compact(mut response), header) => {
                if request.physical {
                    self.0.reader.compaction_done(request.revision).await;
                }
                response.header = Some(header);
                Ok(Response::new(response))
            }
            _ => Err(mismatched()),
        }
    }
}

impl Server {
    /// A transaction of nothing but reads: not through the log.
    async fn read_txn(&self, request: pb::TxnRequest) -> Result<Response<pb::TxnResponse>, Status> {
        check::txn(&request, self.config.max_txn_ops).map_err(status)?;
        if !check::is_serializable(&request) {
            self.linearize().await?;
        }
        let _room = self.ranges.acquire().await.map_err(|_| errors::STOPPED)?;
        let reader = self.reader.clone();
        let read = self.blocking("txn", move || reader.txn(&request)).await?;
        let (mut response, revision) = read.map_err(|error| self.read_failed(error))?;
        response.header = Some(self.header(revision));
        self.metrics.mvcc.count_txn(&response);
        Ok(Response::new(response))
    }
}

type Chunks = (Arc<Server>, catena_store::RangeStream);

/// Reads one chunk, away from the serving threads, when the client has taken the one before.
fn next_chunk(
    (server, mut chunks): Chunks,
) -> BoxFuture<'static, Option<(Result<pb::RangeStreamResponse, Status>, Chunks)>> {
    Box::pin(async move {
        let read = move || {
            let chunk = chunks.next();
            (chunk, chunks)
        };
        let room = server.ranges.acquire().await.ok()?;
        let (chunk, chunks) = server.blocking("range-stream", read).await.ok()?;
        drop(room);
        let response = chunk?
            .map_err(|error| server.read_failed(error))
            .map(|mut range| {
                if let Some(pinned) = range.header {
                    range.header = Some(server.header(pinned.revision));
                }
                pb::RangeStreamResponse {
                    range_response: Some(range),
                }
            });
        Some((response, (server, chunks)))
    })
}
