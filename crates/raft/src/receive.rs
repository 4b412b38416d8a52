//! What the other members ask of consensus, answered.
//!
//! Openraft trusts its callers and panics on requests that no correct member sends, so what comes from the network is checked here
//! first: whether it can be read, whether it comes from whom it names, whether a snapshot agrees with what is committed.

use bytes::Bytes;
use catena_runtime::{Duplex, NetError};
use catena_store::backend::Load;
use futures_util::{StreamExt, pin_mut, stream};
use openraft::{raft::AppendEntriesRequest, storage::Snapshot};

use crate::{
    blocking::{blocking, timeout},
    consensus::Core,
    heard::Heard,
    machine::SnapshotData,
    method,
    types::{SnapshotMeta, Types, Vote},
    wire::{
        self, AppendAnswer, BadBytes, Small, SnapshotAnswer, SnapshotHead, TransferAnswer,
        TransferRequest, VoteAnswer, VoteRequest,
    },
};

fn refused(error: &BadBytes) -> NetError {
    NetError::Refused(format!("request {error}"))
}

fn stopped(error: impl std::fmt::Display) -> NetError {
    NetError::Lost(format!("consensus has stopped: {error}"))
}

fn check_sender(from: u64, named: u64) -> Result<(), BadBytes> {
    match from == named {
        true => Ok(()),
        false => Err(BadBytes::Nonsense("is in another member's name")),
    }
}

/// Answers one call.
pub(crate) async fn answer<C: Types>(
    core: &Core<C>,
    from: u64,
    method: u32,
    body: Bytes,
) -> Result<Bytes, NetError> {
    match method {
        method::VOTE | method::PRE_VOTE => {
            let request = wire::decode_plain::<VoteRequest>(&body)
                .and_then(VoteRequest::into_openraft::<C>)
                .map_err(|error| refused(&error))?;
            check_sender(from, request.vote.leader_id.voted_for)
                .map_err(|error| refused(&error))?;
            let answer = match method {
                method::VOTE => core.raft.vote(request).await,
                _ => core.raft.pre_vote(request).await,
            };
            Ok(wire::encode_plain(&VoteAnswer::new(
                &answer.map_err(stopped)?,
            )))
        }
        method::TRANSFER => {
            let request = wire::decode_plain::<TransferRequest>(&body)
                .and_then(TransferRequest::into_openraft::<C>)
                .map_err(|error| refused(&error))?;
            check_sender(from, request.from_leader().leader_id.voted_for)
                .map_err(|error| refused(&error))?;
            let answer = core.raft.handle_transfer_leader(request).await;
            Ok(wire::encode_plain(&TransferAnswer::new::<C>(
                &answer.map_err(stopped)?,
            )))
        }
        method::HEARTBEAT => {
            let heard = &core.machine.heard;
            let request =
                append_request::<C>(heard, from, body).map_err(|error| refused(&error))?;
            let (prev, last) = (request.prev_log_id, last_log_id(&request));
            let answer = core.raft.append_entries(request).await.map_err(stopped)?;
            let result = answer.into_stream_result(prev, last);
            Ok(wire::encode_plain(&AppendAnswer::new(&result)))
        }
        other => Err(NetError::Refused(format!("unknown method {other}"))),
    }
}

fn last_log_id<C: Types>(request: &AppendEntriesRequest<C>) -> Option<crate::types::LogId> {
    let last = request.entries.last().map(|entry| entry.log_id);
    last.or(request.prev_log_id)
}

/// Reads a request to append, and notes that the leader was heard.
fn append_request<C: Types>(
    heard: &Heard,
    from: u64,
    body: Bytes,
) -> Result<AppendEntriesRequest<C>, BadBytes> {
    let request = wire::decode_append_request::<C>(body)?;
    check_sender(from, request.vote.leader_id.voted_for)?;
    heard.now();
    Ok(request)
}

/// Receives entries until either side closes the stream, something in it cannot be read, or the member stops.
pub(crate) async fn entries<C: Types>(core: Core<C>, from: u64, duplex: Duplex) {
    let Duplex { tx, rx } = duplex;
    let (stop, heard) = (core.machine.stop.clone(), core.machine.heard.clone());
    // Openraft polls this from a task of its own, which may outlive us: it holds nothing of the store.
    let requests = stream::unfold((rx, heard), move |(mut rx, heard)| async move {
        let frame = rx.recv().await?.ok()?;
        match append_request::<C>(&heard, from, frame) {
            Ok(request) => Some((request, (rx, heard))),
            Err(error) => {
                tracing::warn!(from = format_args!("{from:x}"), %error, "malformed entries from peer");
                None
            }
        }
    });
    let answers = core.raft.stream_append(requests);
    drop(core);
    pin_mut!(answers);
    let stopped = stop.stopped();
    pin_mut!(stopped);
    loop {
        let answer = tokio::select! {
            biased;
            answer = answers.next() => answer,
            _ = &mut stopped => return,
        };
        let Some(Ok(answer)) = answer else {
            return;
        };
        let answer = wire::encode_plain(&AppendAnswer::new(&answer));
        if tx.send(answer).await.is_err() {
            return;
        }
    }
}

/// Receives a snapshot and installs it.
pub(crate) async fn snapshot<C: Types>(core: Core<C>, from: u64, duplex: Duplex) {
    let from_hex = format!("{from:x}");
    tracing::info!(from = from_hex, "receiving snapshot");
    let stop = core.machine.stop.clone();
    let received = tokio::select! {
        biased;
        received = receive(&core, from, duplex) => received,
        reason = stop.stopped() => Err(reason.to_string()),
    };
    match received {
        Ok(meta) => tracing::info!(from = from_hex, snapshot = %meta, "installed snapshot"),
        Err(what) => tracing::warn!(from = from_hex, what, "snapshot not installed"),
    }
}

async fn receive<C: Types>(
    core: &Core<C>,
    from: u64,
    mut duplex: Duplex,
) -> Result<SnapshotMeta, String> {
    let receiving = core.machine.receiving.clone();
    let Ok(_only_one) = receiving.try_acquire_owned() else {
        return Err("another one is being received".to_owned());
    };
    let staged = core
        .machine
        .stage()
        .await
        .map_err(|error| error.to_string())?;
    let mut load = Load::new(staged.backend().clone());
    let mut head: Option<(Vote, SnapshotMeta)> = None;
    loop {
        let frame = next_frame(core, &mut duplex).await?;
        if frame.is_empty() {
            break;
        }
        let (pushed, loading) = blocking(&core.machine.runtime, "load snapshot", move || {
            (load.push(&frame), load)
        })
        .await;
        load = loading;
        pushed.map_err(|error| error.to_string())?;
        if let (None, Some(meta)) = (&head, load.meta()) {
            head = Some(check_head(core, from, meta).map_err(|error| error.to_string())?);
        }
        send(&duplex, &SnapshotAnswer::Received).await?;
    }
    load.finish().map_err(|error| error.to_string())?;
    let (vote, meta) = head.ok_or("stream has no head")?;
    let ready = core.machine.prepare(staged).await;
    let snapshot = Snapshot {
        meta: meta.clone(),
        snapshot: SnapshotData::Received(ready.map_err(|error| error.to_string())?),
    };
    let installed = core.raft.install_full_snapshot(vote, snapshot).await;
    let vote = installed.map_err(|fatal| fatal.to_string())?.vote;
    send(&duplex, &SnapshotAnswer::Installed(vote.form())).await?;
    Ok(meta)
}

async fn next_frame<C: Types>(core: &Core<C>, duplex: &mut Duplex) -> Result<Bytes, String> {
    let clock = core.machine.runtime.clock.as_ref();
    match timeout(clock, core.idle, duplex.rx.recv()).await {
        Some(Some(Ok(frame))) => Ok(frame),
        Some(Some(Err(error))) => Err(error.to_string()),
        Some(None) => Err("stream ended".to_owned()),
        None => Err("sender is silent".to_owned()),
    }
}

async fn send(duplex: &Duplex, answer: &SnapshotAnswer) -> Result<(), String> {
    let sent = duplex.tx.send(wire::encode_plain(answer)).await;
    sent.map_err(|_| "sender is gone".to_owned())
}

/// Reads the head and makes sure that openraft will not panic on it.
fn check_head<C: Types>(
    core: &Core<C>,
    from: u64,
    head: &[u8],
) -> Result<(Vote, SnapshotMeta), BadBytes> {
    let (vote, meta) = wire::decode_plain::<SnapshotHead>(head)?.into_parts()?;
    check_sender(from, vote.leader_id.voted_for)?;
    if !vote.committed {
        return Err(BadBytes::Nonsense("snapshot comes from no leader"));
    }
    let Some(last) = meta.last_log_id else {
        return Err(BadBytes::Nonsense("snapshot is of nothing"));
    };
    if last.leader_id.term > vote.leader_id.term {
        return Err(BadBytes::Nonsense("snapshot is newer than its leader"));
    }
    let committed = core.committed();
    if committed.is_some_and(|committed| last > committed && last.index <= committed.index) {
        return Err(BadBytes::Nonsense("snapshot contradicts what is committed"));
    }
    Ok((vote, meta))
}
