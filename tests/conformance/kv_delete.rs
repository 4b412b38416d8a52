//! DeleteRange.

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{DeleteRangeRequest, PutRequest},
};
use framework::message::{between, delete, keys, put};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(key_missing_is_refused),
        case!(nothing_deleted_takes_no_revision),
        case!(interval_goes_in_one_revision),
        case!(intervals_are_those_of_range),
        case!(prev_kvs_are_the_pairs_before_in_key_order),
        case!(deleted_keys_leave_their_leases),
    ]
}

async fn key_missing_is_refused(s: &Session<'_>) -> Result<()> {
    refused(s.client.delete("").await, errors::EMPTY_KEY)?;
    refused(
        s.client.delete_with(delete("", "z")).await,
        errors::EMPTY_KEY,
    )
}

async fn nothing_deleted_takes_no_revision(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    let response = s.client.delete("nothing").await?;
    ensure!(response.deleted == 0 && revision_of(&response.header) == before);
    ensure!(s.client.delete_with(delete("z", "a")).await?.deleted == 0);
    ensure!(s.client.revision().await? == before);
    Ok(())
}

async fn interval_goes_in_one_revision(s: &Session<'_>) -> Result<()> {
    let before = s.puts(&[("a", ""), ("b", ""), ("c", "")]).await?;
    let response = s.client.delete_with(delete("a", "c")).await?;
    ensure!(response.deleted == 2 && response.prev_kvs.is_empty());
    ensure!(revision_of(&response.header) == before + 1);
    ensure!(keys(&s.client.range(between("a", "z")).await?) == ["c"]);
    ensure!(s.client.delete("a").await?.deleted == 0);
    Ok(())
}

async fn intervals_are_those_of_range(s: &Session<'_>) -> Result<()> {
    for (key, end, left) in [
        ("b", "", vec!["a", "c"]),
        ("b", "\0", vec!["a"]),
        ("\0", "\0", vec![]),
        ("a", "c", vec!["c"]),
        ("c", "a", vec!["a", "b", "c"]),
    ] {
        s.puts(&[("a", ""), ("b", ""), ("c", "")]).await?;
        s.client.delete_with(delete(key, end)).await?;
        let found = keys(&s.client.range(between("\0", "\0")).await?);
        ensure!(found == left, "[{key:?}, {end:?}) left {found:?}");
    }
    Ok(())
}

async fn prev_kvs_are_the_pairs_before_in_key_order(s: &Session<'_>) -> Result<()> {
    s.puts(&[("b", "2"), ("a", "1"), ("b", "3")]).await?;
    let before = s.client.range(between("a", "z")).await?.kvs;
    let request = DeleteRangeRequest {
        prev_kv: true,
        ..delete("a", "z")
    };
    ensure!(s.client.delete_with(request).await?.prev_kvs == before);
    Ok(())
}

async fn deleted_keys_leave_their_leases(s: &Session<'_>) -> Result<()> {
    let lease = s.client.grant(600, 0).await?.id;
    s.client
        .put_with(PutRequest {
            lease,
            ..put("k", "v")
        })
        .await?;
    s.client.delete("k").await?;
    ensure!(s.client.time_to_live(lease).await?.keys.is_empty());
    // A later key of the same name has nothing to do with the lease.
    s.puts(&[("k", "v")]).await?;
    s.client.revoke(lease).await?;
    ensure!(s.client.get("k").await?.count == 1);
    Ok(())
}
