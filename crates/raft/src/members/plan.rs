//! Whether a change of members may be made, and what it is: a pure function, in etcd's order of checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use catena_store::{Member, MemberChange, Members};

use super::{new_member, new_peer};
use crate::{MemberError, types::Peer, wire::MemberRequest};

/// A learner is promoted when it has this share of the leader's log, as in etcd.
const READY_PERCENT: u64 = 90;

/// What a change is checked against.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The record.
    pub(super) members: Arc<Members>,
    /// Voters to consensus.
    pub(super) voters: BTreeSet<u64>,
    /// All members to consensus.
    pub(super) peers: BTreeMap<u64, Peer>,
    /// The leader.
    pub(super) own: u64,
    /// Members that answer, the leader included.
    pub(super) connected: BTreeSet<u64>,
    /// How much of the log each has.
    pub(super) matched: BTreeMap<u64, u64>,
    /// How much there is.
    pub(super) last_index: u64,
    /// Whether changes that could cost the quorum are refused.
    pub(super) strict: bool,
    /// Most learners.
    pub(super) learners_max: usize,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Voters afterwards.
    pub(super) voters: BTreeSet<u64>,
    /// Members afterwards.
    pub(super) peers: BTreeMap<u64, Peer>,
    /// Instead of both: this one member is somewhere else.
    pub(super) moved: Option<(u64, Peer)>,
    /// What the state machine notes with it.
    pub(super) record: Option<MemberChange>,
}

/// Votes needed among `voters`.
fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl View {
    fn listed_voters(&self) -> impl Iterator<Item = &Member> {
        let present = self.members.present.values();
        present.filter(|member| !member.is_learner)
    }

    fn started_voters(&self, except: Option<u64>) -> usize {
        self.listed_voters()
            .filter(|member| !member.name.is_empty() && Some(member.id) != except)
            .count()
    }

    fn connected_voters(&self) -> usize {
        self.listed_voters()
            .filter(|member| self.connected.contains(&member.id))
            .count()
    }

    fn url_is_taken(&self, peer_urls: &[String], except: Option<u64>) -> bool {
        let mut others = self.members.present.values();
        others.any(|member| {
            Some(member.id) != except && member.peer_urls.iter().any(|url| peer_urls.contains(url))
        })
    }

    fn unchanged(&self) -> Plan {
        Plan {
            voters: self.voters.clone(),
            peers: self.peers.clone(),
            moved: None,
            record: None,
        }
    }

    fn known(&self, id: u64) -> Result<&Member, MemberError> {
        self.members.present.get(&id).ok_or(MemberError::NotFound)
    }
}

/// Checks a change and says what to do.
pub(super) fn plan(request: &MemberRequest, view: &View) -> Result<Plan, MemberError> {
    match request {
        MemberRequest::AddVoter { id, peer_urls } => {
            check_voters_started(view)?;
            add(view, *id, peer_urls, false)
        }
        MemberRequest::AddLearner { id, peer_urls } => add(view, *id, peer_urls, true),
        MemberRequest::Remove { id } => remove(view, *id),
        MemberRequest::Promote { id } => promote(view, *id),
        MemberRequest::Update { id, peer_urls } => update(view, *id, peer_urls),
    }
}

/// A voter is added only if those that have started are a quorum with it. A single member may always get a second one.
fn check_voters_started(view: &View) -> Result<(), MemberError> {
    let (listed, started) = (view.listed_voters().count(), view.started_voters(None));
    let single = listed == 1 && started == 1;
    match view.strict && !single && started < quorum(listed + 1) {
        true => Err(MemberError::NotEnoughStarted),
        false => Ok(()),
    }
}

fn add(view: &View, id: u64, peer_urls: &[String], is_learner: bool) -> Result<Plan, MemberError> {
    let listed = view.listed_voters().count();
    if view.strict && listed > 1 && view.connected_voters() < quorum(listed + 1) {
        return Err(MemberError::Unhealthy);
    }
    if view.members.removed.contains(&id) {
        return Err(MemberError::NotFound);
    }
    if view.members.present.contains_key(&id) {
        return Err(MemberError::Exists);
    }
    if view.url_is_taken(peer_urls, None) {
        return Err(MemberError::PeerUrlExists);
    }
    let learners = view.members.present.len() - listed;
    if is_learner && learners >= view.learners_max {
        return Err(MemberError::TooManyLearners);
    }
    let mut plan = view.unchanged();
    plan.peers.insert(id, new_peer(peer_urls));
    plan.record = Some(new_member(id, peer_urls, is_learner));
    Ok(plan)
}

fn remove(view: &View, id: u64) -> Result<Plan, MemberError> {
    let member = view.known(id)?;
    if view.strict && !member.is_learner {
        let listed = view.listed_voters().count();
        if view.started_voters(Some(id)) < quorum(listed - 1) {
            return Err(MemberError::NotEnoughStarted);
        }
        let out_of_reach = id != view.own && !view.connected.contains(&id);
        if !out_of_reach && view.connected_voters().saturating_sub(1) < 1 + (listed - 1) / 2 {
            return Err(MemberError::Unhealthy);
        }
    }
    let mut plan = view.unchanged();
    plan.voters.remove(&id);
    plan.peers.remove(&id);
    if plan.voters.is_empty() {
        return Err(MemberError::NotEnoughStarted);
    }
    plan.record = Some(MemberChange::Remove { id });
    Ok(plan)
}

fn promote(view: &View, id: u64) -> Result<Plan, MemberError> {
    let matched = *view.matched.get(&id).ok_or(MemberError::NotFound)?;
    let member = view.known(id)?;
    let ready = matched * 100 >= view.last_index * READY_PERCENT && view.connected.contains(&id);
    if member.is_learner && !ready {
        return Err(MemberError::LearnerNotReady);
    }
    let listed = view.listed_voters().count();
    let started = view.started_voters(None) + usize::from(!member.name.is_empty());
    if view.strict && started < quorum(listed + 1) {
        return Err(MemberError::NotEnoughStarted);
    }
    if !member.is_learner {
        return Err(MemberError::NotLearner);
    }
    let mut plan = view.unchanged();
    plan.voters.insert(id);
    plan.record = Some(MemberChange::Promote { id });
    Ok(plan)
}

fn update(view: &View, id: u64, peer_urls: &[String]) -> Result<Plan, MemberError> {
    view.known(id)?;
    if view.url_is_taken(peer_urls, Some(id)) {
        return Err(MemberError::PeerUrlExists);
    }
    let peer_urls = peer_urls.to_vec();
    let mut peer = view.peers.get(&id).cloned().unwrap_or_default();
    peer.peer_urls.clone_from(&peer_urls);
    Ok(Plan {
        moved: Some((id, peer)),
        record: Some(MemberChange::Update { id, peer_urls }),
        ..view.unchanged()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(id: u64) -> Vec<String> {
        vec![format!("http://127.0.0.1:{id}")]
    }

    /// `voters` members that have started and answer; member 1 leads.
    fn healthy(voters: u64) -> View {
        let member = |id| Member {
            id,
            name: format!("m{id}"),
            peer_urls: url(id),
            client_urls: Vec::new(),
            is_learner: false,
        };
        let ids = 1..=voters;
        View {
            members: Arc::new(Members {
                cluster_id: Some(7),
                present: ids.clone().map(|id| (id, member(id))).collect(),
                removed: BTreeSet::from([99]),
            }),
            voters: ids.clone().collect(),
            peers: ids.clone().map(|id| (id, new_peer(&url(id)))).collect(),
            own: 1,
            connected: ids.clone().collect(),
            matched: ids.map(|id| (id, 100)).collect(),
            last_index: 100,
            strict: true,
            learners_max: 1,
        }
    }

    fn edit(view: &mut View, id: u64, edit: impl FnOnce(&mut Member)) {
        let members = Arc::make_mut(&mut view.members);
        edit(members.present.entry(id).or_default());
    }

    fn with_learner(mut view: View, id: u64) -> View {
        edit(&mut view, id, |member| {
            member.id = id;
            member.name = format!("m{id}");
            member.peer_urls = url(id);
            member.is_learner = true;
        });
        view.peers.insert(id, new_peer(&url(id)));
        view.connected.insert(id);
        view.matched.insert(id, 100);
        view
    }

    fn add_voter(id: u64) -> MemberRequest {
        MemberRequest::AddVoter {
            id,
            peer_urls: url(id),
        }
    }

    fn add_learner(id: u64) -> MemberRequest {
        MemberRequest::AddLearner {
            id,
            peer_urls: url(id),
        }
    }

    fn refusal(request: &MemberRequest, view: &View) -> MemberError {
        plan(request, view).unwrap_err()
    }

    #[test]
    fn added_voter_begins_as_learner_to_consensus() {
        let plan = plan(&add_voter(4), &healthy(3)).unwrap();
        assert_eq!(plan.voters, BTreeSet::from([1, 2, 3]));
        assert!(plan.peers.contains_key(&4));
        assert_eq!(plan.record, Some(new_member(4, &url(4), false)));
    }

    #[test]
    fn single_member_may_get_a_second() {
        assert!(plan(&add_voter(2), &healthy(1)).is_ok());
    }

    #[test]
    fn voter_is_not_added_while_too_few_have_started() {
        let mut view = healthy(3);
        edit(&mut view, 3, |member| member.name.clear());
        assert_eq!(refusal(&add_voter(4), &view), MemberError::NotEnoughStarted);
        view.strict = false;
        assert!(plan(&add_voter(4), &view).is_ok());
    }

    #[test]
    fn nobody_is_added_while_too_few_answer() {
        let mut view = healthy(3);
        view.connected.remove(&3);
        assert_eq!(refusal(&add_voter(4), &view), MemberError::Unhealthy);
        assert_eq!(refusal(&add_learner(4), &view), MemberError::Unhealthy);
    }

    #[test]
    fn ids_and_urls_are_used_once() {
        let view = healthy(3);
        assert_eq!(refusal(&add_voter(99), &view), MemberError::NotFound);
        assert_eq!(refusal(&add_voter(2), &view), MemberError::Exists);
        let taken = MemberRequest::AddVoter {
            id: 4,
            peer_urls: url(2),
        };
        assert_eq!(refusal(&taken, &view), MemberError::PeerUrlExists);
    }

    #[test]
    fn learners_are_bounded() {
        let view = with_learner(healthy(3), 4);
        assert_eq!(
            refusal(&add_learner(5), &view),
            MemberError::TooManyLearners
        );
    }

    #[test]
    fn last_member_is_not_removed() {
        let remove = MemberRequest::Remove { id: 1 };
        assert_eq!(refusal(&remove, &healthy(1)), MemberError::NotEnoughStarted);
    }

    #[test]
    fn healthy_member_is_not_removed_while_another_is_out_of_reach() {
        let mut view = healthy(3);
        view.connected.remove(&3);
        let remove = |id| MemberRequest::Remove { id };
        assert_eq!(refusal(&remove(2), &view), MemberError::Unhealthy);
        let plan = plan(&remove(3), &view).unwrap();
        assert_eq!(plan.voters, BTreeSet::from([1, 2]));
        assert_eq!(plan.record, Some(MemberChange::Remove { id: 3 }));
    }

    #[test]
    fn unknown_member_is_not_found() {
        let view = healthy(3);
        for request in [
            MemberRequest::Remove { id: 50 },
            MemberRequest::Promote { id: 50 },
            MemberRequest::Update {
                id: 50,
                peer_urls: url(50),
            },
        ] {
            assert_eq!(refusal(&request, &view), MemberError::NotFound);
        }
    }

    #[test]
    fn learner_is_promoted_in_sync_only() {
        let mut view = with_learner(healthy(3), 4);
        let promote = MemberRequest::Promote { id: 4 };
        view.matched.insert(4, 89);
        assert_eq!(refusal(&promote, &view), MemberError::LearnerNotReady);
        view.matched.insert(4, 90);
        let plan = plan(&promote, &view).unwrap();
        assert_eq!(plan.voters, BTreeSet::from([1, 2, 3, 4]));
        assert_eq!(plan.record, Some(MemberChange::Promote { id: 4 }));
    }

    #[test]
    fn voter_is_not_promoted() {
        let promote = MemberRequest::Promote { id: 2 };
        assert_eq!(refusal(&promote, &healthy(3)), MemberError::NotLearner);
    }

    #[test]
    fn update_keeps_own_urls_and_refuses_those_of_others() {
        let view = healthy(3);
        let update = |peer_urls| MemberRequest::Update { id: 2, peer_urls };
        assert_eq!(refusal(&update(url(3)), &view), MemberError::PeerUrlExists);
        let plan = plan(&update([url(2), url(22)].concat()), &view).unwrap();
        let (id, peer) = plan.moved.unwrap();
        assert_eq!((id, peer.peer_urls.len()), (2, 2));
    }
}
