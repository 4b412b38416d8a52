//! Service Lease.

use std::time::{Duration, Instant};

use catena_api::etcd::etcdserverpb as pb;
use tokio_stream::{StreamExt, iter};
use tonic::Code;

use crate::one::{DEADLINE, One, assert_error, in_time, put};

fn grant(id: i64, ttl: i64) -> pb::LeaseGrantRequest {
    pb::LeaseGrantRequest { id, ttl }
}

async fn attach(one: &One, key: &str, lease: i64) {
    let attached = pb::PutRequest {
        lease,
        ..put(key, "v")
    };
    one.kv().put(attached).await.unwrap();
}

async fn time_to_live(one: &One, id: i64) -> pb::LeaseTimeToLiveResponse {
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    one.lease()
        .lease_time_to_live(request)
        .await
        .unwrap()
        .into_inner()
}

async fn renew(one: &One, ids: &[i64]) -> Vec<pb::LeaseKeepAliveResponse> {
    let requests: Vec<_> = ids
        .iter()
        .map(|&id| pb::LeaseKeepAliveRequest { id })
        .collect();
    let answers = one
        .lease()
        .lease_keep_alive(iter(requests))
        .await
        .unwrap()
        .into_inner();
    answers.map(Result::unwrap).collect().await
}

#[tokio::test]
async fn grant_chooses_ids_and_raises_short_ttls() {
    let one = One::start_with(|config| config.election = Duration::from_millis(1000)).await;
    let mut lease = one.lease();
    let chosen = lease.lease_grant(grant(0, 100)).await.unwrap().into_inner();
    assert!(chosen.id > 0);
    assert_eq!((chosen.ttl, chosen.error.as_str()), (100, ""));
    let given = lease.lease_grant(grant(-7, -1)).await.unwrap().into_inner();
    assert_eq!((given.id, given.ttl), (-7, 2));
    let taken = lease.lease_grant(grant(-7, 10)).await;
    assert_error(
        taken,
        Code::FailedPrecondition,
        "etcdserver: lease already exists",
    );
    let long = lease.lease_grant(grant(0, 9_000_000_001)).await;
    assert_error(long, Code::OutOfRange, "etcdserver: too large lease TTL");
}

#[tokio::test]
async fn revoked_lease_takes_its_keys_with_it() {
    let one = One::start().await;
    one.lease().lease_grant(grant(5, 100)).await.unwrap();
    attach(&one, "a", 5).await;
    attach(&one, "b", 5).await;
    let revoke = pb::LeaseRevokeRequest { id: 5 };
    let response = one.lease().lease_revoke(revoke).await.unwrap().into_inner();
    assert_eq!(response.header.unwrap().revision, 4);
    assert_eq!(one.get("a").await.count, 0);
    let again = one.lease().lease_revoke(revoke).await;
    assert_error(
        again,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
}

#[tokio::test]
async fn time_to_live_shows_what_is_left_and_the_keys() {
    let one = One::start().await;
    one.lease().lease_grant(grant(5, 100)).await.unwrap();
    attach(&one, "b", 5).await;
    attach(&one, "a", 5).await;
    let shown = time_to_live(&one, 5).await;
    assert_eq!((shown.id, shown.ttl, shown.granted_ttl), (5, 99, 100));
    assert_eq!(shown.keys, ["a", "b"]);
    let gone = time_to_live(&one, 6).await;
    assert_eq!((gone.id, gone.ttl, gone.granted_ttl), (6, -1, 0));
    assert_eq!(gone.header.unwrap().revision, 3);
}

#[tokio::test]
async fn renewals_are_answered_in_order_and_unknown_leases_with_zero() {
    let one = One::start().await;
    for id in [1, 2, 3] {
        one.lease().lease_grant(grant(id, 10 * id)).await.unwrap();
    }
    let answers = renew(&one, &[3, 9, 1, 3]).await;
    let pairs: Vec<_> = answers
        .iter()
        .map(|answer| (answer.id, answer.ttl))
        .collect();
    assert_eq!(pairs, [(3, 30), (9, 0), (1, 10), (3, 30)]);
    assert!(
        answers
            .iter()
            .all(|answer| answer.header.unwrap().revision == 1)
    );
}

#[tokio::test]
async fn leases_are_listed_by_what_is_left() {
    let one = One::start().await;
    for (id, ttl) in [(1, 300), (2, 100), (3, 200)] {
        one.lease().lease_grant(grant(id, ttl)).await.unwrap();
    }
    for id in [1, 2, 3] {
        renew(&one, &[id]).await;
    }
    let listed = one
        .lease()
        .lease_leases(pb::LeaseLeasesRequest {})
        .await
        .unwrap();
    let ids: Vec<_> = listed
        .into_inner()
        .leases
        .iter()
        .map(|lease| lease.id)
        .collect();
    assert_eq!(ids, [2, 3, 1]);
}

#[tokio::test]
async fn lease_that_nobody_renews_ends_with_its_keys() {
    let one = One::start().await;
    let granted = one
        .lease()
        .lease_grant(grant(5, 1))
        .await
        .unwrap()
        .into_inner();
    let began = Instant::now();
    attach(&one, "a", granted.id).await;
    while one.get("a").await.count == 1 {
        assert!(began.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(renew(&one, &[5]).await[0].ttl, 0);
    assert_eq!(time_to_live(&one, 5).await.ttl, -1);
}

#[tokio::test]
async fn remaining_time_survives_a_restart() {
    let one = One::start_with(|config| config.engine = Default::default()).await;
    one.lease().lease_grant(grant(5, 60)).await.unwrap();
    one.lease().lease_grant(grant(6, 60)).await.unwrap();
    // Time passes for the lease that is not renewed.
    in_time(async {
        while time_to_live(&one, 5).await.ttl > 57 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    renew(&one, &[6]).await;
    let dir = one.stop().await;
    let one = One::start_in(dir, |config| config.engine = Default::default()).await;
    let shown = time_to_live(&one, 5).await;
    assert!(shown.ttl <= 58, "{shown:?}");
    assert_eq!(shown.granted_ttl, 60);
    let shown = time_to_live(&one, 6).await;
    assert!(shown.ttl >= 59, "{shown:?}");
    assert_eq!(renew(&one, &[5]).await[0].ttl, 60);
    assert!(time_to_live(&one, 5).await.ttl >= 59);
}
