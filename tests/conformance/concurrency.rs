//! Lock and Election, which are clients of the store that the members run.

use anyhow::{Context, Result, ensure};
use catena_api::{
    errors::{self, ApiError},
    etcd::{
        electionpb::{
            CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
            ResignRequest,
        },
        lockpb::{LockRequest, UnlockRequest},
    },
};
use framework::message::{keys, text};
use tonic::{Code, Status, Streaming};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(lock_is_a_key_under_the_name),
        case!(lock_without_lease_gets_one),
        case!(lock_waits_for_the_owner),
        case!(lock_is_fair),
        case!(lock_errors),
        case!(abandoned_waiter_leaves_the_queue),
        case!(campaign_makes_a_leader),
        case!(campaign_again_proclaims),
        case!(proclaim_wants_the_leader),
        case!(resign_hands_over),
        case!(observe_follows_the_leaders),
        case!(leader_fields_are_demanded),
    ]
}

/// The errors of the inner client reach the caller as Unknown, with their text.
fn unknown(error: ApiError) -> ApiError {
    ApiError {
        code: Code::Unknown,
        ..error
    }
}

async fn lock(s: &Session<'_>, name: &'static str, lease: i64) -> Result<String, Status> {
    let response = s
        .client
        .lock()
        .lock(LockRequest {
            name: name.into(),
            lease,
        })
        .await?
        .into_inner();
    Ok(text(&response.key))
}

async fn unlock(s: &Session<'_>, key: &str) -> Result<(), Status> {
    let request = UnlockRequest {
        key: key.to_owned().into(),
    };
    s.client.lock().unlock(request).await.map(drop)
}

async fn lock_is_a_key_under_the_name(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(60, 0xabc).await?.id;
    let response = s
        .client
        .lock()
        .lock(LockRequest {
            name: "l".into(),
            lease,
        })
        .await?
        .into_inner();
    ensure!(&response.key[..] == b"l/abc");
    let kv = s.client.get("l/abc").await?.kvs[0].view();
    ensure!(kv.value.is_empty() && kv.lease == lease);
    ensure!(revision_of(&response.header) == kv.create_revision);
    ensure!(
        lock(s, "l", lease).await? == "l/abc",
        "the same session holds it already"
    );
    unlock(s, "l/abc").await?;
    ensure!(s.client.get("l/abc").await?.count == 0);
    unlock(s, "l/abc").await?;
    Ok(())
}

async fn lock_without_lease_gets_one(s: &Session<'_>) -> Result<()> {
    let key = lock(s, "l", 0).await?;
    let lease = s.client.get(key.clone()).await?.kvs[0].view().lease;
    ensure!(key == format!("l/{lease:x}"));
    ensure!(s.client.time_to_live(lease).await?.granted_ttl == 60);
    Ok(())
}

async fn lock_waits_for_the_owner(s: &Session<'_>) -> Result<()> {
    let (first, second) = (
        s.client.grant(60, 1).await?.id,
        s.client.grant(60, 2).await?.id,
    );
    lock(s, "l", first).await?;
    let waiting = lock(s, "l", second);
    let releasing = async {
        // The waiter's key shows that it waits.
        let queued = framework::wait_until(
            "the waiter is queued",
            std::time::Duration::from_secs(5),
            async || {
                s.client
                    .get("l/2")
                    .await
                    .ok()
                    .filter(|response| response.count == 1)
            },
        );
        queued.await?;
        unlock(s, "l/1").await?;
        anyhow::Ok(())
    };
    let (locked, released) = tokio::join!(waiting, releasing);
    released?;
    ensure!(locked? == "l/2");
    Ok(())
}

async fn lock_is_fair(s: &Session<'_>) -> Result<()> {
    for id in [3, 1, 2] {
        s.client.grant(60, id).await?;
    }
    lock(s, "l", 3).await?;
    let queue = async |id: i64| {
        let key = format!("l/{id:x}");
        framework::wait_until(
            "the waiter is queued",
            std::time::Duration::from_secs(5),
            async || {
                s.client
                    .get(key.clone())
                    .await
                    .ok()
                    .filter(|response| response.count == 1)
            },
        )
        .await
    };
    let order = std::cell::RefCell::new(Vec::new());
    let take = async |id: i64| {
        let key = lock(s, "l", id).await?;
        order.borrow_mut().push(id);
        unlock(s, &key).await?;
        anyhow::Ok(())
    };
    let (one, two) = (take(1), async {
        queue(1).await?;
        take(2).await
    });
    let release = async {
        queue(2).await?;
        unlock(s, "l/3").await?;
        anyhow::Ok(())
    };
    let (one, two, release) = tokio::join!(one, two, release);
    one.and(two).and(release)?;
    ensure!(*order.borrow() == [1, 2], "by age of the queue's keys");
    Ok(())
}

async fn lock_errors(s: &Session<'_>) -> Result<()> {
    refused(lock(s, "l", 4711).await, unknown(errors::LEASE_NOT_FOUND))?;
    refused(unlock(s, "").await, unknown(errors::EMPTY_KEY))
}

async fn abandoned_waiter_leaves_the_queue(s: &Session<'_>) -> Result<()> {
    let (first, second) = (
        s.client.grant(60, 1).await?.id,
        s.client.grant(60, 2).await?.id,
    );
    lock(s, "l", first).await?;
    let queued = |count: i64| {
        framework::wait_until(
            "the waiter's key",
            std::time::Duration::from_secs(10),
            async move || {
                s.client
                    .get("l/2")
                    .await
                    .ok()
                    .filter(|response| response.count == count)
            },
        )
    };
    tokio::select! {
        locked = lock(s, "l", second) => anyhow::bail!("locked while held: {locked:?}"),
        queued = queued(1) => queued?,
    };
    queued(0).await?;
    Ok(())
}

async fn campaign(s: &Session<'_>, lease: i64, value: &'static str) -> Result<LeaderKey> {
    let request = CampaignRequest {
        name: "e".into(),
        lease,
        value: value.into(),
    };
    let response = s.client.election().campaign(request).await?.into_inner();
    response.leader.context("a leader")
}

async fn leader(s: &Session<'_>) -> Result<LeaderResponse, Status> {
    let request = LeaderRequest { name: "e".into() };
    Ok(s.client.election().leader(request).await?.into_inner())
}

async fn campaign_makes_a_leader(s: &Session<'_>) -> Result<()> {
    refused(leader(s).await, errors::ELECTION_NO_LEADER)?;
    let lease = s.client.grant(60, 0xdef).await?.id;
    let won = campaign(s, lease, "me").await?;
    ensure!(&won.name[..] == b"e" && &won.key[..] == b"e/def" && won.lease == lease);
    let kv = leader(s).await?.kv.unwrap_or_default().view();
    ensure!(&kv.value[..] == b"me" && kv.create_revision == won.rev && kv.lease == lease);
    Ok(())
}

async fn campaign_again_proclaims(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(60, 0).await?.id;
    let first = campaign(s, lease, "one").await?;
    let second = campaign(s, lease, "two").await?;
    ensure!(first.rev == second.rev && first.key == second.key);
    ensure!(&leader(s).await?.kv.unwrap_or_default().value()[..] == b"two");
    Ok(())
}

async fn proclaim_wants_the_leader(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(60, 0).await?.id;
    let won = campaign(s, lease, "one").await?;
    let proclaim = |leader: LeaderKey| ProclaimRequest {
        leader: Some(leader),
        value: "two".into(),
    };
    s.client.election().proclaim(proclaim(won.clone())).await?;
    ensure!(&leader(s).await?.kv.unwrap_or_default().value()[..] == b"two");
    let stale = LeaderKey {
        rev: won.rev - 1,
        ..won
    };
    refused(
        s.client.election().proclaim(proclaim(stale.clone())).await,
        errors::ELECTION_NOT_LEADER,
    )?;
    // Resigning from what one does not hold changes nothing and is no error.
    s.client
        .election()
        .resign(ResignRequest {
            leader: Some(stale),
        })
        .await?;
    ensure!(leader(s).await?.kv.is_some());
    Ok(())
}

async fn resign_hands_over(s: &Session<'_>) -> Result<()> {
    let (first, second) = (
        s.client.grant(60, 1).await?.id,
        s.client.grant(60, 2).await?.id,
    );
    let won = campaign(s, first, "one").await?;
    let next = campaign(s, second, "two");
    let resign = async {
        let queued = framework::wait_until(
            "the rival is queued",
            std::time::Duration::from_secs(5),
            async || {
                s.client
                    .get("e/2")
                    .await
                    .ok()
                    .filter(|response| response.count == 1)
            },
        );
        queued.await?;
        s.client
            .election()
            .resign(ResignRequest { leader: Some(won) })
            .await?;
        anyhow::Ok(())
    };
    let (next, resigned) = tokio::join!(next, resign);
    resigned?;
    ensure!(next?.lease == second);
    ensure!(keys(&s.client.get_prefix("e/").await?) == ["e/2"]);
    Ok(())
}

async fn observed(stream: &mut Streaming<LeaderResponse>) -> Result<String> {
    let response = stream.message().await?.context("the stream goes on")?;
    Ok(text(&response.kv.unwrap_or_default().value()))
}

async fn observe_follows_the_leaders(s: &Session<'_>) -> Result<()> {
    let (first, second) = (
        s.client.grant(60, 1).await?.id,
        s.client.grant(60, 2).await?.id,
    );
    let won = campaign(s, first, "one").await?;
    let request = LeaderRequest { name: "e".into() };
    let mut stream = s.client.election().observe(request).await?.into_inner();
    ensure!(observed(&mut stream).await? == "one");
    campaign(s, first, "uno").await?;
    ensure!(observed(&mut stream).await? == "uno");
    s.client
        .election()
        .resign(ResignRequest { leader: Some(won) })
        .await?;
    campaign(s, second, "two").await?;
    ensure!(observed(&mut stream).await? == "two");
    Ok(())
}

async fn leader_fields_are_demanded(s: &Session<'_>) -> Result<()> {
    let proclaim = ProclaimRequest {
        leader: None,
        value: "v".into(),
    };
    refused(
        s.client.election().proclaim(proclaim).await,
        errors::LEADER_FIELD_MISSING,
    )?;
    let resign = ResignRequest { leader: None };
    refused(
        s.client.election().resign(resign).await,
        errors::LEADER_FIELD_MISSING,
    )
}
