//! Put: its flags, its errors in their order, its limits.

use anyhow::{Result, ensure};
use catena_api::{errors, etcd::etcdserverpb::PutRequest};
use framework::message::put;
use tonic::Code;

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(takes_one_revision),
        case!(prev_kv_is_the_pair_before),
        case!(ignore_value_keeps_the_value),
        case!(ignore_lease_keeps_the_lease),
        case!(lease_is_replaced_and_detached),
        case!(errors_in_their_order),
        case!(unknown_lease_is_refused),
        case!(recreated_key_begins_a_generation),
        case!(request_too_large_is_refused),
    ]
}

async fn takes_one_revision(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let response = s.client.put("k", "v").await?;
    ensure!(revision_of(&response.header) == before + 1 && response.prev_kv.is_none());
    // The same value again is a write like any other.
    ensure!(revision_of(&s.client.put("k", "v").await?.header) == before + 2);
    Ok(())
}

async fn prev_kv_is_the_pair_before(s: &Session<'_>) -> Result<()> {
    let with = |value| PutRequest {
        prev_kv: true,
        ..put("k", value)
    };
    ensure!(s.client.put_with(with("1")).await?.prev_kv.is_none());
    let before = s.client.get("k").await?.kvs[0].clone();
    ensure!(s.client.put_with(with("2")).await?.prev_kv == Some(before));
    Ok(())
}

async fn ignore_value_keeps_the_value(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(600, 0).await?.id;
    s.puts(&[("k", "v")]).await?;
    s.client
        .put_with(PutRequest {
            ignore_value: true,
            lease,
            ..put("k", "")
        })
        .await?;
    let kv = s.client.get("k").await?.kvs[0].view();
    ensure!(&kv.value[..] == b"v" && kv.lease == lease && kv.version == 2);
    Ok(())
}

async fn ignore_lease_keeps_the_lease(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(600, 0).await?.id;
    s.client
        .put_with(PutRequest {
            lease,
            ..put("k", "1")
        })
        .await?;
    s.client
        .put_with(PutRequest {
            ignore_lease: true,
            ..put("k", "2")
        })
        .await?;
    let kv = s.client.get("k").await?.kvs[0].view();
    ensure!(&kv.value[..] == b"2" && kv.lease == lease);
    ensure!(s.client.time_to_live(lease).await?.keys == ["k"]);
    Ok(())
}

async fn lease_is_replaced_and_detached(s: &Session<'_>) -> Result<()> {
    let (first, second) = (
        s.client.grant(600, 0).await?.id,
        s.client.grant(600, 0).await?.id,
    );
    s.client
        .put_with(PutRequest {
            lease: first,
            ..put("k", "1")
        })
        .await?;
    s.client
        .put_with(PutRequest {
            lease: second,
            ..put("k", "2")
        })
        .await?;
    ensure!(s.client.time_to_live(first).await?.keys.is_empty());
    ensure!(s.client.time_to_live(second).await?.keys == ["k"]);
    s.client.put("k", "3").await?;
    ensure!(s.client.time_to_live(second).await?.keys.is_empty());
    ensure!(s.client.get("k").await?.kvs[0].view().lease == 0);
    Ok(())
}

async fn errors_in_their_order(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let all = PutRequest {
        lease: 77,
        ignore_value: true,
        ignore_lease: true,
        ..put("", "v")
    };
    refused(s.client.put_with(all.clone()).await, errors::EMPTY_KEY)?;
    let keyed = PutRequest {
        key: "k".into(),
        ..all
    };
    refused(
        s.client.put_with(keyed.clone()).await,
        errors::VALUE_PROVIDED,
    )?;
    let leased = PutRequest {
        value: "".into(),
        ..keyed
    };
    refused(
        s.client.put_with(leased.clone()).await,
        errors::LEASE_PROVIDED,
    )?;
    let kept = PutRequest { lease: 0, ..leased };
    refused(s.client.put_with(kept).await, errors::KEY_NOT_FOUND)?;
    let unknown = PutRequest {
        lease: 77,
        ignore_value: true,
        ..put("k", "")
    };
    refused(s.client.put_with(unknown).await, errors::LEASE_NOT_FOUND)?;
    ensure!(s.client.revision().await? == before);
    Ok(())
}

async fn unknown_lease_is_refused(s: &Session<'_>) -> Result<()> {
    let request = PutRequest {
        lease: 4711,
        ..put("k", "v")
    };
    refused(s.client.put_with(request).await, errors::LEASE_NOT_FOUND)?;
    ensure!(s.client.get("k").await?.count == 0);
    Ok(())
}

async fn recreated_key_begins_a_generation(s: &Session<'_>) -> Result<()> {
    s.puts(&[("k", "1"), ("k", "2")]).await?;
    s.client.delete("k").await?;
    let revision = s.puts(&[("k", "3")]).await?;
    let kv = s.client.get("k").await?.kvs[0].view();
    ensure!((kv.create_revision, kv.mod_revision, kv.version) == (revision, revision, 1));
    Ok(())
}

async fn request_too_large_is_refused(s: &Session<'_>) -> Result<()> {
    let value = |bytes: usize| vec![b'v'; bytes];
    s.client.put("k", value(1_500_000)).await?;
    // Above the limit of a request, 1.5 MiB, but below that of a message, which is 512 KiB more.
    refused(
        s.client.put("k", value(1_700_000)).await,
        errors::REQUEST_TOO_LARGE,
    )?;
    let error = s.client.put("k", value(2_200_000)).await.err();
    ensure!(
        error
            .as_ref()
            .is_some_and(|status| status.code() == Code::ResourceExhausted),
        "a message above the limit of messages: {error:?}"
    );
    Ok(())
}
