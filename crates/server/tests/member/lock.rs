//! Service Lock.

use std::time::Duration;

use catena_api::etcd::{
    etcdserverpb as pb,
    lockpb::{LockRequest, UnlockRequest},
};
use tonic::Code;

use crate::one::{One, assert_error, in_time};

fn lock(lease: i64) -> LockRequest {
    LockRequest {
        name: "name".into(),
        lease,
    }
}

async fn grant(one: &One, id: i64) {
    let request = pb::LeaseGrantRequest { id, ttl: 60 };
    one.lease().lease_grant(request).await.unwrap();
}

#[tokio::test]
async fn lock_is_handed_on_when_it_is_given_up() {
    let one = One::start().await;
    grant(&one, 0xa).await;
    grant(&one, 0xb).await;
    let first = one.lock().lock(lock(0xa)).await.unwrap().into_inner();
    assert_eq!(first.key, "name/a");
    assert_eq!(first.header.unwrap().revision, 2);
    let mut waiter = one.lock();
    let mut second = Box::pin(waiter.lock(lock(0xb)));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
    assert!(early.is_err(), "the lock is held");
    one.lock()
        .unlock(UnlockRequest { key: first.key })
        .await
        .unwrap();
    let second = in_time(second).await.unwrap().into_inner();
    assert_eq!(second.key, "name/b");
}

#[tokio::test]
async fn lock_without_a_lease_gets_one_of_a_minute() {
    let one = One::start().await;
    let locked = one.lock().lock(lock(0)).await.unwrap().into_inner();
    let hex = locked.key.strip_prefix(b"name/").unwrap();
    let id = i64::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    let request = pb::LeaseTimeToLiveRequest { id, keys: true };
    let shown = one
        .lease()
        .lease_time_to_live(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((shown.granted_ttl, shown.keys), (60, vec![locked.key]));
}

#[tokio::test]
async fn errors_have_lost_their_code() {
    let one = One::start().await;
    let refused = one.lock().lock(lock(0x77)).await;
    assert_error(
        refused,
        Code::Unknown,
        "etcdserver: requested lease not found",
    );
    let refused = one.lock().unlock(UnlockRequest::default()).await;
    assert_error(refused, Code::Unknown, "etcdserver: key is not provided");
    one.lock()
        .unlock(UnlockRequest { key: "none".into() })
        .await
        .unwrap();
}
