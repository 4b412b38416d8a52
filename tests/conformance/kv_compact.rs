//! Compact: what it refuses, what stays readable, what HashKV says afterwards.

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{CompactionRequest, RangeRequest},
};
use framework::message::{between, keys, one};

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(zero_succeeds_once).fresh(&[]),
        case!(compacted_and_future_are_refused),
        case!(older_revisions_are_refused_afterwards),
        case!(header_is_the_present_revision),
        case!(not_physical_answers_at_once),
        case!(tombstone_at_the_revision_is_kept_in_the_hash).fresh(&[]),
    ]
}

async fn zero_succeeds_once(s: &Session<'_>) -> Result<()> {
    refused(s.client.compact(-1).await, errors::COMPACTED)?;
    s.client.compact(0).await?;
    refused(s.client.compact(0).await, errors::COMPACTED)?;
    s.client.compact(1).await?;
    refused(s.client.compact(1).await, errors::COMPACTED)
}

async fn compacted_and_future_are_refused(s: &Session<'_>) -> Result<()> {
    let revision = s.puts(&[("k", "1"), ("k", "2")]).await?;
    refused(
        s.client.compact(revision + 1).await,
        errors::FUTURE_REVISION,
    )?;
    s.client.compact(revision).await?;
    refused(s.client.compact(revision).await, errors::COMPACTED)?;
    refused(s.client.compact(revision - 1).await, errors::COMPACTED)?;
    refused(s.client.compact(0).await, errors::COMPACTED)
}

async fn older_revisions_are_refused_afterwards(s: &Session<'_>) -> Result<()> {
    s.puts(&[("a", "1"), ("b", "1")]).await?;
    let kept = s.puts(&[("a", "2")]).await?;
    let last = s.puts(&[("a", "3")]).await?;
    s.client.compact(kept).await?;
    let at = |revision| RangeRequest {
        revision,
        ..between("a", "z")
    };
    refused(s.client.range(at(kept - 1)).await, errors::COMPACTED)?;
    refused(s.client.range(at(1)).await, errors::COMPACTED)?;
    let response = s.client.range(at(kept)).await?;
    ensure!(keys(&response) == ["a", "b"] && &response.kvs[0].value()[..] == b"2");
    ensure!(&s.client.range(at(last)).await?.kvs[0].value()[..] == b"3");
    refused(s.client.hash_kv(kept - 1).await, errors::COMPACTED)
}

async fn header_is_the_present_revision(s: &Session<'_>) -> Result<()> {
    let first = s.puts(&[("k", "1")]).await?;
    let last = s.puts(&[("k", "2")]).await?;
    let response = s.client.compact(first).await?;
    ensure!(revision_of(&response.header) == last);
    Ok(())
}

async fn not_physical_answers_at_once(s: &Session<'_>) -> Result<()> {
    let revision = s.puts(&[("k", "1"), ("k", "2")]).await?;
    let request = CompactionRequest {
        revision,
        physical: false,
    };
    s.client.kv().compact(request).await?;
    let range = RangeRequest {
        revision: revision - 1,
        ..one("k")
    };
    refused(s.client.range(range).await, errors::COMPACTED)
}

async fn tombstone_at_the_revision_is_kept_in_the_hash(s: &Session<'_>) -> Result<()> {
    s.puts(&[("foo", "bar")]).await?;
    s.client.delete("foo").await?;
    s.puts(&[("other", "")]).await?;
    s.client.compact(3).await?;
    let response = s.client.hash_kv(0).await?;
    // Recorded from etcd 3.7.1. A tombstone at the compact revision is kept for watches, and left out of the hash.
    ensure!((response.compact_revision, response.hash_revision) == (3, 4));
    ensure!(response.hash == 2_365_817_978, "{}", response.hash);
    Ok(())
}
