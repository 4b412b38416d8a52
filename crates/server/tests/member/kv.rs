//! Service KV.

use catena_api::etcd::etcdserverpb::{self as pb, compare, request_op::Request, response_op};
use tonic::Code;

use crate::one::{One, assert_error, get, prefix, put};

#[tokio::test]
async fn put_and_range_answer_with_headers() {
    let one = One::start().await;
    let first = one.put("a", "1").await;
    assert_eq!(first.revision, 2);
    assert_eq!(first.member_id, one.member.id());
    assert_eq!(first.cluster_id, one.member.cluster_id());
    assert!(first.raft_term >= 1);
    let read = one.get("a").await;
    assert_eq!(read.header.unwrap().revision, 2);
    assert_eq!((read.count, read.more), (1, false));
    let kv = read.kvs[0].view();
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 2, 1));
    let previous = pb::PutRequest {
        prev_kv: true,
        ..put("a", "2")
    };
    let response = one.kv().put(previous).await.unwrap().into_inner();
    assert_eq!(response.prev_kv.unwrap().value(), "1");
    let old = pb::RangeRequest {
        revision: 2,
        ..get("a")
    };
    let response = one.kv().range(old).await.unwrap().into_inner();
    assert_eq!(response.kvs[0].value(), "1");
    assert_eq!(response.header.unwrap().revision, 3);
}

#[tokio::test]
async fn range_checks_its_request() {
    let one = One::start().await;
    let mut kv = one.kv();
    let empty = kv.range(get("")).await;
    assert_error(
        empty,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let sort = pb::RangeRequest {
        sort_order: 7,
        ..get("a")
    };
    let refused = kv.range(sort).await;
    assert_error(
        refused,
        Code::InvalidArgument,
        "etcdserver: invalid sort option",
    );
    let future = pb::RangeRequest {
        revision: 99,
        ..get("a")
    };
    let refused = kv.range(future).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_error(refused, Code::OutOfRange, text);
}

#[tokio::test]
async fn put_checks_its_request() {
    let one = One::start().await;
    let mut kv = one.kv();
    let refused = kv.put(put("", "1")).await;
    assert_error(
        refused,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let value = pb::PutRequest {
        ignore_value: true,
        ..put("a", "1")
    };
    assert_error(
        kv.put(value).await,
        Code::InvalidArgument,
        "etcdserver: value is provided",
    );
    let lease = pb::PutRequest {
        ignore_lease: true,
        lease: 1,
        ..put("a", "1")
    };
    assert_error(
        kv.put(lease).await,
        Code::InvalidArgument,
        "etcdserver: lease is provided",
    );
    let unknown = pb::PutRequest {
        lease: 1,
        ..put("a", "1")
    };
    let refused = kv.put(unknown).await;
    assert_error(
        refused,
        Code::NotFound,
        "etcdserver: requested lease not found",
    );
    let missing = pb::PutRequest {
        ignore_value: true,
        ..put("a", "")
    };
    assert_error(
        kv.put(missing).await,
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
}

#[tokio::test]
async fn delete_range_counts_and_shows_what_it_deleted() {
    let one = One::start().await;
    for key in ["a/1", "a/2", "b"] {
        one.put(key, "v").await;
    }
    let delete = pb::DeleteRangeRequest {
        key: "a/".into(),
        range_end: "a0".into(),
        prev_kv: true,
    };
    let mut kv = one.kv();
    let response = kv.delete_range(delete.clone()).await.unwrap().into_inner();
    assert_eq!((response.deleted, response.prev_kvs.len()), (2, 2));
    assert_eq!(response.header.unwrap().revision, 5);
    let response = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!(response.deleted, 0);
    assert_eq!(response.header.unwrap().revision, 5);
    let refused = kv.delete_range(pb::DeleteRangeRequest::default()).await;
    assert_error(
        refused,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn absent(key: &str) -> pb::Compare {
    pb::Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Version.into(),
        key: key.to_owned().into(),
        target_union: Some(compare::TargetUnion::Version(0)),
        ..Default::default()
    }
}

#[tokio::test]
async fn txn_takes_one_of_two_branches() {
    let one = One::start().await;
    let txn = pb::TxnRequest {
        compare: vec![absent("a")],
        success: vec![op(Request::RequestPut(put("a", "1")))],
        failure: vec![op(Request::RequestRange(get("a")))],
    };
    let mut kv = one.kv();
    let first = kv.txn(txn.clone()).await.unwrap().into_inner();
    assert!(first.succeeded);
    assert_eq!(first.header.unwrap().revision, 2);
    let second = kv.txn(txn).await.unwrap().into_inner();
    assert!(!second.succeeded);
    assert_eq!(second.header.unwrap().revision, 2);
    let Some(response_op::Response::ResponseRange(range)) = &second.responses[0].response else {
        panic!("a range in {second:?}");
    };
    assert_eq!(range.kvs[0].value(), "1");
}

#[tokio::test]
async fn read_only_txn_takes_no_revision_and_no_entry() {
    let one = One::start().await;
    one.put("a", "1").await;
    let before = one
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    let read = |serializable| {
        op(Request::RequestRange(pb::RangeRequest {
            serializable,
            ..get("a")
        }))
    };
    for serializable in [false, true] {
        let txn = pb::TxnRequest {
            success: vec![read(serializable)],
            ..Default::default()
        };
        let response = one.kv().txn(txn).await.unwrap().into_inner();
        assert!(response.succeeded);
        assert_eq!(response.header.unwrap().revision, 2);
    }
    let after = one
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(after.raft_index, before.raft_index);
}

#[tokio::test]
async fn txn_checks_its_request() {
    let one = One::start_with(|config| config.max_txn_ops = 2).await;
    let mut kv = one.kv();
    let put = |key: &str| op(Request::RequestPut(put(key, "1")));
    let txn = |success| pb::TxnRequest {
        success,
        ..Default::default()
    };
    let refused = kv.txn(txn(vec![put("a"), put("b"), put("c")])).await;
    let text = "etcdserver: too many operations in txn request";
    assert_error(refused, Code::InvalidArgument, text);
    let refused = kv.txn(txn(vec![put("a"), put("a")])).await;
    let text = "etcdserver: duplicate key given in txn request";
    assert_error(refused, Code::InvalidArgument, text);
    let refused = kv.txn(txn(vec![pb::RequestOp::default()])).await;
    assert_error(refused, Code::InvalidArgument, "etcdserver: key not found");
    let compare = pb::TxnRequest {
        compare: vec![absent("")],
        ..Default::default()
    };
    let refused = kv.txn(compare).await;
    assert_error(
        refused,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
}

#[tokio::test]
async fn compaction_hides_what_came_before() {
    let one = One::start().await;
    for value in ["1", "2", "3"] {
        one.put("a", value).await;
    }
    let mut kv = one.kv();
    let compact = |revision| pb::CompactionRequest {
        revision,
        physical: true,
    };
    let response = kv.compact(compact(3)).await.unwrap().into_inner();
    assert_eq!(response.header.unwrap().revision, 4);
    let old = pb::RangeRequest {
        revision: 2,
        ..get("a")
    };
    let text = "etcdserver: mvcc: required revision has been compacted";
    assert_error(kv.range(old).await, Code::OutOfRange, text);
    assert_error(kv.compact(compact(3)).await, Code::OutOfRange, text);
    let refused = kv.compact(compact(99)).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_error(refused, Code::OutOfRange, text);
    let at = pb::RangeRequest {
        revision: 3,
        ..get("a")
    };
    let response = kv.range(at).await.unwrap().into_inner();
    assert_eq!(response.kvs[0].value(), "2");
}

#[tokio::test]
async fn range_stream_gives_all_in_chunks_and_one_header_last() {
    let one = One::start().await;
    for number in 0..35 {
        one.put(&format!("k/{number:02}"), "v").await;
    }
    let mut stream = one
        .kv()
        .range_stream(prefix("k/"))
        .await
        .unwrap()
        .into_inner();
    let mut chunks = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        chunks.push(message.range_response.unwrap());
    }
    let keys: usize = chunks.iter().map(|chunk| chunk.kvs.len()).sum();
    assert_eq!(keys, 35);
    assert!(chunks.len() > 1);
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last.count, 35);
    assert_eq!(last.header.unwrap().revision, 36);
    assert_eq!(last.header.unwrap().member_id, one.member.id());
    assert!(
        others
            .iter()
            .all(|chunk| chunk.header.is_none() && chunk.count == 0)
    );
}

#[tokio::test]
async fn range_stream_refuses_orders_and_filters() {
    let one = One::start().await;
    let sorted = pb::RangeRequest {
        sort_order: pb::range_request::SortOrder::Descend.into(),
        ..prefix("k/")
    };
    let refused = one.kv().range_stream(sorted).await;
    let text = "RangeStream does not support custom sort orders";
    assert_error(refused, Code::Unimplemented, text);
    let filtered = pb::RangeRequest {
        min_mod_revision: 2,
        ..prefix("k/")
    };
    let refused = one.kv().range_stream(filtered).await;
    let text = "RangeStream does not support revision filters";
    assert_error(refused, Code::Unimplemented, text);
}
