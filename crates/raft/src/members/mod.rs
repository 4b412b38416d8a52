//! Changes of the members.
//!
//! The leader makes them, one after the other; other members forward theirs. A change is checked against the applied state, then
//! consensus's own change and the record for the state machine go into one entry.
//!
//! A configuration counts from the moment it is appended, so a new voter that never starts could cost a small cluster its quorum
//! for ever. A member that is added as a voter is therefore a learner to consensus until it has caught up, while the record, and
//! all that users see, says voter; [`promote_pending`] makes it one.
//!
//! etcd asks of a connected member that it has been so for five seconds. Here it must have answered a heartbeat within an election
//! timeout: the leader knows that at once, and nothing has to be waited for after an election.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::NetError;
use catena_store::{Command, Member, MemberChange, Request};
use serde::{Deserialize, Serialize};

use crate::{
    MemberError, batch,
    blocking::timeout,
    consensus::{Changed, Configuration, NotReadable},
    method,
    shared::{Leader, Shared},
    types::{Commands, Peer},
    wire::{self, MemberRequest},
};
use plan::{Plan, View};

/// Pause before a change is tried again that could not be made at the moment.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How long a promotion waits for the leader to have applied its log, as in etcd.
const APPLIED_WAIT: Duration = Duration::from_secs(1);

/// Entries that a new voter may lack when it is promoted: what a round trip holds.
const PENDING_LAG_MAX: u64 = 64;

/// How often a leader looks whether new voters have caught up.
const PENDING_INTERVAL: Duration = Duration::from_millis(100);

/// What the leader answers another member.
#[derive(Serialize, Deserialize)]
enum MemberAnswer {
    /// All members, after the change.
    Changed(Vec<Member>),
    /// Not changed, or not known to be.
    Failed(MemberError),
    /// Not changed: that member does not lead.
    NotLeader,
}

/// What one try came to.
enum Tried {
    Changed(Vec<Member>),
    Failed(MemberError),
    /// Not changed; worth another try, perhaps elsewhere.
    Again,
}

/// Makes a change, wherever the leader is. Has no time limit of its own while nothing is known to have begun: the caller drops it.
pub(crate) async fn change(
    shared: &Shared,
    request: MemberRequest,
) -> Result<Vec<Member>, MemberError> {
    loop {
        let tried = match shared.leader() {
            Leader::Here => lead(shared, &request).await,
            Leader::There(leader) => forward(shared, leader, &request).await,
            Leader::Nowhere => Tried::Again,
        };
        match tried {
            Tried::Changed(members) => return Ok(members),
            Tried::Failed(error) => return Err(error),
            Tried::Again => {}
        }
        if shared.stop.get().is_some() {
            return Err(MemberError::Stopped);
        }
        shared.leader_changes(5 * RETRY_PAUSE).await;
    }
}

async fn forward(shared: &Shared, leader: u64, request: &MemberRequest) -> Tried {
    let body = wire::encode_plain(request);
    let limit = shared.rules.request_timeout;
    let call = shared.network.call(leader, method::MEMBERS, body, limit);
    match call.await.map(|answer| wire::decode_plain(&answer)) {
        Ok(Ok(MemberAnswer::Changed(members))) => Tried::Changed(members),
        Ok(Ok(MemberAnswer::Failed(error))) => Tried::Failed(error),
        Ok(Ok(MemberAnswer::NotLeader)) | Err(NetError::Unreachable(_) | NetError::Refused(_)) => {
            Tried::Again
        }
        Ok(Err(_)) | Err(NetError::Lost(_) | NetError::Timeout) => {
            Tried::Failed(MemberError::Timeout)
        }
    }
}

/// Answers another member.
pub(crate) async fn forwarded(shared: &Shared, body: &Bytes) -> Result<Bytes, NetError> {
    let request: MemberRequest =
        wire::decode_plain(body).map_err(|error| NetError::Refused(format!("request {error}")))?;
    let limit = shared.rules.request_timeout;
    let led = timeout(shared.runtime.clock.as_ref(), limit, lead(shared, &request));
    let answer = match led.await {
        Some(Tried::Changed(members)) => MemberAnswer::Changed(members),
        Some(Tried::Failed(error)) => MemberAnswer::Failed(error),
        Some(Tried::Again) => MemberAnswer::NotLeader,
        None => MemberAnswer::Failed(MemberError::Timeout),
    };
    Ok(wire::encode_plain(&answer))
}

/// Makes a change as leader.
async fn lead(shared: &Shared, request: &MemberRequest) -> Tried {
    let Ok(_one_at_a_time) = shared.reconfiguring.acquire().await else {
        return Tried::Failed(MemberError::Stopped);
    };
    match catch_up(shared).await {
        Ok(()) => {}
        Err(NotReadable::Stopped) => return Tried::Failed(MemberError::Stopped),
        Err(NotReadable::NotLeader(_) | NotReadable::NoQuorum) => return Tried::Again,
    }
    loop {
        let configuration = shared.consensus.configuration();
        let view = view(shared, &configuration);
        let plan = match plan::plan(request, &view) {
            Ok(plan) => plan,
            Err(error) => return Tried::Failed(error),
        };
        match make(shared, &configuration, plan).await {
            Changed::Applied => return Tried::Changed(members(shared)),
            Changed::Busy => shared.runtime.clock.sleep(RETRY_PAUSE).await,
            Changed::NotLeader(_) => return Tried::Again,
            Changed::Lost => return Tried::Failed(MemberError::Timeout),
            Changed::Stopped => return Tried::Failed(MemberError::Stopped),
            Changed::Refused(what) => {
                tracing::error!(what, "consensus refused a change of members");
                return Tried::Failed(MemberError::Unhealthy);
            }
        }
    }
}

/// Proves that we lead, and waits until all that was committed is applied and whoever can has answered us once: right after an
/// election nobody has.
async fn catch_up(shared: &Shared) -> Result<(), NotReadable> {
    let index = shared.consensus.read_index(APPLIED_WAIT).await?;
    let deadline = shared.now() + shared.rules.election;
    let somebody_is_silent = || {
        let peers = shared.consensus.status().peers;
        peers.iter().any(|peer| peer.silent.is_none())
    };
    while somebody_is_silent() && shared.now() < deadline {
        shared.runtime.clock.sleep(RETRY_PAUSE).await;
    }
    let applied = shared.machine.reader.wait_applied(index);
    timeout(shared.runtime.clock.as_ref(), APPLIED_WAIT, applied)
        .await
        .ok_or(NotReadable::NoQuorum)
}

fn view(shared: &Shared, configuration: &Configuration) -> View {
    let status = shared.consensus.status();
    let own = shared.identity.member_id;
    let answers =
        |silent: Option<Duration>| silent.is_some_and(|silent| silent < shared.rules.election);
    let mut connected: BTreeSet<u64> = status
        .peers
        .iter()
        .filter(|peer| answers(peer.silent))
        .map(|peer| peer.id)
        .collect();
    connected.insert(own);
    let mut matched: BTreeMap<u64, u64> = status
        .peers
        .iter()
        .map(|peer| (peer.id, peer.matched.unwrap_or(0)))
        .collect();
    matched.insert(own, status.last_index);
    View {
        members: shared.machine.reader.members(),
        voters: configuration.voters.clone(),
        peers: configuration.peers.clone(),
        own,
        connected,
        matched,
        last_index: status.last_index,
        strict: shared.rules.strict_reconfig,
        learners_max: shared.rules.learners_max,
    }
}

/// Brings a planned change through the log.
async fn make(shared: &Shared, configuration: &Configuration, plan: Plan) -> Changed {
    // A leader that has removed itself leads on for a moment, and openraft panics if it changes members then. The change is bound to
    // this configuration, so none can slip in between.
    if !configuration.voters.contains(&shared.identity.member_id) {
        return Changed::NotLeader(None);
    }
    let (ticket, mut outcomes) = shared.machine.pending.register();
    let commands = match plan.record {
        Some(record) => {
            let command = Command::internal(Request::Member(record)).encode();
            batch::encode(ticket, std::iter::once(&command))
        }
        None => Commands::default(),
    };
    let consensus = &shared.consensus;
    let changed = match plan.moved {
        Some((id, peer)) => {
            consensus
                .set_peer(configuration.at, id, peer, commands)
                .await
        }
        None => {
            consensus
                .change(configuration.at, plan.voters, plan.peers, commands)
                .await
        }
    };
    shared.machine.pending.forget(ticket);
    if changed == Changed::Applied
        && let Ok(outcomes) = outcomes.try_recv()
        && let Some(Err(error)) = outcomes.first().map(|outcome| &outcome.result)
    {
        // The plan was checked against the same record, so this is a fault of ours.
        tracing::error!(%error, "record of members refuses what consensus has taken");
    }
    changed
}

/// All members, by id.
pub(crate) fn members(shared: &Shared) -> Vec<Member> {
    shared
        .machine
        .reader
        .members()
        .present
        .values()
        .cloned()
        .collect()
}

/// As leader, makes voters of the members that are listed as such and have caught up.
pub(crate) async fn promote_pending(shared: Arc<Shared>) {
    let mut version = shared.machine.members_version();
    let mut leadership = shared.leadership.clone();
    loop {
        version.mark_unchanged();
        let pending = match shared.leader() {
            Leader::Here => pending(&shared),
            Leader::There(_) | Leader::Nowhere => BTreeSet::new(),
        };
        if pending.is_empty() {
            let gone = tokio::select! {
                biased;
                changed = version.changed() => changed.is_err(),
                changed = leadership.changed() => changed.is_err(),
            };
            if gone {
                return;
            }
            continue;
        }
        promote_one(&shared, &pending).await;
        shared.runtime.clock.sleep(PENDING_INTERVAL).await;
    }
}

/// Listed as voters, learners to consensus.
fn pending(shared: &Shared) -> BTreeSet<u64> {
    let configuration = shared.consensus.configuration();
    let members = shared.machine.reader.members();
    let listed = |id: &u64| {
        let member = members.present.get(id);
        member.is_some_and(|member| !member.is_learner)
    };
    configuration
        .peers
        .keys()
        .filter(|id| !configuration.voters.contains(id) && listed(id))
        .copied()
        .collect()
}

async fn promote_one(shared: &Shared, pending: &BTreeSet<u64>) {
    let Ok(_one_at_a_time) = shared.reconfiguring.acquire().await else {
        return;
    };
    let configuration = shared.consensus.configuration();
    let status = shared.consensus.status();
    let caught_up = status.peers.iter().find(|peer| {
        pending.contains(&peer.id)
            && configuration.peers.contains_key(&peer.id)
            && peer
                .silent
                .is_some_and(|silent| silent < shared.rules.election)
            && peer.matched.unwrap_or(0) + PENDING_LAG_MAX >= status.last_index
    });
    let Some(peer) = caught_up else {
        return;
    };
    let mut voters = configuration.voters.clone();
    voters.insert(peer.id);
    let plan = Plan {
        voters,
        peers: configuration.peers.clone(),
        moved: None,
        record: None,
    };
    let changed = make(shared, &configuration, plan).await;
    tracing::info!(
        member = format_args!("{:x}", peer.id),
        ?changed,
        "new voter has caught up"
    );
}

/// Makes the peer of a member that is added.
fn new_peer(peer_urls: &[String]) -> Peer {
    Peer {
        name: String::new(),
        peer_urls: peer_urls.to_vec(),
    }
}

/// The record of a member that is added.
fn new_member(id: u64, peer_urls: &[String], is_learner: bool) -> MemberChange {
    MemberChange::Add(Member {
        id,
        peer_urls: peer_urls.to_vec(),
        is_learner,
        ..Member::default()
    })
}
