//! A store in memory: as much of one as the recipes use.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use catena_api::errors;
use catena_client::{
    Error, Kv, Result, Watcher,
    pb::*,
    watch::{self, WatchResponse},
};
use parking_lot::Mutex;
use tokio::sync::broadcast;

/// The store. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Memory {
    state: Arc<Mutex<State>>,
    changed: broadcast::Sender<()>,
}

struct State {
    revision: i64,
    keys: BTreeMap<Bytes, KeyValueView>,
    history: Vec<(i64, Event)>,
    /// TTL by id.
    leases: BTreeMap<i64, i64>,
    /// What the next renewals answer instead; `None` stands for silence.
    renewals: VecDeque<Option<Error>>,
    renewed: usize,
    watches: usize,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                revision: 1,
                keys: BTreeMap::new(),
                history: Vec::new(),
                leases: BTreeMap::new(),
                renewals: VecDeque::new(),
                renewed: 0,
                watches: 0,
            })),
            changed: broadcast::channel(16).0,
        }
    }

    pub(crate) fn kv(&self) -> Arc<dyn Kv> {
        Arc::new(self.clone())
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let state = self.state.lock();
        let names = state.keys.keys();
        names
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect()
    }

    pub(crate) fn leases(&self) -> Vec<i64> {
        self.state.lock().leases.keys().copied().collect()
    }

    pub(crate) fn renewed(&self) -> usize {
        self.state.lock().renewed
    }

    pub(crate) fn answer_renewals(&self, answers: impl IntoIterator<Item = Option<Error>>) {
        self.state.lock().renewals.extend(answers);
    }

    /// Waits until the store looks as `condition` says.
    pub(crate) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        while !condition(self) {
            // Lagging is a change as well.
            let _lagged = changed.recv().await;
        }
    }

    pub(crate) fn watches(&self) -> usize {
        self.state.lock().watches
    }

    fn touch(&self) {
        // Nobody may be listening.
        let _nobody = self.changed.send(());
    }
}

impl State {
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.revision,
            ..ResponseHeader::default()
        })
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let mut kvs: Vec<_> = self
            .keys
            .values()
            .filter(|kv| contains(&request.key, &request.range_end, &kv.key))
            .filter(|kv| {
                request.max_create_revision == 0
                    || kv.create_revision <= request.max_create_revision
            })
            .collect();
        if request.sort_target() == range_request::SortTarget::Create {
            kvs.sort_by_key(|kv| kv.create_revision);
        }
        if request.sort_order() == range_request::SortOrder::Descend {
            kvs.reverse();
        }
        if request.limit > 0 {
            kvs.truncate(request.limit as usize);
        }
        RangeResponse {
            header: self.header(),
            kvs: kvs.into_iter().map(KeyValueView::encode).collect(),
            ..RangeResponse::default()
        }
    }

    fn put(&mut self, revision: i64, request: &PutRequest) {
        let kv = self.keys.entry(request.key.clone()).or_default();
        kv.key = request.key.clone();
        kv.value = request.value.clone();
        kv.lease = request.lease;
        kv.mod_revision = revision;
        kv.version += 1;
        if kv.version == 1 {
            kv.create_revision = revision;
        }
        let event = Event::new(EventType::Put, &kv.encode(), None);
        self.history.push((revision, event));
        self.revision = revision;
    }

    fn delete(&mut self, revision: i64, key: &Bytes) {
        if self.keys.remove(key).is_none() {
            return;
        }
        let tombstone = KeyValueView {
            key: key.clone(),
            mod_revision: revision,
            ..KeyValueView::default()
        };
        let event = Event::new(EventType::Delete, &tombstone.encode(), None);
        self.history.push((revision, event));
        self.revision = revision;
    }

    fn compare(&self, compare: &Compare) -> bool {
        let create_revision = self
            .keys
            .get(&compare.key)
            .map_or(0, |kv| kv.create_revision);
        compare.target_union == Some(compare::TargetUnion::CreateRevision(create_revision))
    }
}

fn contains(start: &Bytes, end: &Bytes, key: &Bytes) -> bool {
    if end.is_empty() {
        key == start
    } else {
        start <= key && key < end
    }
}

#[async_trait]
impl Kv for Memory {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        Ok(self.state.lock().range(&request))
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse> {
        let mut state = self.state.lock();
        let revision = state.revision + 1;
        state.put(revision, &request);
        self.touch();
        Ok(PutResponse {
            header: state.header(),
            prev_kv: None,
        })
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        let mut state = self.state.lock();
        let revision = state.revision + 1;
        state.delete(revision, &request.key);
        self.touch();
        Ok(DeleteRangeResponse {
            header: state.header(),
            ..DeleteRangeResponse::default()
        })
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        let mut state = self.state.lock();
        let succeeded = request.compare.iter().all(|compare| state.compare(compare));
        let ops = if succeeded {
            request.success
        } else {
            request.failure
        };
        let revision = state.revision + 1;
        let mut responses = Vec::new();
        for op in ops {
            responses.push(match op.request.unwrap() {
                request_op::Request::RequestRange(range) => {
                    response_op::Response::ResponseRange(state.range(&range))
                }
                request_op::Request::RequestPut(put) => {
                    if put.lease != 0 && !state.leases.contains_key(&put.lease) {
                        return Err(errors::LEASE_NOT_FOUND.into());
                    }
                    state.put(revision, &put);
                    response_op::Response::ResponsePut(PutResponse::default())
                }
                request_op::Request::RequestDeleteRange(delete) => {
                    state.delete(revision, &delete.key);
                    response_op::Response::ResponseDeleteRange(DeleteRangeResponse::default())
                }
                request_op::Request::RequestTxn(_) => unreachable!("no recipe nests"),
            });
        }
        self.touch();
        Ok(TxnResponse {
            header: state.header(),
            succeeded,
            responses: responses
                .into_iter()
                .map(|response| ResponseOp {
                    response: Some(response),
                })
                .collect(),
        })
    }

    async fn compact(&self, _: CompactionRequest) -> Result<CompactionResponse> {
        unreachable!("no recipe compacts")
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        let mut state = self.state.lock();
        let id = state.leases.keys().last().copied().unwrap_or(0x0f) + 1;
        state.leases.insert(id, request.ttl);
        Ok(LeaseGrantResponse {
            id,
            ttl: request.ttl,
            ..LeaseGrantResponse::default()
        })
    }

    async fn lease_revoke(&self, lease: i64) -> Result<LeaseRevokeResponse> {
        let mut state = self.state.lock();
        if state.leases.remove(&lease).is_none() {
            return Err(errors::LEASE_NOT_FOUND.into());
        }
        let revision = state.revision + 1;
        let keys = state.keys.values().filter(|kv| kv.lease == lease);
        for key in keys.map(|kv| kv.key.clone()).collect::<Vec<_>>() {
            state.delete(revision, &key);
        }
        self.touch();
        Ok(LeaseRevokeResponse::default())
    }

    async fn lease_renew(&self, lease: i64) -> Result<LeaseKeepAliveResponse> {
        let (answer, ttl) = {
            let mut state = self.state.lock();
            state.renewed += 1;
            let ttl = state.leases.get(&lease).copied().unwrap_or(0);
            (state.renewals.pop_front(), ttl)
        };
        self.touch();
        match answer {
            Some(Some(error)) => Err(error),
            Some(None) => std::future::pending().await,
            None => Ok(LeaseKeepAliveResponse {
                id: lease,
                ttl,
                ..LeaseKeepAliveResponse::default()
            }),
        }
    }

    async fn lease_time_to_live(
        &self,
        _: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        unreachable!("no recipe asks for the remaining time")
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        unreachable!("no recipe lists leases")
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Watcher> {
        let created = {
            let mut state = self.state.lock();
            state.watches += 1;
            state.header().unwrap()
        };
        let (sender, watcher) = watch::channel(created);
        let (memory, mut changed) = (self.clone(), self.changed.subscribe());
        let mut next = request.start_revision.max(1);
        tokio::spawn(async move {
            loop {
                let (header, events): (_, Vec<_>) = {
                    let state = memory.state.lock();
                    let seen = |(revision, event): &&(i64, Event)| {
                        let key = event.kv().unwrap().key();
                        *revision >= next && contains(&request.key, &request.range_end, &key)
                    };
                    let events = state.history.iter().filter(seen);
                    let events = events.map(|(_, event)| event.clone()).collect();
                    (state.header().unwrap(), events)
                };
                next = header.revision + 1;
                if !events.is_empty()
                    && sender
                        .send(Ok(WatchResponse { header, events }))
                        .await
                        .is_err()
                {
                    return;
                }
                tokio::select! {
                    _changed_or_lagged = changed.recv() => {}
                    () = sender.closed() => return,
                }
            }
        });
        self.touch();
        Ok(watcher)
    }
}
