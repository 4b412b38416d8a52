//! Members that come and go.

use catena_raft::{MemberError, Role, Stop};

use crate::cluster::{Cluster, get, publish, put_surely, url, wait_until};

#[tokio::test]
async fn added_member_votes_when_it_has_caught_up() {
    let mut cluster = Cluster::new(1, |_| {}).await;
    let first = cluster.ids[0];
    for n in 0..50 {
        put_surely(cluster.node(first), &format!("k{n}"), "v").await;
    }
    let (member, members) = cluster.node(first).add_member(vec![url(1)]).await.unwrap();
    assert_eq!(members.len(), 2);
    assert!(!member.is_learner);
    // It has not started, and costs nothing yet.
    put_surely(cluster.node(first), "alone", "1").await;

    cluster.start(member.id).await;
    wait_until("the new member to have all", || {
        get(cluster.node(member.id), "alone").is_some()
    })
    .await;
    put_surely(cluster.node(member.id), "together", "1").await;
    cluster.wait_equal().await;
    wait_until("the new member to vote", || {
        cluster.node(member.id).status().role == Role::Follower
    })
    .await;
    cluster.node(first).move_leader(member.id).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn learner_is_promoted_and_removed_member_stops() {
    let mut cluster = Cluster::new(3, |_| {}).await;
    let follower = cluster.follower().await;
    // Any member takes the change.
    let (learner, _) = cluster
        .node(follower)
        .add_learner(vec![url(7)])
        .await
        .unwrap();
    let early = cluster.node(follower).promote_member(learner.id).await;
    assert_eq!(early.unwrap_err(), MemberError::LearnerNotReady);
    cluster.start(learner.id).await;
    wait_until("a learner", || {
        cluster.node(learner.id).status().role == Role::Learner
    })
    .await;
    put_surely(cluster.node(learner.id), "a", "1").await;
    let published = publish(learner.id, "m7");
    cluster.node(learner.id).propose(published).await.unwrap();
    loop {
        match cluster.node(follower).promote_member(learner.id).await {
            Ok(members) => {
                assert!(members.iter().all(|member| !member.is_learner));
                break;
            }
            Err(error) => assert_eq!(error, MemberError::LearnerNotReady),
        }
    }
    let again = cluster.node(follower).promote_member(learner.id).await;
    assert_eq!(again.unwrap_err(), MemberError::NotLearner);

    let left = cluster
        .node(follower)
        .remove_member(learner.id)
        .await
        .unwrap();
    assert_eq!(left.len(), 3);
    let reason = cluster.node(learner.id).stopped().await;
    assert!(
        matches!(reason, Stop::Removed | Stop::Refused(_)),
        "{reason}"
    );
    let again = cluster.node(follower).remove_member(learner.id).await;
    assert_eq!(again.unwrap_err(), MemberError::NotFound);
    cluster.shutdown().await;
}

#[tokio::test]
async fn removed_leader_hands_over_and_stops() {
    let mut cluster = Cluster::new(3, |_| {}).await;
    let leader = cluster.leader().await;
    let other = cluster.follower().await;
    cluster.node(leader).remove_member(leader).await.unwrap();
    assert_eq!(cluster.node(leader).stopped().await, Stop::Removed);
    cluster.stop(leader).await;
    put_surely(cluster.node(other), "a", "1").await;
    assert_eq!(cluster.node(other).reader().members().present.len(), 2);
    // It knows by itself, also when it is started again.
    cluster.start(leader).await;
    assert_eq!(cluster.node(leader).stopped().await, Stop::Removed);
    cluster.shutdown().await;
}

#[tokio::test]
async fn urls_are_updated_and_not_shared() {
    let cluster = Cluster::new(3, |_| {}).await;
    let follower = cluster.follower().await;
    let taken = cluster.node(follower).add_member(vec![url(0)]).await;
    assert_eq!(taken.unwrap_err(), MemberError::PeerUrlExists);
    let members = cluster
        .node(follower)
        .update_member(follower, vec![url(9)])
        .await
        .unwrap();
    let moved = members.iter().find(|member| member.id == follower).unwrap();
    assert_eq!(moved.peer_urls, [url(9)]);
    put_surely(cluster.node(follower), "a", "1").await;
    cluster.wait_equal().await;
    cluster.shutdown().await;
}
