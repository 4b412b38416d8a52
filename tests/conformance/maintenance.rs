//! Maintenance: status, hashes, alarms and quota, snapshot, defragmentation, leadership.

use std::time::Duration;

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{
        AlarmMember, AlarmRequest, DefragmentRequest, HashRequest, MoveLeaderRequest, PutRequest,
        SnapshotRequest, TxnRequest,
    },
};
use framework::{
    Client,
    message::{Op, delete, one, put, txn},
    wait_until,
};
use sha2::{Digest, Sha256};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(status_fields),
        case!(hash_kv_vectors).fresh(&[]),
        case!(hash_kv_of_old_revisions),
        case!(hash_kv_refuses_future_and_compacted),
        case!(hash_kv_of_the_compacted_revision_is_kept),
        case!(hash_kv_is_equal_on_all_members).members(3),
        case!(hash_answers),
        case!(alarms_are_set_listed_and_cleared),
        case!(nospace_alarm_refuses_growth_only),
        case!(corrupt_alarm_refuses_changes),
        case!(quota_raises_the_alarm)
            .members(1)
            .fresh(&["--quota-backend-bytes=1000000"]),
        case!(snapshot_is_framed_and_digested),
        case!(snapshot_works_on_every_member).members(3),
        case!(defragment_keeps_everything),
        case!(move_leader_to_itself_is_nothing).members(1),
        case!(move_leader_to_unknown_is_refused),
        case!(move_leader_moves).members(3),
        case!(move_leader_on_follower_is_refused).members(3),
    ]
}

async fn status_fields(s: &Session<'_>) -> Result<()> {
    s.puts(&[("k", "v")]).await?;
    let status = s.client.status().await?;
    let header = status.header.unwrap_or_default();
    ensure!(header.member_id != 0 && header.cluster_id != 0);
    ensure!(status.version.split('.').count() == 3, "{}", status.version);
    ensure!(
        status.storage_version == "3.7.0",
        "{}",
        status.storage_version
    );
    ensure!(
        s.client
            .members()
            .await?
            .iter()
            .any(|member| member.id == status.leader)
    );
    ensure!(
        status.db_size > 0 && status.db_size_in_use > 0 && status.db_size_in_use <= status.db_size
    );
    ensure!(
        status.db_size_quota == 2_147_483_648,
        "{}",
        status.db_size_quota
    );
    ensure!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 0);
    ensure!(status.raft_term == header.raft_term && status.raft_term > 0);
    ensure!(
        !status.is_learner && status.errors.is_empty(),
        "{:?}",
        status.errors
    );
    ensure!(
        status
            .downgrade_info
            .is_some_and(|info| !info.enabled && info.target_version.is_empty())
    );
    Ok(())
}

async fn hash_kv_vectors(s: &Session<'_>) -> Result<()> {
    let check = async |revision: i64, hash: u32| {
        let response = s.client.hash_kv(0).await?;
        ensure!(
            (response.hash, response.hash_revision) == (hash, revision),
            "{response:?}"
        );
        ensure!(response.compact_revision == -1 && revision_of(&response.header) == revision);
        Ok(())
    };
    s.client.revision().await?;
    check(1, 1_084_519_789).await?;
    s.client.put("foo", "bar").await?;
    s.client.revision().await?;
    check(2, 3_305_255_506).await?;
    s.client.delete("foo").await?;
    s.client.revision().await?;
    check(3, 2_489_925_301).await
}

async fn hash_kv_of_old_revisions(s: &Session<'_>) -> Result<()> {
    let first = s.puts(&[("a", "1")]).await?;
    let then = s.client.hash_kv(first).await?;
    let last = s.puts(&[("a", "2"), ("b", "1")]).await?;
    let now = s.client.hash_kv(first).await?;
    ensure!((now.hash, now.hash_revision) == (then.hash, first));
    ensure!(
        revision_of(&now.header) == last,
        "the header shows the present revision"
    );
    ensure!(s.client.hash_kv(last).await?.hash != then.hash);
    Ok(())
}

async fn hash_kv_refuses_future_and_compacted(s: &Session<'_>) -> Result<()> {
    let last = s.puts(&[("a", "1"), ("a", "2")]).await?;
    refused(s.client.hash_kv(last + 1).await, errors::FUTURE_REVISION)?;
    s.client.compact(last).await?;
    refused(s.client.hash_kv(last - 1).await, errors::COMPACTED)?;
    let next = s.puts(&[("a", "3")]).await?;
    ensure!(s.client.hash_kv(next).await?.compact_revision == last);
    Ok(())
}

/// A compaction notes the hash of what it saw, so that members that compact at different moments can be compared.
async fn hash_kv_of_the_compacted_revision_is_kept(s: &Session<'_>) -> Result<()> {
    let first = s.puts(&[("a", "1"), ("a", "2")]).await?;
    s.client.compact(first).await?;
    let last = s.puts(&[("a", "3"), ("b", "1")]).await?;
    let before = s.client.hash_kv(last).await?;
    s.client.compact(last).await?;
    let after = s.client.hash_kv(last).await?;
    let seen = (after.hash, after.compact_revision, after.hash_revision);
    ensure!(seen == (before.hash, first, last));
    Ok(())
}

async fn hash_kv_is_equal_on_all_members(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", "1"), ("b", "1"), ("a", "2")]).await?;
    s.client.delete("b").await?;
    let hashes = s.cluster.hashes().await?;
    ensure!(
        hashes.windows(2).all(|pair| pair[0].hash == pair[1].hash),
        "{hashes:?}"
    );
    Ok(())
}

async fn hash_answers(s: &Session<'_>) -> Result<()> {
    let response = s
        .client
        .maintenance()
        .hash(HashRequest {})
        .await?
        .into_inner();
    ensure!(response.hash != 0 && response.header.is_some());
    Ok(())
}

const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;
const NOSPACE: i32 = 1;
const CORRUPT: i32 = 2;

async fn alarm(
    client: &Client,
    action: i32,
    member_id: u64,
    alarm: i32,
) -> Result<Vec<AlarmMember>> {
    let request = AlarmRequest {
        action,
        member_id,
        alarm,
    };
    Ok(client
        .maintenance()
        .alarm(request)
        .await?
        .into_inner()
        .alarms)
}

async fn alarms_are_set_listed_and_cleared(s: &Session<'_>) -> Result<()> {
    let set = [AlarmMember {
        member_id: 5,
        alarm: NOSPACE,
    }];
    ensure!(alarm(&s.client, GET, 0, 0).await?.is_empty());
    ensure!(
        alarm(&s.client, ACTIVATE, 5, 0).await?.is_empty(),
        "an alarm of no kind is none"
    );
    for _ in 0..2 {
        ensure!(alarm(&s.client, ACTIVATE, 5, NOSPACE).await? == set);
    }
    ensure!(
        alarm(&s.client, GET, 77, 0).await? == set,
        "the member id of a question is ignored"
    );
    ensure!(alarm(&s.client, GET, 0, NOSPACE).await? == set);
    ensure!(alarm(&s.client, GET, 0, CORRUPT).await?.is_empty());
    let errors = s.client.status().await?.errors;
    ensure!(
        errors.len() == 1 && errors[0].trim() == "memberID:5 alarm:NOSPACE",
        "{errors:?}"
    );
    ensure!(alarm(&s.client, DEACTIVATE, 6, NOSPACE).await?.is_empty());
    ensure!(alarm(&s.client, DEACTIVATE, 5, NOSPACE).await? == set);
    ensure!(alarm(&s.client, GET, 0, 0).await?.is_empty());
    Ok(())
}

async fn nospace_alarm_refuses_growth_only(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(100, 0).await?.id;
    s.puts(&[("a", "1"), ("b", "1")]).await?;
    alarm(&s.client, ACTIVATE, 5, NOSPACE).await?;
    refused(s.client.put("a", "2").await, errors::NO_SPACE)?;
    refused(s.client.grant(100, 0).await, errors::NO_SPACE)?;
    let writing = txn(vec![], vec![], vec![put("a", "2").op()]);
    refused(s.client.txn(writing).await, errors::NO_SPACE)?;
    s.client
        .txn(txn(vec![], vec![one("a").op()], vec![]))
        .await?;
    s.client
        .txn(txn(vec![], vec![delete("b", "").op()], vec![]))
        .await?;
    s.client.delete("a").await?;
    let last = s.client.revision().await?;
    s.client.compact(last).await?;
    ensure!(
        s.client
            .keep_alive(lease)
            .await?
            .is_some_and(|answer| answer.ttl == 100)
    );
    s.client.revoke(lease).await?;
    alarm(&s.client, DEACTIVATE, 5, NOSPACE).await?;
    s.client.put("a", "2").await?;
    Ok(())
}

async fn corrupt_alarm_refuses_changes(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(100, 0).await?.id;
    s.puts(&[("a", "1")]).await?;
    alarm(&s.client, ACTIVATE, 5, CORRUPT).await?;
    refused(s.client.put("a", "2").await, errors::CORRUPT)?;
    refused(s.client.delete("a").await, errors::CORRUPT)?;
    refused(s.client.grant(100, 0).await, errors::CORRUPT)?;
    refused(s.client.revoke(lease).await, errors::CORRUPT)?;
    refused(s.client.compact(1).await, errors::CORRUPT)?;
    refused(
        s.client
            .txn(txn(vec![], vec![delete("a", "").op()], vec![]))
            .await,
        errors::CORRUPT,
    )?;
    s.client.get("a").await?;
    alarm(&s.client, DEACTIVATE, 5, CORRUPT).await?;
    ensure!(&s.client.get("a").await?.kvs[0].value()[..] == b"1");
    Ok(())
}

async fn quota_raises_the_alarm(s: &Session<'_>) -> Result<()> {
    let mut n = 0;
    // The size is that of the file, which grows when the member commits, not with each write.
    let status = wait_until(
        "the quota is reached",
        Duration::from_secs(20),
        async || {
            n += 1;
            let put = s.client.put(format!("k{n}"), vec![b'v'; 100_000]);
            put.await.err()
        },
    )
    .await?;
    refused::<()>(Err(status), errors::NO_SPACE)?;
    refused(s.client.put("k", "v").await, errors::NO_SPACE)?;
    // The quota is looked at before the request is, by the member that is asked.
    let unnamed = s.client.put("", vec![b'v'; 1_000_000]);
    refused(unnamed.await, errors::NO_SPACE)?;
    let alarms = alarm(&s.client, GET, 0, 0).await?;
    ensure!(
        !alarms.is_empty() && alarms.iter().all(|alarm| alarm.alarm == NOSPACE),
        "{alarms:?}"
    );
    s.client.get("k1").await?;
    s.client.delete_with(delete("\0", "\0")).await?;
    Ok(())
}

async fn snapshot_is_framed_and_digested(s: &Session<'_>) -> Result<()> {
    for n in 0..20 {
        s.client.put(format!("k{n}"), vec![b'v'; 10_000]).await?;
    }
    snapshot(&s.client).await
}

/// Takes a snapshot and checks its frames: sizes count down, the last blob is the SHA-256 of all before, the file is whole pages.
async fn snapshot(client: &Client) -> Result<()> {
    let mut stream = client
        .maintenance()
        .snapshot(SnapshotRequest {})
        .await?
        .into_inner();
    let (mut file, mut digest) = (Vec::new(), None);
    let mut remaining = None;
    while let Some(part) = stream.message().await? {
        ensure!(part.version == "3.7.0", "{:?}", part.version);
        ensure!(digest.is_none(), "nothing follows the digest");
        if let Some(before) = remaining {
            let sent = if part.remaining_bytes == 0 && before == 0 {
                0
            } else {
                part.blob.len() as u64
            };
            ensure!(
                before == part.remaining_bytes + sent,
                "{before}, then {}",
                part.remaining_bytes
            );
        }
        if remaining == Some(0) {
            digest = Some(part.blob);
        } else {
            ensure!(part.blob.len() <= 32 * 1024 && !part.blob.is_empty());
            remaining = Some(part.remaining_bytes);
            file.extend_from_slice(&part.blob);
        }
    }
    ensure!(file.len().is_multiple_of(512) && file.len() > 4096);
    ensure!(digest.is_some_and(|digest| digest[..] == Sha256::digest(&file)[..]));
    ensure!(
        file[16..20] == 0xED0C_DAED_u32.to_le_bytes(),
        "it is a bbolt file"
    );
    Ok(())
}

async fn snapshot_works_on_every_member(s: &Session<'_>) -> Result<()> {
    s.puts(&[("k", "v")]).await?;
    for place in 0..3 {
        snapshot(&s.cluster.client(place)?).await?;
    }
    Ok(())
}

async fn defragment_keeps_everything(s: &Session<'_>) -> Result<()> {
    let revision = s.puts(&[("a", "1"), ("b", "2"), ("a", "3")]).await?;
    let before = s.client.hash_kv(revision).await?;
    let response = s
        .client
        .maintenance()
        .defragment(DefragmentRequest {})
        .await?
        .into_inner();
    ensure!(response.header.is_none());
    let after = s.client.hash_kv(revision).await?;
    ensure!((before.hash, before.compact_revision) == (after.hash, after.compact_revision));
    s.puts(&[("c", "1")]).await?;
    Ok(())
}

async fn move_leader_to_itself_is_nothing(s: &Session<'_>) -> Result<()> {
    let target_id = s.client.status().await?.leader;
    let response = s
        .client
        .maintenance()
        .move_leader(MoveLeaderRequest { target_id })
        .await?
        .into_inner();
    ensure!(response.header.is_none());
    Ok(())
}

async fn move_leader_to_unknown_is_refused(s: &Session<'_>) -> Result<()> {
    let leader = s.cluster.leader().await?;
    let request = MoveLeaderRequest { target_id: 4711 };
    let result = s
        .cluster
        .client(leader)?
        .maintenance()
        .move_leader(request)
        .await;
    refused(result, errors::BAD_TRANSFEREE)
}

async fn move_leader_moves(s: &Session<'_>) -> Result<()> {
    let leader = s.cluster.leader().await?;
    let target = s.cluster.client(leader + 1)?;
    let target_id = target.status().await?.header.unwrap_or_default().member_id;
    s.cluster
        .client(leader)?
        .maintenance()
        .move_leader(MoveLeaderRequest { target_id })
        .await?;
    ensure!(s.cluster.leader().await? == (leader + 1) % 3);
    let answered = wait_until(
        "the new leader takes writes",
        Duration::from_secs(5),
        async || {
            target
                .put_with(PutRequest::clone(&put("k", "v")))
                .await
                .ok()
        },
    );
    answered.await?;
    target.txn(TxnRequest::default()).await?;
    Ok(())
}

async fn move_leader_on_follower_is_refused(s: &Session<'_>) -> Result<()> {
    let leader = s.cluster.leader().await?;
    let follower = s.cluster.client(leader + 1)?;
    let target_id = follower
        .status()
        .await?
        .header
        .unwrap_or_default()
        .member_id;
    let result = follower
        .maintenance()
        .move_leader(MoveLeaderRequest { target_id })
        .await;
    refused(result, errors::NOT_LEADER)
}
