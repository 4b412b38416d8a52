//! Renewals over the network.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use catena_client::{KeepAlive, Kv, LeaseState, Options, Remote};

use crate::{
    fake::{Answer, Asked, Member, Script},
    within,
};

fn silent() -> Member {
    Member::start(Script {
        answers: VecDeque::from_iter((0..9).map(|_| Answer::Silence)).into(),
        ..Script::default()
    })
}

#[tokio::test]
async fn renewal_carries_the_lease_and_requires_a_leader() {
    let member = Member::start(Script::default());
    let remote = Remote::connect(&[member.endpoint()], Options::default()).unwrap();
    let answer = within(remote.lease_renew(7)).await.unwrap();
    assert_eq!((answer.id, answer.ttl), (7, 10));
    assert_eq!(member.asked(), [Asked::Renew(7)]);
    let metadata = member.script.metadata.lock();
    assert_eq!(metadata.get("hasleader").unwrap(), "true");
}

#[tokio::test]
async fn silent_member_is_left_before_the_lease_ends() {
    let (silent, well) = (silent(), Member::start(Script::default()));
    let endpoints = [silent.endpoint(), well.endpoint()];
    // Half of the clients begin at the silent member.
    for _ in 0..4 {
        let remote = Remote::connect(&endpoints, Options::default()).unwrap();
        let ttl = Duration::from_secs(3);
        let keep_alive = KeepAlive::start(Arc::new(remote), 7, ttl);
        let renewed = |state: &LeaseState| matches!(state, LeaseState::Alive { ttl, .. } if ttl.as_secs() == 10);
        within(keep_alive.state().wait_for(renewed)).await.unwrap();
    }
    assert_eq!(well.asked().len(), 4);
}
