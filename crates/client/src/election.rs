//! Election of a leader by etcd's recipe: the line of [`mutex`](crate::mutex), with a value that the leader proclaims and others
//! observe.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use catena_api::{
    errors,
    etcd::electionpb::{CampaignResponse, LeaderKey, LeaderResponse},
};

use crate::{
    Kv, Result, Session, Watcher,
    pb::{
        Compare, Event, EventType, PutRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
        WatchCreateRequest,
    },
    queue::{self, Place},
    request::{self, Operation},
};

/// Runs for the leadership `name` on a lease and waits until it is won: what etcd's Election service answers. For lease 0 one of 60
/// seconds is granted and not renewed.
///
/// Dropping the future while it waits leaves the line. Dropped, or failed, before the first answer, it may leave a candidate behind
/// that lasts as long as the lease; calling again with the same lease goes on with it.
pub async fn campaign(
    kv: &Arc<dyn Kv>,
    name: &[u8],
    lease: i64,
    value: Bytes,
) -> Result<CampaignResponse> {
    let lease = queue::lease_or_orphan(kv.as_ref(), lease).await?;
    let (header, place) = run(kv, &queue::prefix(name), lease, value).await?;
    let leader = LeaderKey {
        name: Bytes::copy_from_slice(name),
        key: place.key().clone(),
        rev: place.revision(),
        lease,
    };
    place.keep();
    Ok(CampaignResponse {
        header: Some(header),
        leader: Some(leader),
    })
}

/// Changes the leader's value; fails with `election: not leader` if the leadership is over.
pub async fn proclaim(kv: &dyn Kv, leader: &LeaderKey, value: Bytes) -> Result<ResponseHeader> {
    let put = PutRequest {
        lease: queue::lease_or_orphan(kv, leader.lease).await?,
        ..request::put(leader.key.clone(), value)
    };
    let answer = if_leading(kv, &leader.key, leader.rev, put.op()).await?;
    if !answer.succeeded {
        return Err(errors::ELECTION_NOT_LEADER.into());
    }
    Ok(answer.header.unwrap_or_default())
}

/// Gives the leadership up; one that is over already is success.
pub async fn resign(kv: &dyn Kv, leader: &LeaderKey) -> Result<ResponseHeader> {
    let delete = request::delete(leader.key.clone()).op();
    let answer = if_leading(kv, &leader.key, leader.rev, delete).await?;
    Ok(answer.header.unwrap_or_default())
}

/// The present leader; fails with `election: no leader` if there is none.
pub async fn leader(kv: &dyn Kv, name: &[u8]) -> Result<LeaderResponse> {
    let answer = kv.range(queue::first(&queue::prefix(name))).await?;
    match answer.kvs.into_iter().next() {
        Some(kv) => Ok(LeaderResponse {
            header: answer.header,
            kv: Some(kv),
        }),
        None => Err(errors::ELECTION_NO_LEADER.into()),
    }
}

/// Follows the leaders of `name`, one after the other, and what they proclaim.
pub fn observe(kv: Arc<dyn Kv>, name: &[u8]) -> Observer {
    Observer {
        kv,
        prefix: queue::prefix(name),
        stage: Stage::Looking,
    }
}

/// A leadership for which a session's owner can run.
#[derive(Clone, Debug)]
pub struct Election {
    session: Arc<Session>,
    prefix: Bytes,
}

/// A leadership that was won. Dropping it resigns in the background; [`resign`](Self::resign) says when that is done.
pub struct Leadership {
    place: Place,
    lease: i64,
}

impl Election {
    /// The leadership `name`.
    pub fn new(session: Arc<Session>, name: &str) -> Self {
        Self {
            session,
            prefix: queue::prefix(name.as_bytes()),
        }
    }

    /// Runs for the leadership and waits until it is won. Dropping the future leaves the line.
    pub async fn campaign(&self, value: impl Into<Bytes>) -> Result<Leadership> {
        let lease = self.session.lease();
        tokio::select! {
            biased;
            lost = self.session.lost() => Err(lost),
            won = run(self.session.kv(), &self.prefix, lease, value.into()) => {
                Ok(Leadership { place: won?.1, lease })
            }
        }
    }
}

impl Leadership {
    /// The leader's key.
    pub fn key(&self) -> &Bytes {
        self.place.key()
    }

    /// Grows from leader to leader: a fencing token.
    pub fn revision(&self) -> i64 {
        self.place.revision()
    }

    /// True inside a transaction as long as the leadership lasts.
    pub fn held(&self) -> Compare {
        request::created_at(self.key().clone(), self.revision())
    }

    /// Changes the leader's value; fails with `election: not leader` if the leadership is over.
    pub async fn proclaim(&self, value: impl Into<Bytes>) -> Result<()> {
        let leader = LeaderKey {
            name: Bytes::new(),
            key: self.key().clone(),
            rev: self.revision(),
            lease: self.lease,
        };
        proclaim(self.place.kv().as_ref(), &leader, value.into()).await?;
        Ok(())
    }

    /// Gives the leadership up.
    pub async fn resign(self) -> Result<()> {
        self.place.leave().await
    }
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership")
            .field("key", self.key())
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}

/// Who leads, as it changes.
pub struct Observer {
    kv: Arc<dyn Kv>,
    prefix: Bytes,
    stage: Stage,
}

enum Stage {
    /// Who leads has to be read.
    Looking,
    /// Nobody led; the watch is on the prefix.
    Vacant(Watcher),
    /// The watch is on the leader's key; events that came with the last response wait.
    Following {
        watcher: Watcher,
        events: VecDeque<Event>,
        header: ResponseHeader,
    },
}

impl Observer {
    /// The present leader, then each value it proclaims, then the next leader. After an error, or a future that was dropped, the
    /// next call goes on from the leader of that time.
    pub async fn next(&mut self) -> Result<LeaderResponse> {
        loop {
            match self.step().await {
                Ok(Some(response)) => return Ok(response),
                Ok(None) => {}
                Err(error) => {
                    self.stage = Stage::Looking;
                    // What was missed is compacted: whoever leads now is the next to report.
                    if !error.is_compacted() {
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<LeaderResponse>> {
        match &mut self.stage {
            Stage::Looking => self.look().await,
            Stage::Vacant(watcher) => {
                let response = watcher.next().await?;
                match response.events.iter().find(|event| is_put(event)) {
                    Some(put) => {
                        let (header, put) = (response.header, put.clone());
                        self.follow_first(header, &put).await
                    }
                    None => Ok(None),
                }
            }
            Stage::Following {
                watcher,
                events,
                header,
            } => match events.pop_front() {
                Some(event) if is_put(&event) => Ok(Some(LeaderResponse {
                    header: Some(*header),
                    kv: event.kv(),
                })),
                Some(_deleted) => {
                    self.stage = Stage::Looking;
                    Ok(None)
                }
                None => {
                    let response = watcher.next().await?;
                    *header = response.header;
                    events.extend(response.events);
                    Ok(None)
                }
            },
        }
    }

    async fn look(&mut self) -> Result<Option<LeaderResponse>> {
        let answer = self.kv.range(queue::first(&self.prefix)).await?;
        let header = answer.header.unwrap_or_default();
        let Some(kv) = answer.kvs.into_iter().next() else {
            let watch = WatchCreateRequest {
                start_revision: header.revision,
                ..request::watch_prefix(self.prefix.clone())
            };
            self.stage = Stage::Vacant(self.kv.watch(watch).await?);
            return Ok(None);
        };
        self.follow(kv.key(), &header).await?;
        Ok(Some(LeaderResponse {
            header: Some(header),
            kv: Some(kv),
        }))
    }

    /// The first put after a vacancy leads. Its response may hold later ones, so its own revision is the one to go on from.
    async fn follow_first(
        &mut self,
        mut header: ResponseHeader,
        put: &Event,
    ) -> Result<Option<LeaderResponse>> {
        // A dropped future must not leave the watch of the vacancy behind, whose event is consumed.
        self.stage = Stage::Looking;
        let kv = put.kv().unwrap_or_default();
        let view = kv.view();
        header.revision = view.mod_revision;
        self.follow(view.key, &header).await?;
        Ok(Some(LeaderResponse {
            header: Some(header),
            kv: Some(kv),
        }))
    }

    async fn follow(&mut self, key: Bytes, header: &ResponseHeader) -> Result<()> {
        let watch = WatchCreateRequest {
            start_revision: header.revision + 1,
            ..request::watch(key)
        };
        self.stage = Stage::Following {
            watcher: self.kv.watch(watch).await?,
            events: VecDeque::new(),
            header: *header,
        };
        Ok(())
    }
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

fn is_put(event: &Event) -> bool {
    event.kind() == EventType::Put
}

async fn if_leading(
    kv: &dyn Kv,
    key: &Bytes,
    revision: i64,
    operation: RequestOp,
) -> Result<TxnResponse> {
    kv.txn(TxnRequest {
        compare: vec![request::created_at(key.clone(), revision)],
        success: vec![operation],
        failure: Vec::new(),
    })
    .await
}

/// Enters the line, or finds the lease's place in it, and waits for the leadership.
async fn run(
    kv: &Arc<dyn Kv>,
    prefix: &Bytes,
    lease: i64,
    value: Bytes,
) -> Result<(ResponseHeader, Place)> {
    let key = queue::key(prefix, lease);
    let put = PutRequest {
        lease,
        ..request::put(key.clone(), value.clone())
    };
    let answer = kv
        .txn(TxnRequest {
            compare: vec![request::absent(key.clone())],
            success: vec![put.clone().op()],
            failure: vec![request::get(key.clone()).op()],
        })
        .await?;
    let header = answer.header.unwrap_or_default();
    let existing = answer
        .responses
        .first()
        .and_then(|op| queue::first_kv(&request::range_answer(op)));
    let revision = existing
        .as_ref()
        .map_or(header.revision, |kv| kv.create_revision);
    let place = Place::new(kv.clone(), key.clone(), revision);
    if existing.is_some_and(|kv| kv.value != value)
        && !if_leading(kv.as_ref(), &key, revision, put.op())
            .await?
            .succeeded
    {
        return Err(errors::ELECTION_NOT_LEADER.into());
    }
    place.wait(prefix).await?;
    // etcd does not look again here, and takes a candidate whose lease ended while it waited for the leader.
    let own = kv.range(request::get(key)).await?;
    if queue::first_kv(&own).is_none_or(|kv| kv.create_revision != revision) {
        place.keep();
        return Err(errors::ELECTION_NOT_LEADER.into());
    }
    Ok((header, place))
}
