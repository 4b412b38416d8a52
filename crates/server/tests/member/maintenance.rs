//! Service Maintenance.

use catena_api::etcd::etcdserverpb::{
    self as pb, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
};
use tonic::Code;

use crate::one::{One, assert_error, in_time};

#[tokio::test]
async fn status_tells_what_the_member_knows() {
    let one = One::start().await;
    one.put("a", "1").await;
    let status = one
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.header.unwrap().revision, 2);
    assert_eq!(
        (status.version.as_str(), status.storage_version.as_str()),
        ("3.7.1", "3.7.0")
    );
    assert_eq!((status.leader, status.is_learner), (one.member.id(), false));
    assert_eq!(status.raft_index, status.raft_applied_index);
    assert!(status.raft_term >= 1 && status.raft_index >= 3);
    assert_eq!(status.db_size_quota, 2_147_483_648);
    assert_eq!(status.errors, [""; 0]);
    assert_eq!(status.downgrade_info, Some(pb::DowngradeInfo::default()));
}

#[tokio::test]
async fn hash_kv_is_etcds() {
    let one = One::start().await;
    let hash = |revision| async move { pb::HashKvRequest { revision } };
    let mut maintenance = one.maintenance();
    let fresh = maintenance
        .hash_kv(hash(0).await)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (fresh.hash, fresh.compact_revision, fresh.hash_revision),
        (1_084_519_789, -1, 1)
    );
    one.put("foo", "bar").await;
    let put = maintenance
        .hash_kv(hash(0).await)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((put.hash, put.hash_revision), (3_305_255_506, 2));
    assert_eq!(put.header.unwrap().revision, 2);
    let before = maintenance
        .hash_kv(hash(1).await)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (before.hash, before.header.unwrap().revision),
        (1_084_519_789, 2)
    );
    let future = maintenance.hash_kv(hash(9).await).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    assert_error(future, Code::OutOfRange, text);
    maintenance.hash(pb::HashRequest {}).await.unwrap();
}

#[tokio::test]
async fn alarms_are_raised_listed_and_lifted() {
    let one = One::start().await;
    let alarm = |action: AlarmAction, alarm: pb::AlarmType| pb::AlarmRequest {
        action: action.into(),
        member_id: 7,
        alarm: alarm.into(),
    };
    let mut maintenance = one.maintenance();
    let raised = maintenance
        .alarm(alarm(AlarmAction::Activate, pb::AlarmType::Corrupt))
        .await;
    assert_eq!(raised.unwrap().into_inner().alarms.len(), 1);
    let all = maintenance
        .alarm(alarm(AlarmAction::Get, pb::AlarmType::None))
        .await
        .unwrap();
    assert_eq!(all.into_inner().alarms[0].member_id, 7);
    let other = maintenance
        .alarm(alarm(AlarmAction::Get, pb::AlarmType::Nospace))
        .await
        .unwrap();
    assert_eq!(other.into_inner().alarms, []);
    let refused = one.kv().put(crate::one::put("a", "1")).await;
    assert_error(refused, Code::DataLoss, "etcdserver: corrupt cluster");
    for left in [1, 0] {
        let lift = alarm(AlarmAction::Deactivate, pb::AlarmType::Corrupt);
        let lifted = maintenance.alarm(lift).await.unwrap().into_inner();
        assert_eq!(lifted.alarms.len(), left);
    }
    one.put("a", "1").await;
}

#[tokio::test]
async fn defragment_keeps_everything() {
    let one = One::start_with(|config| config.engine = Default::default()).await;
    one.put("a", "1").await;
    let done = one
        .maintenance()
        .defragment(pb::DefragmentRequest {})
        .await
        .unwrap();
    assert_eq!(done.into_inner().header, None);
    assert_eq!(one.get("a").await.kvs[0].value(), "1");
}

#[tokio::test]
async fn leadership_moves_only_to_voters() {
    let one = One::start().await;
    let to = |target_id| pb::MoveLeaderRequest { target_id };
    let own = one
        .maintenance()
        .move_leader(to(one.member.id()))
        .await
        .unwrap();
    assert_eq!(own.into_inner().header, None);
    let refused = one.maintenance().move_leader(to(9)).await;
    assert_error(
        refused,
        Code::FailedPrecondition,
        "etcdserver: bad leader transferee",
    );
}

#[tokio::test]
async fn downgrade_is_validated_and_not_begun() {
    let one = One::start().await;
    let downgrade = |action: DowngradeAction, version: &str| pb::DowngradeRequest {
        action: action.into(),
        version: version.to_owned(),
    };
    let mut maintenance = one.maintenance();
    in_time(async {
        let decided = || downgrade(DowngradeAction::Cancel, "");
        while maintenance.downgrade(decided()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for version in ["3.6", "3.6.0"] {
        let valid = maintenance
            .downgrade(downgrade(DowngradeAction::Validate, version))
            .await;
        assert_eq!(valid.unwrap().into_inner().version, "3.7");
    }
    let refused = maintenance
        .downgrade(downgrade(DowngradeAction::Validate, "3.5"))
        .await;
    let text = "etcdserver: invalid downgrade target version";
    assert_error(refused, Code::InvalidArgument, text);
    let refused = maintenance
        .downgrade(downgrade(DowngradeAction::Validate, "x"))
        .await;
    let text = "etcdserver: wrong downgrade target version format";
    assert_error(refused, Code::InvalidArgument, text);
    let refused = maintenance
        .downgrade(downgrade(DowngradeAction::Enable, "3.6"))
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
    let unknown = pb::DowngradeRequest {
        action: 9,
        version: "3.6".to_owned(),
    };
    let refused = maintenance.downgrade(unknown).await;
    assert_error(refused, Code::Unknown, "etcdserver: unknown method");
}

#[tokio::test]
async fn snapshot_is_a_bbolt_file_with_its_digest() {
    use catena_runtime::{Disk, OpenMode, SystemDisk};
    use catena_store::bbolt::{Digest, Reader};

    let one = One::start().await;
    for number in 0..100 {
        one.put(&format!("k{number}"), &"v".repeat(1000)).await;
    }
    let mut stream = one
        .maintenance()
        .snapshot(pb::SnapshotRequest {})
        .await
        .unwrap()
        .into_inner();
    let (mut file, mut remaining) = (Vec::new(), u64::MAX);
    while let Some(message) = in_time(stream.message()).await.unwrap() {
        assert_eq!((message.header, message.version.as_str()), (None, "3.7.0"));
        assert!(message.remaining_bytes <= remaining);
        remaining = message.remaining_bytes;
        file.extend(message.blob);
    }
    assert_eq!((remaining, file.len() % 512), (0, 32));
    let path = one.dir.path().join("snapshot.db");
    std::fs::write(&path, &file).unwrap();
    let opened = SystemDisk.open(&path, OpenMode::Read).unwrap();
    let status = Reader::open(opened, Digest::Required)
        .unwrap()
        .status()
        .unwrap();
    assert_eq!((status.revision, status.version.as_str()), (101, "3.7.0"));
}
