//! Limits of requests, the quota, and what metadata asks for.

use catena_api::etcd::etcdserverpb as pb;
use tonic::{Code, Request};

use crate::one::{One, assert_error, get, put};

#[tokio::test]
async fn large_requests_are_refused_in_two_ways() {
    let one = One::start().await;
    let of = |bytes: usize| put("k", &"v".repeat(bytes));
    one.kv().put(of(1_572_864 - 64)).await.unwrap();
    let refused = one.kv().put(of(1_572_864)).await;
    assert_error(
        refused,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    let beyond = of(3 << 20);
    let length = prost::Message::encoded_len(&beyond);
    let text = format!("grpc: received message larger than max ({length} vs. 2097152)");
    assert_error(one.kv().put(beyond).await, Code::ResourceExhausted, &text);
    assert_eq!(one.get("k").await.kvs[0].value().len(), 1_572_864 - 64);
}

#[tokio::test]
async fn full_database_refuses_writes_and_raises_the_alarm() {
    // The engine in memory has no files, so its size is that of the data.
    let one = One::start_with(|config| config.quota_bytes = 256 << 10).await;
    let mut refused = None;
    for number in 0..100 {
        let written = one
            .kv()
            .put(put(&format!("k{number}"), &"v".repeat(16 << 10)))
            .await;
        if let Err(status) = written {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("the quota is smaller than what was written");
    let text = "etcdserver: mvcc: database space exceeded";
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, text)
    );
    // Before validation; and by the alarm although there would be room.
    for refused in [put("", &"v".repeat(16 << 10)), put("k", "")] {
        let refused = one.kv().put(refused).await;
        assert_error(refused, Code::ResourceExhausted, text);
    }
    let grant = pb::LeaseGrantRequest { id: 1, ttl: 60 };
    assert_error(
        one.lease().lease_grant(grant).await,
        Code::ResourceExhausted,
        text,
    );
    let alarms = one
        .maintenance()
        .alarm(pb::AlarmRequest::default())
        .await
        .unwrap()
        .into_inner();
    let expected = pb::AlarmMember {
        member_id: one.member.id(),
        alarm: pb::AlarmType::Nospace.into(),
    };
    assert_eq!(alarms.alarms, [expected]);
    let status = one
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        status.errors,
        [format!("memberID:{} alarm:NOSPACE", one.member.id())]
    );
    one.get("k0").await;
    let delete = pb::DeleteRangeRequest {
        key: "k0".into(),
        ..Default::default()
    };
    one.kv().delete_range(delete).await.unwrap();
}

#[tokio::test]
async fn metadata_is_checked() {
    let one = One::start().await;
    let mut request = Request::new(get("a"));
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().unwrap());
    request
        .metadata_mut()
        .insert("client-api-version", "3.7.1".parse().unwrap());
    one.kv().range(request).await.unwrap();
    let mut request = Request::new(get("a"));
    let raw = http::HeaderValue::from_bytes(&[0xff]).unwrap();
    request
        .metadata_mut()
        .as_mut()
        .insert("client-api-version", raw);
    let refused = one.kv().range(request).await;
    let text = "etcdserver: invalid client api version";
    assert_error(refused, Code::InvalidArgument, text);
}
