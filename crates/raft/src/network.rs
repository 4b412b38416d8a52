//! The way of consensus to the other members, over [`catena_runtime::Network`].
//!
//! Each link is one of three: entries go over a stream that stays open, heartbeats as calls beside it, a snapshot over a stream of
//! its own. Addresses are looked up by the network when a frame is sent, so a member that moves is found.

mod append;
mod snapshot;

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use catena_runtime::{Duplex, NetError, Network, Runtime};
use futures_util::Stream;
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
    storage::Snapshot,
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;

use crate::{
    Stop,
    behind::Behind,
    machine::SnapshotData,
    method,
    pace::Pace,
    stop::StopCell,
    transport::AddressBook,
    types::{CommittedLeaderId, Peer, Types, Vote},
    wire::{self, AppendAnswer},
};

/// Makes links; openraft does so for every vote, so it must cost nothing.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) network: Arc<dyn Network>,
    pub(crate) runtime: Runtime,
    pub(crate) addresses: AddressBook,
    pub(crate) stop: StopCell,
    /// Told when the others say that we were removed.
    pub(crate) removed: Arc<Notify>,
    /// Told of snapshots on their way.
    pub(crate) behind: Arc<Behind>,
    /// How fast snapshots are sent.
    pub(crate) pace: Arc<Pace>,
    /// A stream whose peer leaves a request unanswered for so long is given up; else the leader could never purge its log.
    pub(crate) stuck: Duration,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Entries,
    Heartbeats,
}

/// The way to one member.
pub(crate) struct Link {
    links: Links,
    to: u64,
    purpose: Purpose,
    /// The open stream of entries, if the last session left it clean.
    duplex: Option<Duplex>,
}

impl Links {
    fn link(&self, to: u64, peer: &Peer, purpose: Purpose) -> Link {
        self.addresses.learn(to, &peer.peer_urls);
        Link {
            links: self.clone(),
            to,
            purpose,
            duplex: None,
        }
    }

    /// A refusal that means that this member must stop, stops it.
    fn heed(&self, error: &NetError) {
        match error {
            NetError::Refused(text) if method::is_removed(text) => self.removed.notify_one(),
            NetError::Refused(text) if method::is_wiped(text) => {
                self.stop.set(Stop::Refused(text.clone()));
            }
            NetError::Refused(_)
            | NetError::Unreachable(_)
            | NetError::Lost(_)
            | NetError::Timeout => {}
        }
    }

    fn rpc_error<C: Types>(&self, error: &NetError) -> RPCError<C> {
        self.heed(error);
        match error {
            // Nothing was sent, or it would be in vain for long: openraft backs off at once.
            NetError::Unreachable(_) | NetError::Refused(_) => Unreachable::new(error).into(),
            NetError::Lost(_) | NetError::Timeout => NetworkError::new(error).into(),
        }
    }

    fn bad_answer<C: Types>(error: &wire::BadBytes) -> RPCError<C> {
        NetworkError::from_string(format!("answer {error}")).into()
    }

    async fn call(
        &self,
        to: u64,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, NetError> {
        self.network.call(to, method, body, timeout).await
    }
}

impl<C: Types> RaftNetworkFactory<C> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Link {
        self.link(target, peer, Purpose::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, peer: &Peer) -> Link {
        self.link(target, peer, Purpose::Heartbeats)
    }
}

impl Link {
    async fn ask<C: Types, A: DeserializeOwned>(
        &self,
        method: u32,
        request: &impl Serialize,
        timeout: Duration,
    ) -> Result<A, RPCError<C>> {
        let body = wire::encode_plain(request);
        let answer = self.links.call(self.to, method, body, timeout).await;
        let answer = answer.map_err(|error| self.links.rpc_error::<C>(&error))?;
        wire::decode_plain(&answer).map_err(|error| Links::bad_answer::<C>(&error))
    }

    /// Sends one request to append as a call.
    async fn append_call<C: Types>(
        &self,
        request: &AppendEntriesRequest<C>,
        timeout: Duration,
    ) -> Result<StreamAppendResult<C>, RPCError<C>> {
        let body = wire::append_request(request);
        let answer = self
            .links
            .call(self.to, method::HEARTBEAT, body, timeout)
            .await;
        let answer = answer.map_err(|error| self.links.rpc_error::<C>(&error))?;
        wire::decode_plain::<AppendAnswer>(&answer)
            .and_then(AppendAnswer::into_openraft)
            .map_err(|error| Links::bad_answer::<C>(&error))
    }
}

impl<C: Types> RaftNetworkV2<C> for Link {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        let result = self.append_call(&request, option.hard_ttl()).await?;
        Ok(result.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<C>, RPCError<C>>>, RPCError<C>>>
    where
        S: Stream<Item = AppendEntriesRequest<C>> + OptionalSend + Unpin + 'static,
    {
        let answers = match self.purpose {
            Purpose::Entries => append::stream(self, input),
            Purpose::Heartbeats => append::calls(self, input, option.hard_ttl()),
        };
        Box::pin(std::future::ready(Ok(answers)))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = wire::VoteRequest::new(&request);
        self.ask::<C, wire::VoteAnswer>(method::VOTE, &request, option.hard_ttl())
            .await?
            .into_openraft()
            .map_err(|error| Links::bad_answer::<C>(&error))
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        let request = wire::VoteRequest::new(&request);
        self.ask::<C, wire::VoteAnswer>(method::PRE_VOTE, &request, option.hard_ttl())
            .await?
            .into_openraft()
            .map_err(|error| Links::bad_answer::<C>(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<CommittedLeaderId, u64, Peer, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let last = snapshot.meta.last_log_id.as_ref();
        let held = last.map(|last| self.links.behind.sending(self.to, last.index));
        let sent = snapshot::send(self, vote, snapshot, cancel, option.hard_ttl()).await?;
        if let Some(held) = held {
            held.arrived(self.links.runtime.clock.now());
        }
        Ok(sent)
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<C>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<C>, RPCError<C>> {
        let request = wire::TransferRequest::new(&request);
        self.ask::<C, wire::TransferAnswer>(method::TRANSFER, &request, option.hard_ttl())
            .await?
            .into_openraft()
            .map_err(|error| Links::bad_answer::<C>(&error))
    }
}
