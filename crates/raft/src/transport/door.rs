//! Greetings: what is said before the ends of a connection know one another.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use catena_api::peer::{
    DiscoverRequest, DiscoverResponse, HelloRequest, HelloResponse, Member as PeerMember,
    door_client::DoorClient, door_server::Door,
};
use catena_runtime::NetError;
use catena_store::Member;
use parking_lot::Mutex;
use tonic::{Request, Response, Status, transport::Endpoint};

use super::{PROTOCOL_VERSION, Shared, incarnation::Known, status::from_status};
use crate::{Node, blocking::blocking, method};

/// Sessions that a member may have at a time: three connections, and those that it has given up and we do not know of yet.
const SESSIONS_MAX: usize = 8;

/// Members with sessions: more than any cluster has, and few enough that somebody who makes ids up costs little.
const SPEAKERS_MAX: usize = 256;

/// Who speaks in which session.
#[derive(Default)]
pub(super) struct Sessions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    speakers: HashMap<String, u64>,
    /// By member, oldest first.
    open: HashMap<u64, Vec<String>>,
}

impl Sessions {
    /// The member that speaks in a session.
    pub(super) fn speaker(&self, session: &str) -> Option<u64> {
        self.state.lock().speakers.get(session).copied()
    }

    /// Opens a session; the member's oldest one ends if it has too many. False if too many members have some.
    fn open(&self, from: u64, session: String) -> bool {
        let mut state = self.state.lock();
        if state.open.len() >= SPEAKERS_MAX && !state.open.contains_key(&from) {
            return false;
        }
        let open = state.open.entry(from).or_default();
        open.push(session.clone());
        let ended = (open.len() > SESSIONS_MAX).then(|| open.remove(0));
        if let Some(ended) = ended {
            state.speakers.remove(&ended);
        }
        state.speakers.insert(session, from);
        true
    }
}

/// Answers greetings.
pub(super) struct Doorkeeper {
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) node: Node,
}

impl Doorkeeper {
    fn check(&self, hello: &HelloRequest) -> Result<(), String> {
        let own = &self.shared.identity;
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(format!(
                "protocol version mismatch: {:x} speaks {}, {:x} speaks {PROTOCOL_VERSION}; run versions that fit",
                hello.from, hello.protocol_version, own.member_id
            ));
        }
        if hello.cluster_id != own.cluster_id {
            return Err(format!(
                "cluster ID mismatch: {:x} is in cluster {:x}, {:x} in cluster {:x}; check --initial-cluster and --initial-cluster-token",
                hello.from, hello.cluster_id, own.member_id, own.cluster_id
            ));
        }
        if hello.to != own.member_id || hello.from == own.member_id {
            return Err(format!(
                "member ID mismatch: {:x} looks for {:x} and finds {:x}; check the peer URLs",
                hello.from, hello.to, own.member_id
            ));
        }
        if self.node.reader().is_removed(hello.from) {
            return Err(method::removed(hello.from));
        }
        Ok(())
    }

    /// Makes sure that the member has the data directory that it had. One that nobody has put on record yet is not remembered.
    async fn check_incarnation(&self, hello: &HelloRequest) -> Result<(), Status> {
        let (from, incarnation) = (hello.from, hello.incarnation);
        let on_record = || self.node.reader().member(from).is_some();
        match self.shared.incarnations.check(from, incarnation) {
            Known::Same => Ok(()),
            Known::Other => Err(Status::failed_precondition(method::wiped(from))),
            Known::New if !on_record() => Ok(()),
            Known::New => self.shared.learn(from, incarnation).await,
        }
    }
}

impl Shared {
    /// Notes the incarnation of a member.
    pub(super) async fn learn(self: &Arc<Self>, id: u64, incarnation: u64) -> Result<(), Status> {
        let shared = self.clone();
        let learn = move || shared.incarnations.learn(id, incarnation);
        blocking(&self.runtime, "note incarnation", learn)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))
    }
}

#[tonic::async_trait]
impl Door for Doorkeeper {
    async fn hello(
        &self,
        request: Request<HelloRequest>,
    ) -> Result<Response<HelloResponse>, Status> {
        let hello = request.into_inner();
        let refuse = |what: String| {
            tracing::warn!(
                from = format_args!("{:x}", hello.from),
                what,
                "refused peer"
            );
            Status::failed_precondition(what)
        };
        self.check(&hello).map_err(refuse)?;
        self.check_incarnation(&hello).await?;
        let random = &self.shared.runtime.random;
        let session = format!("{:016x}{:016x}", random.next_u64(), random.next_u64());
        if !self.sessions.open(hello.from, session.clone()) {
            return Err(refuse("too many members speak to this one".to_owned()));
        }
        self.shared.greetings.count(hello.from);
        Ok(Response::new(HelloResponse {
            incarnation: self.shared.identity.incarnation,
            session,
        }))
    }

    async fn discover(
        &self,
        _request: Request<DiscoverRequest>,
    ) -> Result<Response<DiscoverResponse>, Status> {
        let members = self.node.reader().members();
        if members.present.is_empty() {
            return Err(Status::unavailable("the cluster is not founded yet"));
        }
        let member = |member: &Member| PeerMember {
            id: member.id,
            name: member.name.clone(),
            peer_urls: member.peer_urls.clone(),
            client_urls: member.client_urls.clone(),
            is_learner: member.is_learner,
            met: self.shared.incarnations.has_met(member.id),
        };
        Ok(Response::new(DiscoverResponse {
            cluster_id: self.shared.identity.cluster_id,
            members: members.present.values().map(member).collect(),
        }))
    }
}

/// A running cluster, as one of its members describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its id.
    pub cluster_id: u64,
    /// Its members, by id.
    pub members: Vec<Member>,
    /// Those of whom a data directory was seen.
    pub met: BTreeSet<u64>,
}

impl Cluster {
    /// Refuses, with the commands to run, a member that has no data although it once had: it promised to keep votes and entries that
    /// it has no more.
    pub fn check_new(&self, id: u64) -> Result<(), NetError> {
        match self.met.contains(&id) {
            true => Err(NetError::Refused(method::wiped(id))),
            false => Ok(()),
        }
    }
}

/// Asks the members at these peer URLs, one after the other, who is in their cluster; each for no longer than `timeout`.
pub async fn discover(peer_urls: &[String], timeout: Duration) -> Result<Cluster, NetError> {
    let mut last = NetError::Unreachable("no peer URL is given".to_owned());
    for url in peer_urls {
        match discover_at(url, timeout).await {
            Ok(cluster) => return Ok(cluster),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn discover_at(url: &str, timeout: Duration) -> Result<Cluster, NetError> {
    let unreachable =
        |error: tonic::transport::Error| NetError::Unreachable(format!("{url}: {error}"));
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(unreachable)?;
    let endpoint = endpoint.connect_timeout(timeout).timeout(timeout);
    let channel = endpoint.connect().await.map_err(unreachable)?;
    let answer = DoorClient::new(channel).discover(DiscoverRequest {}).await;
    let answer = answer.map_err(|status| from_status(&status))?.into_inner();
    let met = answer.members.iter().filter(|member| member.met);
    let met = met.map(|member| member.id).collect();
    let member = |member: PeerMember| Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    };
    Ok(Cluster {
        cluster_id: answer.cluster_id,
        members: answer.members.into_iter().map(member).collect(),
        met,
    })
}
