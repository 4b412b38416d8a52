//! The operator: adds, promotes, removes and replaces members, moves leadership, defragments.

use std::{sync::Arc, time::Duration};

use catena_raft::MemberError;
use catena_store::Member;

use super::{Cluster, Process};
use crate::{
    clients::{
        watches::{self, Seen},
        within,
    },
    world::{self, Chance, Event, covered},
};

/// How long the operator waits for a change.
const PATIENCE: Duration = Duration::from_secs(8);

/// A damaged member can be removed within this time, whatever else goes wrong meanwhile.
const REPLACED_WITHIN: Duration = Duration::from_secs(120);

/// How long a removed member may go on before its computer is switched off.
const REMOVED_MAX: Duration = Duration::from_millis(1500);

/// What the operator works with.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) cluster: Cluster,
    pub(crate) chance: Chance,
    pub(crate) seen: Seen,
}

impl Operator {
    /// One thing after the other, until `done` says so.
    pub(crate) async fn run(&self, done: impl Fn() -> bool) {
        while !done() {
            world::sleep(Duration::from_millis(500 + self.chance.below(2500))).await;
            self.tidy().await;
            let first = self.cluster.settings().members;
            let now = self.cluster.ids().len();
            match self.chance.below(10) {
                0..2 => self.move_leader().await,
                2..4 => self.defragment().await,
                4..7 if now < first + 2 => {
                    self.grow(self.chance.once_in(2)).await;
                }
                7..10 if now > first => self.shrink().await,
                _ => {}
            }
        }
    }

    /// A member to speak with.
    fn any(&self) -> Option<Arc<Process>> {
        let running = self.cluster.running();
        (!running.is_empty()).then(|| self.chance.pick(&running).clone())
    }

    async fn move_leader(&self) {
        let Some(leader) = self.cluster.leader() else {
            return;
        };
        let to = *self.chance.pick(&self.cluster.ids());
        let serving = leader.clone();
        let moved = leader.call(async move { serving.indoor.move_leader(to).await });
        let moved = within(PATIENCE, moved).await.flatten();
        world::tell(|| format!("leadership to {to:x}: {moved:?}"));
        if moved == Some(Ok(())) && to != leader.id {
            covered(Event::LeaderMoved);
        }
    }

    async fn defragment(&self) {
        let Some(process) = self.any() else {
            return;
        };
        let node = process.node.clone();
        let done = process.call(async move { node.defragment().await });
        if let Some(Ok(())) = within(PATIENCE, done).await.flatten() {
            covered(Event::Defragmented);
        }
    }

    /// Adds a member, as a voter or first as a learner, and starts it; whether that is known to have succeeded.
    async fn grow(&self, learner: bool) -> bool {
        let Some(via) = self.any() else {
            return false;
        };
        let url = format!("http://x{}:2380", self.chance.below(1 << 40));
        let node = via.node.clone();
        let add = via.call(async move {
            match learner {
                true => node.add_learner(vec![url]).await,
                false => node.add_member(vec![url]).await,
            }
        });
        let added = within(PATIENCE, add).await.flatten();
        world::tell(|| format!("operator adds a member: {added:?}"));
        let Some(Ok((Member { id, .. }, _))) = added else {
            return false;
        };
        covered(Event::MemberAdded);
        self.cluster.build(id, None);
        world::spawn(watches::witness(
            self.cluster.clone(),
            id,
            self.seen.clone(),
        ));
        self.cluster.start_well(id).await;
        if learner {
            self.promote(id).await;
        }
        true
    }

    async fn promote(&self, id: u64) {
        let end = world::now() + PATIENCE;
        while world::now() < end {
            world::sleep(Duration::from_millis(100)).await;
            let Some(via) = self.any() else {
                continue;
            };
            let node = via.node.clone();
            let promote = via.call(async move { node.promote_member(id).await });
            match within(PATIENCE, promote).await.flatten() {
                Some(Ok(_)) => return covered(Event::MemberPromoted),
                Some(Err(MemberError::NotFound | MemberError::NotLearner)) => return,
                Some(Err(_)) | None => {}
            }
        }
    }

    async fn shrink(&self) {
        let id = *self.chance.pick(&self.cluster.ids());
        self.remove(id).await;
    }

    /// A member whose disk is damaged goes, and another comes.
    pub(crate) async fn replace(&self, id: u64) {
        let end = world::now() + REPLACED_WITHIN;
        while self.cluster.ids().contains(&id) {
            assert!(
                world::now() < end,
                "member {id:x}, which is damaged, cannot be removed"
            );
            self.remove(id).await;
            self.tidy().await;
            world::sleep(Duration::from_millis(200)).await;
        }
        if self.grow(false).await {
            covered(Event::MemberReplaced);
        }
    }

    /// Removes a member and, a little later, switches its computer off.
    async fn remove(&self, id: u64) {
        let Some(via) = self.any() else {
            return;
        };
        let node = via.node.clone();
        let remove = via.call(async move { node.remove_member(id).await });
        let removed = within(PATIENCE, remove).await.flatten();
        world::tell(|| format!("operator removes {id:x}: {removed:?}"));
        if let Some(Ok(_)) = removed {
            covered(Event::MemberRemoved);
            self.switch_off(id).await;
        }
    }

    async fn switch_off(&self, id: u64) {
        if self.cluster.ids().contains(&id) {
            world::sleep(self.chance.micros(REMOVED_MAX.as_micros() as u64)).await;
            self.cluster.retire(id);
        }
    }

    /// Follows up on changes whose outcome nobody knew: what is on record and has no computer is removed, and the other way round.
    pub(crate) async fn tidy(&self) {
        let running = self.cluster.running();
        let furthest = running.iter().max_by_key(|process| process.state().0);
        let Some(furthest) = furthest else {
            return;
        };
        let members = furthest.node.reader().members();
        let ids = self.cluster.ids();
        for id in members.present.keys().filter(|id| !ids.contains(id)) {
            self.remove(*id).await;
        }
        for id in ids.iter().filter(|id| members.removed.contains(id)) {
            self.switch_off(*id).await;
        }
    }

    /// Whether the record of members and the computers agree.
    pub(crate) fn is_tidy(&self) -> bool {
        let ids = self.cluster.ids();
        self.cluster.running().iter().all(|process| {
            let members = process.node.reader().members();
            members.present.keys().copied().eq(ids.iter().copied())
        })
    }
}
