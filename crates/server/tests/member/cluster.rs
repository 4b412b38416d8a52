//! Service Cluster, as far as one member can show it.

use catena_api::etcd::etcdserverpb as pb;
use tonic::Code;

use crate::one::{One, assert_error};

#[tokio::test]
async fn member_list_shows_what_the_member_published() {
    let one = One::start().await;
    for linearizable in [false, true] {
        let request = pb::MemberListRequest { linearizable };
        let list = one
            .cluster()
            .member_list(request)
            .await
            .unwrap()
            .into_inner();
        let header = list.header.unwrap();
        assert_eq!((header.revision, header.member_id), (0, one.member.id()));
        let member = &list.members[0];
        assert_eq!((member.id, member.name.as_str()), (one.member.id(), "one"));
        assert_eq!(member.peer_urls, ["http://localhost:2380"]);
        assert_eq!(member.client_urls, [one.url("")]);
        assert!(!member.is_learner);
    }
}

#[tokio::test]
async fn changes_of_members_are_checked() {
    let one = One::start().await;
    let mut cluster = one.cluster();
    let add = |urls: &[&str]| pb::MemberAddRequest {
        peer_urls: urls.iter().map(|&url| url.to_owned()).collect(),
        is_learner: false,
    };
    for bad in [&[][..], &["nonsense"], &["http://127.0.0.1:1/path"]] {
        let refused = cluster.member_add(add(bad)).await;
        assert_error(
            refused,
            Code::InvalidArgument,
            "etcdserver: given member URLs are invalid",
        );
    }
    let taken = cluster.member_add(add(&["http://localhost:2380"])).await;
    assert_error(
        taken,
        Code::FailedPrecondition,
        "etcdserver: Peer URLs already exists",
    );
    let unknown = cluster
        .member_remove(pb::MemberRemoveRequest { id: 9 })
        .await;
    assert_error(unknown, Code::NotFound, "etcdserver: member not found");
    let unknown = cluster
        .member_promote(pb::MemberPromoteRequest { id: 9 })
        .await;
    assert_error(unknown, Code::NotFound, "etcdserver: member not found");
    let update = pb::MemberUpdateRequest {
        id: 9,
        peer_urls: vec!["http://127.0.0.1:9".to_owned()],
    };
    let unknown = cluster.member_update(update).await;
    assert_error(unknown, Code::NotFound, "etcdserver: member not found");
    let last = pb::MemberRemoveRequest {
        id: one.member.id(),
    };
    let refused = cluster.member_remove(last).await;
    let text = "etcdserver: re-configuration failed due to not enough started members";
    assert_error(refused, Code::FailedPrecondition, text);
}

#[tokio::test]
async fn learner_is_listed_and_not_promoted_before_it_is_in_sync() {
    let one = One::start().await;
    let add = pb::MemberAddRequest {
        peer_urls: vec!["http://127.0.0.1:9".to_owned()],
        is_learner: true,
    };
    let added = one
        .cluster()
        .member_add(add.clone())
        .await
        .unwrap()
        .into_inner();
    let learner = added.member.unwrap();
    assert!(learner.is_learner);
    assert_eq!((learner.name.as_str(), added.members.len()), ("", 2));
    let promote = pb::MemberPromoteRequest { id: learner.id };
    let refused = one.cluster().member_promote(promote).await;
    let text = "etcdserver: can only promote a learner member which is in sync with leader";
    assert_error(refused, Code::FailedPrecondition, text);
    let another = pb::MemberAddRequest {
        peer_urls: vec!["http://127.0.0.1:10".to_owned()],
        is_learner: true,
    };
    let refused = one.cluster().member_add(another).await;
    let text = "etcdserver: too many learner members in cluster";
    assert_error(refused, Code::FailedPrecondition, text);
    let remove = pb::MemberRemoveRequest { id: learner.id };
    let removed = one
        .cluster()
        .member_remove(remove)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(removed.members.len(), 1);
    let again = one.cluster().member_remove(remove).await;
    assert_error(again, Code::NotFound, "etcdserver: member not found");
}
