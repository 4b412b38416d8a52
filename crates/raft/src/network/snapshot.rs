//! Sending a snapshot.
//!
//! The frames are those of [`Dump`], each with its checksum, the first one with the head of the snapshot in it, and an empty one at
//! the end. The receiver answers each frame, and the last one with its vote.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use catena_runtime::{Duplex, NetError};
use catena_store::{Snapshot as Frozen, backend::Dump};
use openraft::{
    errors::{NetworkError, ReplicationClosed, StreamingError},
    raft::SnapshotResponse,
    storage::Snapshot,
};

use super::Link;
use crate::{
    blocking::{blocking, timeout},
    machine::SnapshotData,
    method,
    types::{CommittedLeaderId, Peer, SnapshotMeta, Types, Vote},
    wire::{self, SnapshotAnswer, SnapshotHead},
};

/// Frames, of at most 1 MiB, that are on the way and not answered: the receiver writes them as they come.
const UNANSWERED_FRAMES_MAX: usize = 4;

/// Sends a snapshot until it is installed, the peer is silent for `idle`, or `cancel` completes.
pub(super) async fn send<C: Types>(
    link: &Link,
    vote: Vote,
    snapshot: Snapshot<CommittedLeaderId, u64, Peer, SnapshotData>,
    cancel: impl Future<Output = ReplicationClosed> + Send,
    idle: Duration,
) -> Result<SnapshotResponse<C>, StreamingError<C>> {
    let SnapshotData::Local(frozen) = snapshot.snapshot else {
        return Err(NetworkError::from_string("a received snapshot is not sent on").into());
    };
    let sent = send_frames(link, &vote, &snapshot.meta, frozen, idle);
    futures_util::pin_mut!(sent, cancel);
    tokio::select! {
        biased;
        closed = cancel => Err(closed.into()),
        sent = sent => match sent {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(error) => Err(link.links.rpc_error(&error).into()),
        },
    }
}

async fn send_frames(
    link: &Link,
    vote: &Vote,
    meta: &SnapshotMeta,
    frozen: Arc<Frozen>,
    idle: Duration,
) -> Result<Vote, NetError> {
    let head = wire::encode_plain(&SnapshotHead::new(vote, meta));
    let mut duplex = link.links.network.stream(link.to, method::SNAPSHOT).await?;
    let mut dump = Dump::new(frozen, head);
    let mut past = link.links.pace.snapshot();
    let mut unanswered = 0;
    loop {
        let (frame, rest) = blocking(&link.links.runtime, "send snapshot", move || {
            (dump.next_frame(), dump)
        })
        .await;
        dump = rest;
        let frame = frame.map_err(|fatal| NetError::Lost(format!("cannot read: {fatal}")))?;
        let is_last = frame.is_none();
        let frame = frame.unwrap_or_default();
        while unanswered >= UNANSWERED_FRAMES_MAX {
            receive(link, &mut duplex, idle).await?;
            unanswered -= 1;
        }
        past.wait().await;
        past.goes(frame.len());
        let clock = link.links.runtime.clock.as_ref();
        let sent = timeout(clock, idle, duplex.tx.send(frame)).await;
        match sent {
            Some(Ok(())) => unanswered += 1,
            Some(Err(_)) => return Err(last_word(&mut duplex).await),
            None => return Err(NetError::Timeout),
        }
        if is_last {
            break;
        }
    }
    loop {
        match receive(link, &mut duplex, idle).await? {
            SnapshotAnswer::Received => {}
            SnapshotAnswer::Installed(vote) => {
                let vote = <Vote as wire::Small>::of(vote);
                return vote.map_err(|error| NetError::Lost(format!("answer {error}")));
            }
        }
    }
}

async fn receive(
    link: &Link,
    duplex: &mut Duplex,
    idle: Duration,
) -> Result<SnapshotAnswer, NetError> {
    let answer = timeout(link.links.runtime.clock.as_ref(), idle, duplex.rx.recv())
        .await
        .ok_or(NetError::Timeout)?;
    let answer: Bytes = answer.ok_or_else(|| NetError::Lost("stream ended".to_owned()))??;
    wire::decode_plain(&answer).map_err(|error| NetError::Lost(format!("answer {error}")))
}

/// Why the peer closed the stream.
async fn last_word(duplex: &mut Duplex) -> NetError {
    while let Some(answer) = duplex.rx.recv().await {
        if let Err(error) = answer {
            return error;
        }
    }
    NetError::Lost("stream is closed".to_owned())
}
