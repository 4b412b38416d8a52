//! One of the two stores, and its answers.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use catena_api::etcd::etcdserverpb::{
    RangeRequest, RangeResponse, WatchCreateRequest, WatchResponse,
};
use framework::{Client, Cluster, Setup, Target, WatchStream, describe};
use tokio::time::{Instant, timeout};
use tonic::Status;

use crate::{
    generate::STREAMS,
    operation::Operation,
    render::{self, Rendered},
};

/// A watch catches up with the short history of a run by then.
const PROGRESS_WITHIN: Duration = Duration::from_secs(10);
/// etcd looks for watches that must catch up every 100 ms.
const PROGRESS_AGAIN: Duration = Duration::from_millis(20);

/// One of the two stores: one member, freshly made.
pub(crate) struct Side {
    pub(crate) client: Client,
    pub(crate) streams: Vec<Stream>,
    // The member lives as long as its side.
    pub(crate) cluster: Cluster,
}

impl Side {
    pub(crate) async fn start(target: Target) -> Result<Self> {
        let cluster = Cluster::start(Setup::new(target, 1)).await?;
        let client = cluster.client(0)?;
        let streams = (0..STREAMS).map(|_| Stream::open(&client)).collect();
        Ok(Self {
            client,
            streams,
            cluster,
        })
    }

    /// Answers any step that is not about watches.
    pub(crate) async fn answer(&self, operation: &Operation) -> Rendered {
        self.ask(operation).await.unwrap_or_else(Rendered::from)
    }

    async fn ask(&self, operation: &Operation) -> Result<Rendered, Status> {
        let client = &self.client;
        Ok(match operation {
            Operation::Range(request) => {
                let response = client.range(request.clone()).await?;
                Rendered::new(response.header, render::range(request, &response))
            }
            Operation::RangeStream(request) => {
                let response = self.range_stream(request).await?;
                Rendered::new(response.header, render::range(request, &response))
            }
            Operation::Put(request) => {
                let response = client.put_with(request.clone()).await?;
                Rendered::new(
                    response.header,
                    format!("put, before {:?}", response.prev_kv),
                )
            }
            Operation::Delete(request) => {
                let response = client.delete_with(request.clone()).await?;
                let text = format!(
                    "deleted {}, before {:?}",
                    response.deleted, response.prev_kvs
                );
                Rendered::new(response.header, text)
            }
            Operation::Txn(request) => {
                let response = client.txn(request.clone()).await?;
                Rendered::new(response.header, render::txn(request, &response))
            }
            Operation::Compact(request) => {
                let response = client.kv().compact(*request).await?.into_inner();
                Rendered::new(response.header, "compacted")
            }
            Operation::HashKv { revision } => {
                let response = client.hash_kv(*revision).await?;
                let (hash, compacted, at) = (
                    response.hash,
                    response.compact_revision,
                    response.hash_revision,
                );
                Rendered::new(
                    response.header,
                    format!("hash {hash} of {at}, compacted {compacted}"),
                )
            }
            Operation::Grant { .. }
            | Operation::Revoke { .. }
            | Operation::KeepAlive { .. }
            | Operation::TimeToLive { .. }
            | Operation::Leases => self.ask_lease(operation).await?,
            Operation::Watch { .. } | Operation::Cancel { .. } | Operation::Progress { .. } => {
                return Err(Status::internal("watches are asked through their streams"));
            }
        })
    }

    async fn ask_lease(&self, operation: &Operation) -> Result<Rendered, Status> {
        let client = &self.client;
        Ok(match operation {
            Operation::Grant { ttl, id } => {
                let response = client.grant(*ttl, *id).await?;
                let text = format!(
                    "granted {} for {} {:?}",
                    response.id, response.ttl, response.error
                );
                Rendered::new(response.header, text)
            }
            Operation::Revoke { id } => Rendered::new(client.revoke(*id).await?.header, "revoked"),
            Operation::KeepAlive { id } => {
                let response = client.keep_alive(*id).await?.unwrap_or_default();
                Rendered::new(
                    response.header,
                    format!("kept {} for {}", response.id, response.ttl),
                )
            }
            Operation::TimeToLive { id } => {
                let mut response = client.time_to_live(*id).await?;
                // Keys come in no certain order. The time left is compared as there or not, since the sides were granted the
                // lease at slightly different moments.
                response.keys.sort();
                let (left, granted, keys) = (response.ttl > 0, response.granted_ttl, response.keys);
                Rendered::new(
                    response.header,
                    format!("left {left}, granted {granted}, {keys:?}"),
                )
            }
            _ => {
                // In the order of time left, which differs by when each side got the grant.
                let mut leases = client.leases().await?;
                leases.sort_unstable();
                Rendered::new(Some(Default::default()), format!("leases {leases:?}"))
            }
        })
    }

    async fn range_stream(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        let mut stream = self
            .client
            .kv()
            .range_stream(request.clone())
            .await?
            .into_inner();
        let mut whole = RangeResponse::default();
        while let Some(part) = stream.message().await? {
            let part = part.range_response.unwrap_or_default();
            whole.kvs.extend(part.kvs);
            whole.header = whole.header.or(part.header);
            whole.count += part.count;
            whole.more |= part.more;
        }
        Ok(whole)
    }
}

/// One watch stream and what has come out of it.
pub(crate) struct Stream {
    watch: WatchStream,
    created: Option<WatchResponse>,
    progress: Option<WatchResponse>,
    canceled: BTreeMap<i64, WatchResponse>,
    events: BTreeMap<i64, Vec<String>>,
    last_revision: BTreeMap<i64, i64>,
}

impl Stream {
    fn open(client: &Client) -> Self {
        Self {
            watch: WatchStream::open(client),
            created: None,
            progress: None,
            canceled: BTreeMap::new(),
            events: BTreeMap::new(),
            last_revision: BTreeMap::new(),
        }
    }

    /// Takes the next response and puts it where it belongs.
    async fn pump(&mut self) -> Result<()> {
        let response = self.watch.next().await?;
        let id = response.watch_id;
        if response.created {
            self.created = Some(response);
        } else if response.canceled {
            self.canceled.insert(id, response);
        } else if response.events.is_empty() {
            self.progress = Some(response);
        } else {
            self.note(id, &response)?;
        }
        Ok(())
    }

    /// Notes events. Those of one revision come in one response, or in its fragments; revisions only rise.
    fn note(&mut self, id: i64, response: &WatchResponse) -> Result<()> {
        let revisions = response
            .events
            .iter()
            .map(|event| event.kv().unwrap_or_default().view().mod_revision);
        let revisions: Vec<_> = revisions.collect();
        let before = self.last_revision.get(&id).copied().unwrap_or(i64::MIN);
        if revisions[0] <= before || !revisions.is_sorted() {
            bail!("watch {id}: {revisions:?} after {before}");
        }
        let last = revisions[revisions.len() - 1];
        let last = if response.fragment { last - 1 } else { last };
        self.last_revision.insert(id, last);
        self.events
            .entry(id)
            .or_default()
            .extend(describe(response));
        Ok(())
    }

    /// Creates a watch; gives the answer.
    pub(crate) async fn create(&mut self, request: WatchCreateRequest) -> Result<WatchResponse> {
        use catena_api::etcd::etcdserverpb::watch_request::RequestUnion;
        self.watch
            .send(RequestUnion::CreateRequest(request))
            .await?;
        loop {
            if let Some(created) = self.created.take() {
                self.last_revision.remove(&created.watch_id);
                return Ok(created);
            }
            self.pump().await?;
        }
    }

    /// Asks for a cancellation without waiting.
    pub(crate) async fn cancel(&self, watch_id: i64) -> Result<()> {
        self.watch.cancel(watch_id).await
    }

    /// Waits until a watch is cancelled; gives the response.
    pub(crate) async fn canceled(&mut self, watch_id: i64) -> Result<WatchResponse> {
        loop {
            if let Some(canceled) = self.canceled.remove(&watch_id) {
                return Ok(canceled);
            }
            self.pump().await?;
        }
    }

    /// Asks for progress until the answer tells of `revision`. A request is dropped while a watch still catches up with history.
    pub(crate) async fn progress(&mut self, revision: i64) -> Result<WatchResponse> {
        let end = Instant::now() + PROGRESS_WITHIN;
        while Instant::now() < end {
            self.watch.progress().await?;
            let pumped = timeout(PROGRESS_AGAIN, self.pump_progress(revision)).await;
            if let Ok(progress) = pumped {
                return progress;
            }
        }
        bail!("no progress to {revision} within {PROGRESS_WITHIN:?}")
    }

    async fn pump_progress(&mut self, revision: i64) -> Result<WatchResponse> {
        loop {
            self.pump().await?;
            // An answer to an earlier request may still come; it tells of an earlier revision.
            if let Some(progress) = self.progress.take()
                && progress
                    .header
                    .is_some_and(|header| header.revision == revision)
            {
                return Ok(progress);
            }
        }
    }

    /// Waits until a watch has given so many events; takes all that have come.
    pub(crate) async fn events(&mut self, watch_id: i64, count: usize) -> Result<Vec<String>> {
        while self.events.get(&watch_id).map_or(0, Vec::len) < count {
            let pumped = self.pump().await;
            pumped.with_context(|| {
                format!(
                    "watch {watch_id} lacks some of {count} events: {:?}",
                    self.events
                )
            })?;
        }
        Ok(self.events.remove(&watch_id).unwrap_or_default())
    }
}
