//! A store in memory for tests under paused time: keys with their whole history, leases, watches, and a plug that can be pulled.
//!
//! It knows what the registry asks of a store and no more. While the plug is out its leases stand still, as those of etcd do, which
//! begin anew when a member is back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use catena_client::{
    Error, Kv, Result, WatchResponse, Watcher,
    pb::{
        CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
        Event, EventType, KeyValue, KeyValueView, LeaseGrantRequest, LeaseGrantResponse,
        LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
        ResponseHeader, ResponseOp, TxnRequest, TxnResponse, WatchCreateRequest,
        compare::TargetUnion, request_op::Request, response_op::Response,
    },
    watch::{self, WatchSender},
};
use parking_lot::Mutex;
use tokio::{sync::watch as state, time::Instant};

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plug {
    /// It answers.
    In,
    /// Every connection is refused.
    Refuses,
    /// Nothing comes back.
    Hangs,
}

#[derive(Debug)]
struct Lease {
    ttl: i64,
    until: Instant,
}

#[derive(Debug, Default)]
struct Content {
    /// Every write, one revision each; a deletion has no value.
    history: Vec<(Bytes, Option<KeyValueView>)>,
    leases: BTreeMap<i64, Lease>,
    granted: i64,
    /// When a lease was asked for, and when a range was answered.
    grants: Vec<Instant>,
    answers: Vec<Instant>,
}

/// The store.
#[derive(Debug)]
pub(super) struct FakeStore {
    content: Mutex<Content>,
    plug: state::Sender<Plug>,
    written: state::Sender<()>,
}

impl Content {
    fn revision(&self) -> i64 {
        1 + i64::try_from(self.history.len()).expect("a test writes little")
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            cluster_id: 1,
            revision: self.revision(),
            ..ResponseHeader::default()
        })
    }

    /// What stood at a revision; 0 is now.
    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValueView> {
        let count = match revision {
            0 => self.history.len(),
            revision => usize::try_from(revision - 1).expect("revisions are positive"),
        };
        let mut stands = BTreeMap::new();
        for (key, kv) in &self.history[..count] {
            match kv {
                Some(kv) => stands.insert(key.clone(), kv.clone()),
                None => stands.remove(key),
            };
        }
        stands
    }

    fn put(&mut self, put: PutRequest) {
        let revision = self.revision() + 1;
        let had = self.at(0).remove(&put.key);
        let kv = KeyValueView {
            key: put.key.clone(),
            value: put.value,
            create_revision: had.as_ref().map_or(revision, |had| had.create_revision),
            mod_revision: revision,
            version: had.map_or(1, |had| had.version + 1),
            lease: put.lease,
        };
        self.history.push((put.key, Some(kv)));
    }

    fn delete(&mut self, key: &Bytes) {
        if self.at(0).contains_key(key) {
            self.history.push((key.clone(), None));
        }
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let stands = self.at(request.revision).into_values();
        let found = stands.filter(|kv| covers(&request.key, &request.range_end, &kv.key));
        let kvs: Vec<KeyValue> = found.map(|kv| kv.encode()).collect();
        RangeResponse {
            header: self.header(),
            count: i64::try_from(kvs.len()).expect("a test writes little"),
            kvs,
            ..RangeResponse::default()
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.at(0).remove(&compare.key).unwrap_or_default();
        match compare.target_union {
            Some(TargetUnion::CreateRevision(revision)) => kv.create_revision == revision,
            Some(TargetUnion::ModRevision(revision)) => kv.mod_revision == revision,
            _ => unreachable!("the registry compares nothing else"),
        }
    }

    fn run(&mut self, op: RequestOp) -> ResponseOp {
        let response = match op.request {
            Some(Request::RequestRange(range)) => Response::ResponseRange(self.range(&range)),
            Some(Request::RequestPut(put)) => {
                self.put(put);
                Response::ResponsePut(PutResponse::default())
            }
            Some(Request::RequestDeleteRange(delete)) => {
                self.delete(&delete.key);
                Response::ResponseDeleteRange(DeleteRangeResponse::default())
            }
            Some(Request::RequestTxn(_)) | None => unreachable!("the registry nests none"),
        };
        ResponseOp {
            response: Some(response),
        }
    }

    fn end_lease(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let on_it = self.at(0).into_values().filter(|kv| kv.lease == lease);
        for kv in on_it.collect::<Vec<_>>() {
            self.delete(&kv.key);
        }
    }

    fn expire(&mut self, now: Instant) {
        let over = self.leases.iter().filter(|(_, lease)| lease.until <= now);
        for lease in over.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.end_lease(lease);
        }
    }
}

fn covers(key: &Bytes, range_end: &Bytes, found: &Bytes) -> bool {
    match &range_end[..] {
        b"" => found == key,
        b"\0" => found >= key,
        _ => found >= key && found < range_end,
    }
}

impl FakeStore {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            content: Mutex::default(),
            plug: state::channel(Plug::In).0,
            written: state::channel(()).0,
        })
    }

    pub(super) fn set(&self, plug: Plug) {
        if plug == Plug::In {
            for lease in self.content.lock().leases.values_mut() {
                lease.until = Instant::now() + Duration::from_secs(lease.ttl.unsigned_abs());
            }
        }
        self.plug.send_replace(plug);
    }

    /// When leases were asked for since a moment.
    pub(super) fn grants_since(&self, moment: Instant) -> Vec<Instant> {
        let content = self.content.lock();
        let grants = content.grants.iter().copied();
        grants.filter(|at| *at >= moment).collect()
    }

    /// When the store first answered since a moment.
    pub(super) fn answered_since(&self, moment: Instant) -> Option<Instant> {
        let content = self.content.lock();
        content.answers.iter().copied().find(|at| *at >= moment)
    }

    /// The keys that stand.
    pub(super) fn keys(&self) -> Vec<Bytes> {
        self.content.lock().at(0).into_keys().collect()
    }

    async fn call<T>(&self, call: impl FnOnce(&mut Content) -> T) -> Result<T> {
        let plug = *self.plug.borrow();
        match plug {
            Plug::In => {}
            Plug::Refuses => return Err(Error::Unreachable("refused".to_owned())),
            Plug::Hangs => std::future::pending().await,
        }
        let answer = {
            let mut content = self.content.lock();
            content.expire(Instant::now());
            call(&mut content)
        };
        self.written.send_replace(());
        Ok(answer)
    }
}

/// Sends what is written from `next` on, until the plug is pulled.
async fn carry(store: Arc<FakeStore>, request: WatchCreateRequest, to: WatchSender) {
    let mut next = usize::try_from(request.start_revision - 2).unwrap_or_default();
    let (mut written, mut plug) = (store.written.subscribe(), store.plug.subscribe());
    loop {
        let (header, writes) = {
            let content = store.content.lock();
            (content.header(), content.history[next..].to_vec())
        };
        let mut events = Vec::new();
        for (key, kv) in writes {
            next += 1;
            if !covers(&request.key, &request.range_end, &key) {
                continue;
            }
            let kind = kv.as_ref().map_or(EventType::Delete, |_| EventType::Put);
            let gone = KeyValueView {
                key,
                mod_revision: i64::try_from(next).expect("a test writes little") + 1,
                ..KeyValueView::default()
            };
            events.push(Event::new(kind, &kv.unwrap_or(gone).encode(), None));
        }
        if !events.is_empty() {
            let header = header.unwrap_or_default();
            if to.send(Ok(WatchResponse { header, events })).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = written.changed() => {}
            _ = plug.changed() => {
                // Whoever watched may be gone as well.
                let _ = to.send(Err(Error::Lost("pulled".to_owned()))).await;
                return;
            }
            () = to.closed() => return,
        }
    }
}

/// The store, as the registry is given it.
#[derive(Debug)]
pub(super) struct Fake(pub(super) Arc<FakeStore>);

#[async_trait]
impl Kv for Fake {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.0
            .call(|content| {
                content.answers.push(Instant::now());
                content.range(&request)
            })
            .await
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse> {
        self.0.call(|content| content.put(request)).await?;
        Ok(PutResponse::default())
    }

    async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        self.0.call(|content| content.delete(&request.key)).await?;
        Ok(DeleteRangeResponse::default())
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        self.0
            .call(|content| {
                let succeeded = request.compare.iter().all(|compare| content.holds(compare));
                let ops = match succeeded {
                    true => request.success,
                    false => request.failure,
                };
                TxnResponse {
                    succeeded,
                    responses: ops.into_iter().map(|op| content.run(op)).collect(),
                    header: content.header(),
                }
            })
            .await
    }

    async fn compact(&self, _request: CompactionRequest) -> Result<CompactionResponse> {
        unreachable!("the registry compacts nothing")
    }

    async fn lease_grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        // Asked for, whether it is answered or not.
        self.0.content.lock().grants.push(Instant::now());
        self.0
            .call(|content| {
                content.granted += 1;
                let (id, ttl) = (content.granted, request.ttl);
                let until = Instant::now() + Duration::from_secs(ttl.unsigned_abs());
                content.leases.insert(id, Lease { ttl, until });
                LeaseGrantResponse {
                    header: content.header(),
                    id,
                    ttl,
                    ..LeaseGrantResponse::default()
                }
            })
            .await
    }

    async fn lease_revoke(&self, lease: i64) -> Result<LeaseRevokeResponse> {
        self.0.call(|content| content.end_lease(lease)).await?;
        Ok(LeaseRevokeResponse::default())
    }

    async fn lease_renew(&self, lease: i64) -> Result<LeaseKeepAliveResponse> {
        self.0
            .call(|content| {
                let renewed = content.leases.get_mut(&lease).map_or(0, |found| {
                    found.until = Instant::now() + Duration::from_secs(found.ttl.unsigned_abs());
                    found.ttl
                });
                LeaseKeepAliveResponse {
                    header: content.header(),
                    id: lease,
                    ttl: renewed,
                }
            })
            .await
    }

    async fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse> {
        self.0
            .call(|content| LeaseTimeToLiveResponse {
                header: content.header(),
                id: request.id,
                ttl: content
                    .leases
                    .get(&request.id)
                    .map_or(-1, |found| found.ttl),
                ..LeaseTimeToLiveResponse::default()
            })
            .await
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse> {
        unreachable!("the registry lists no leases")
    }

    async fn watch(&self, request: WatchCreateRequest) -> Result<Watcher> {
        let created = self.0.call(|content| content.header()).await?;
        let created = created.unwrap_or_default();
        let (sender, watcher) = watch::channel(created);
        let start_revision = match request.start_revision {
            0 => created.revision + 1,
            asked => asked,
        };
        let request = WatchCreateRequest {
            start_revision,
            ..request
        };
        tokio::spawn(carry(self.0.clone(), request, sender));
        Ok(watcher)
    }
}
