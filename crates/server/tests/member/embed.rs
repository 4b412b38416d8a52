//! The member as a store in its own process.

use catena_client::{Error, pb, request};

use crate::one::{One, in_time};

#[tokio::test]
async fn embedded_store_is_the_member() {
    let one = One::start().await;
    let kv = one.member.kv();
    let written = kv.put(request::put("a", "1")).await.unwrap();
    assert_eq!(written.header.unwrap().revision, 2);
    assert_eq!(one.get("a").await.kvs[0].value(), "1");
    let granted = kv
        .lease_grant(pb::LeaseGrantRequest { id: 0, ttl: 60 })
        .await
        .unwrap();
    assert_eq!(kv.lease_renew(granted.id).await.unwrap().ttl, 60);
    assert_eq!(kv.leases().await.unwrap().leases.len(), 1);
    kv.lease_revoke(granted.id).await.unwrap();
    assert_eq!(kv.lease_renew(granted.id).await.unwrap().ttl, 0);
    let refused = kv.put(request::put("", "1")).await.unwrap_err();
    assert!(refused.is(catena_api::errors::EMPTY_KEY), "{refused}");
}

#[tokio::test]
async fn embedded_watch_delivers_progress_and_its_end() {
    let one = One::start().await;
    let kv = one.member.kv();
    let watch = pb::WatchCreateRequest {
        key: "a".into(),
        ..Default::default()
    };
    let mut watcher = kv.watch(watch.clone()).await.unwrap();
    assert_eq!(watcher.created().revision, 1);
    kv.put(request::put("a", "1")).await.unwrap();
    let response = in_time(watcher.next()).await.unwrap();
    assert_eq!(response.events[0].kv().unwrap().value(), "1");
    watcher.request_progress();
    let response = in_time(watcher.next()).await.unwrap();
    assert!(response.is_progress());
    assert_eq!(response.header.revision, 2);
    kv.put(request::put("a", "2")).await.unwrap();
    let compact = pb::CompactionRequest {
        revision: 3,
        physical: false,
    };
    kv.compact(compact).await.unwrap();
    let late = pb::WatchCreateRequest {
        start_revision: 2,
        ..watch.clone()
    };
    let mut late = kv.watch(late).await.unwrap();
    assert_eq!(
        in_time(late.next()).await,
        Err(Error::Compacted { revision: 3 })
    );
    let refused = pb::WatchCreateRequest {
        range_end: "A".into(),
        ..watch
    };
    let refused = kv.watch(refused).await.unwrap_err();
    assert!(
        refused.is(catena_api::errors::WATCH_EMPTY_RANGE),
        "{refused}"
    );
}
