//! Leases.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{
        LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest, WatchCreateRequest,
    },
};
use framework::{
    WatchStream,
    message::{keys, put},
    wait_until,
};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(grant_chooses_an_id),
        case!(grant_takes_any_id),
        case!(grant_refuses_a_taken_id),
        case!(short_ttl_is_raised),
        case!(huge_ttl_is_refused),
        case!(revoke_of_unknown_is_refused),
        case!(revoke_deletes_the_keys_in_one_revision),
        case!(revoke_without_keys_takes_no_revision),
        case!(time_to_live_of_unknown_is_minus_one),
        case!(time_to_live_shows_grant_and_keys),
        case!(keep_alive_renews_and_answers_in_order),
        case!(keep_alive_of_unknown_answers_zero),
        case!(leases_are_listed),
        case!(expiry_deletes_and_tells_watchers),
        case!(keep_alive_prevents_expiry),
        case!(every_member_knows_the_lease).members(3),
    ]
}

async fn grant_chooses_an_id(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let (first, second) = (s.client.grant(100, 0).await?, s.client.grant(100, 0).await?);
    ensure!(first.id > 0 && second.id > 0 && first.id != second.id);
    ensure!(first.ttl == 100 && first.error.is_empty());
    ensure!(revision_of(&first.header) == before);
    Ok(())
}

async fn grant_takes_any_id(s: &Session<'_>) -> Result<()> {
    for id in [1, -1, i64::MAX, i64::MIN] {
        ensure!(s.client.grant(100, id).await?.id == id);
        ensure!(s.client.time_to_live(id).await?.granted_ttl == 100);
        s.client.revoke(id).await?;
    }
    Ok(())
}

async fn grant_refuses_a_taken_id(s: &Session<'_>) -> Result<()> {
    s.client.grant(100, 7).await?;
    refused(s.client.grant(200, 7).await, errors::LEASE_EXISTS)?;
    ensure!(s.client.time_to_live(7).await?.granted_ttl == 100);
    Ok(())
}

async fn short_ttl_is_raised(s: &Session<'_>) -> Result<()> {
    for ttl in [1, 0, -5] {
        let lease = s.client.grant(ttl, 0).await?;
        ensure!(lease.ttl == 2, "a ttl of {ttl} became {}", lease.ttl);
    }
    Ok(())
}

async fn huge_ttl_is_refused(s: &Session<'_>) -> Result<()> {
    let longest = s.client.grant(9_000_000_000, 0).await?;
    ensure!(longest.ttl == 9_000_000_000);
    refused(
        s.client.grant(9_000_000_001, 0).await,
        errors::LEASE_TTL_TOO_LARGE,
    )?;
    refused(
        s.client.grant(i64::MAX, 0).await,
        errors::LEASE_TTL_TOO_LARGE,
    )
}

async fn revoke_of_unknown_is_refused(s: &Session<'_>) -> Result<()> {
    refused(s.client.revoke(4711).await, errors::LEASE_NOT_FOUND)
}

async fn revoke_deletes_the_keys_in_one_revision(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(100, 0).await?.id;
    let mut before = 0;
    for key in ["b", "a", "c"] {
        let response = s
            .client
            .put_with(PutRequest {
                lease,
                ..put(key, "")
            })
            .await?;
        before = revision_of(&response.header);
    }
    let mut watch = WatchStream::open(&s.client);
    watch
        .create(WatchCreateRequest {
            key: "a".into(),
            range_end: "z".into(),
            ..Default::default()
        })
        .await?;
    let response = s.client.revoke(lease).await?;
    ensure!(revision_of(&response.header) == before + 1);
    let at = before + 1;
    let events = watch.events(3).await?;
    ensure!(
        events == ["a", "b", "c"].map(|key| format!("DELETE {key}@{at}")),
        "{events:?}"
    );
    ensure!(s.client.get_prefix("a").await?.count == 0);
    Ok(())
}

async fn revoke_without_keys_takes_no_revision(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let lease = s.client.grant(100, 0).await?.id;
    ensure!(revision_of(&s.client.revoke(lease).await?.header) == before);
    refused(s.client.revoke(lease).await, errors::LEASE_NOT_FOUND)
}

async fn time_to_live_of_unknown_is_minus_one(s: &Session<'_>) -> Result<()> {
    let response = s.client.time_to_live(4711).await?;
    ensure!((response.id, response.ttl, response.granted_ttl) == (4711, -1, 0));
    ensure!(response.keys.is_empty() && response.header.is_some());
    Ok(())
}

async fn time_to_live_shows_grant_and_keys(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(100, 0).await?.id;
    for key in ["b", "a"] {
        s.client
            .put_with(PutRequest {
                lease,
                ..put(key, "")
            })
            .await?;
    }
    let mut response = s.client.time_to_live(lease).await?;
    response.keys.sort();
    ensure!(response.keys == ["a", "b"] && response.granted_ttl == 100);
    ensure!(
        (95..100).contains(&response.ttl),
        "rounded down: {}",
        response.ttl
    );
    let request = LeaseTimeToLiveRequest {
        id: lease,
        keys: false,
    };
    ensure!(
        s.client
            .lease()
            .lease_time_to_live(request)
            .await?
            .into_inner()
            .keys
            .is_empty()
    );
    Ok(())
}

async fn keep_alive_renews_and_answers_in_order(s: &Session<'_>) -> Result<()> {
    let (first, second) = (
        s.client.grant(50, 0).await?.id,
        s.client.grant(70, 0).await?.id,
    );
    let ids = [first, second, 4711, first];
    let requests = tokio_stream::iter(ids.map(|id| LeaseKeepAliveRequest { id }));
    let mut stream = s
        .client
        .lease()
        .lease_keep_alive(requests)
        .await?
        .into_inner();
    for (id, ttl) in ids.into_iter().zip([50, 70, 0, 50]) {
        let response = stream
            .message()
            .await?
            .context("an answer to each request")?;
        ensure!((response.id, response.ttl) == (id, ttl), "{response:?}");
        ensure!(response.header.is_some());
    }
    ensure!(
        stream.message().await?.is_none(),
        "the stream ends when the client is done"
    );
    Ok(())
}

async fn keep_alive_of_unknown_answers_zero(s: &Session<'_>) -> Result<()> {
    let response = s.client.keep_alive(4711).await?.context("an answer")?;
    ensure!((response.id, response.ttl) == (4711, 0));
    Ok(())
}

async fn leases_are_listed(s: &Session<'_>) -> Result<()> {
    ensure!(s.client.leases().await?.is_empty());
    for id in [3, 1, 2] {
        s.client.grant(100 * id, id).await?;
    }
    let listed = wait_until(
        "the member has applied the grants",
        Duration::from_secs(5),
        async || {
            s.client
                .leases()
                .await
                .ok()
                .filter(|leases| leases.len() == 3)
        },
    );
    let mut leases = listed.await?;
    leases.sort_unstable();
    ensure!(leases == [1, 2, 3]);
    Ok(())
}

async fn expiry_deletes_and_tells_watchers(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(2, 0).await?.id;
    let before = revision_of(
        &s.client
            .put_with(PutRequest {
                lease,
                ..put("k", "")
            })
            .await?
            .header,
    );
    let mut watch = WatchStream::open(&s.client);
    watch
        .create(WatchCreateRequest {
            key: "k".into(),
            ..Default::default()
        })
        .await?;
    let events = watch.events(1).await?;
    ensure!(events == [format!("DELETE k@{}", before + 1)], "{events:?}");
    ensure!(s.client.time_to_live(lease).await?.ttl == -1);
    ensure!(s.client.get("k").await?.count == 0);
    Ok(())
}

async fn keep_alive_prevents_expiry(s: &Session<'_>) -> Result<()> {
    let kept = s.client.grant(3, 0).await?.id;
    // The longer lease measures the time: when it has expired, the kept one would have long since.
    let clock = s.client.grant(5, 0).await?.id;
    s.client
        .put_with(PutRequest {
            lease: kept,
            ..put("k", "")
        })
        .await?;
    wait_until(
        "the clock has run out",
        Duration::from_secs(20),
        async || {
            let answer = s.client.keep_alive(kept).await.ok().flatten()?;
            (answer.ttl == 3 && s.client.time_to_live(clock).await.ok()?.ttl == -1).then_some(())
        },
    )
    .await?;
    ensure!(keys(&s.client.get("k").await?) == ["k"]);
    Ok(())
}

async fn every_member_knows_the_lease(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(100, 0).await?.id;
    s.client
        .put_with(PutRequest {
            lease,
            ..put("k", "")
        })
        .await?;
    for place in 0..3 {
        let client = s.cluster.client(place)?;
        let left = client.time_to_live(lease).await?;
        ensure!(left.granted_ttl == 100 && left.ttl > 90 && left.keys == ["k"]);
        ensure!(
            client
                .keep_alive(lease)
                .await?
                .is_some_and(|answer| answer.ttl == 100)
        );
    }
    s.cluster.client(1)?.revoke(lease).await?;
    for place in 0..3 {
        ensure!(s.cluster.client(place)?.get("k").await?.count == 0);
    }
    Ok(())
}
