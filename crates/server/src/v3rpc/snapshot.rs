//! The stream of `Maintenance.Snapshot`: a file that etcd's own tools read, then its SHA-256.
//!
//! The file is never on our disk: it is made as the client takes it, piece by piece, from a frozen picture of the state.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_store::{
    Fatal, Snapshot,
    backend::{Bucket, View, Visit},
    bbolt::{self, Source, Writer},
};
use futures_util::{StreamExt, stream, stream::BoxStream};
use tonic::Status;

use crate::server::{CLUSTER_VERSION, Server};

/// Bytes of the file in one message, as in etcd.
const BLOB_BYTES: usize = 32 << 10;

/// Bytes of the file that are made at a time, away from the serving threads.
const CHUNK_BYTES: usize = 1 << 20;

/// Under this key etcd's tools find the version of what is in the file.
const STORAGE_VERSION_KEY: &[u8] = b"storageVersion";

/// The state as it stands in the file: with the version of storage, which is one for all members that this program runs.
struct Stamped(Snapshot);

impl Source for Stamped {
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        let mut due = bucket == Bucket::Meta && from <= STORAGE_VERSION_KEY;
        let mut stopped = false;
        self.0.scan(bucket, from, None, &mut |key, value| {
            if due && key >= STORAGE_VERSION_KEY {
                due = false;
                stopped = visit(STORAGE_VERSION_KEY, CLUSTER_VERSION.as_bytes()) == Visit::Stop;
            }
            if !stopped && key != STORAGE_VERSION_KEY {
                stopped = visit(key, value) == Visit::Stop;
            }
            if stopped {
                Visit::Stop
            } else {
                Visit::Continue
            }
        })?;
        if due && !stopped {
            // It is the last one: nothing is left to stop.
            let _last = visit(STORAGE_VERSION_KEY, CLUSTER_VERSION.as_bytes());
        }
        Ok(())
    }
}

/// Streams a consistent copy of everything applied at the moment of the call.
pub(super) async fn stream(
    server: Arc<Server>,
) -> Result<BoxStream<'static, Result<pb::SnapshotResponse, Status>>, Status> {
    let snapshot = Stamped(server.reader.snapshot());
    let planned = server
        .blocking("snapshot", move || Writer::plan(snapshot))
        .await?;
    let writer = planned.map_err(|error| failed(&error))?;
    let total_bytes = writer.file_bytes();
    tracing::info!(total_bytes, "sending database snapshot to client");
    let file = File {
        server,
        writer: Some(writer),
        blobs: Blobs::new(total_bytes),
    };
    let messages = stream::unfold(file, |mut file| async move {
        let message = file.next().await?;
        Some((message, file))
    });
    Ok(messages.boxed())
}

fn failed(error: &bbolt::Error) -> Status {
    tracing::warn!(%error, "failed to send database snapshot to client");
    Status::internal(error.to_string())
}

/// A file on its way.
struct File {
    server: Arc<Server>,
    /// Absent once the digest is on its way, or after a failure.
    writer: Option<Writer<Stamped>>,
    blobs: Blobs,
}

impl File {
    async fn next(&mut self) -> Option<Result<pb::SnapshotResponse, Status>> {
        loop {
            if let Some(message) = self.blobs.pop() {
                return Some(Ok(message));
            }
            let writer = self.writer.take()?;
            if let Err(error) = self.read(writer).await {
                return Some(Err(error));
            }
        }
    }

    async fn read(&mut self, mut writer: Writer<Stamped>) -> Result<(), Status> {
        let make = move || {
            let chunk = writer.next_chunk(CHUNK_BYTES);
            (chunk, writer)
        };
        let (chunk, writer) = self.server.blocking("snapshot", make).await?;
        match chunk.map_err(|error| failed(&error))? {
            Some(chunk) => {
                self.blobs.push(chunk);
                self.writer = Some(writer);
            }
            None => {
                self.blobs.push_digest(&writer.digest());
                tracing::info!("sent database snapshot to client");
            }
        }
        Ok(())
    }
}

/// What is cut into messages.
struct Blobs {
    due: VecDeque<pb::SnapshotResponse>,
    remaining: u64,
}

impl Blobs {
    fn new(total: u64) -> Self {
        Self {
            due: VecDeque::new(),
            remaining: total,
        }
    }

    fn push(&mut self, mut chunk: Bytes) {
        while !chunk.is_empty() {
            let blob = chunk.split_to(chunk.len().min(BLOB_BYTES));
            self.remaining = self.remaining.saturating_sub(blob.len() as u64);
            self.push_blob(blob);
        }
    }

    fn push_digest(&mut self, digest: &[u8]) {
        self.push_blob(Bytes::copy_from_slice(digest));
    }

    fn push_blob(&mut self, blob: Bytes) {
        self.due.push_back(pb::SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining,
            blob,
            version: CLUSTER_VERSION.to_owned(),
        });
    }

    fn pop(&mut self) -> Option<pb::SnapshotResponse> {
        self.due.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_count_down_to_the_digest() {
        let mut blobs = Blobs::new(70_000);
        blobs.push(Bytes::from(vec![1; 70_000]));
        blobs.push_digest(&[2; 32]);
        let mut sizes = Vec::new();
        while let Some(message) = blobs.pop() {
            sizes.push((message.blob.len(), message.remaining_bytes));
        }
        assert_eq!(
            sizes,
            [(32_768, 37_232), (32_768, 4464), (4464, 0), (32, 0)]
        );
    }
}
