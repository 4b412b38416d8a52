//! RangeStream (3.7).

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{RangeRequest, RangeResponse},
};
use framework::message::{between, keys, one};
use tonic::Status;

use crate::session::{Case, Session, case, refused, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(gives_what_range_gives),
        case!(only_the_last_message_has_header_count_and_more),
        case!(count_only_is_one_message),
        case!(orders_and_filters_are_refused),
        case!(errors_are_those_of_range),
    ]
}

async fn stream(s: &Session<'_>, request: RangeRequest) -> Result<Vec<RangeResponse>, Status> {
    let mut stream = s.client.kv().range_stream(request).await?.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push(part.range_response.unwrap_or_default());
    }
    Ok(parts)
}

async fn fill(s: &Session<'_>) -> Result<()> {
    for n in 0..100 {
        s.client.put(format!("k{n:03}"), "v").await?;
    }
    Ok(())
}

async fn gives_what_range_gives(s: &Session<'_>) -> Result<()> {
    fill(s).await?;
    for limit in [0, 1, 10, 11, 99, 100, 101] {
        let request = RangeRequest {
            limit,
            ..between("k", "l")
        };
        let whole = s.client.range(request.clone()).await?;
        let parts = stream(s, request).await?;
        let kvs: Vec<_> = parts.iter().flat_map(|part| part.kvs.clone()).collect();
        let last = parts.last().cloned().unwrap_or_default();
        ensure!(kvs == whole.kvs, "limit {limit}: {} pairs", kvs.len());
        ensure!(
            (last.count, last.more) == (whole.count, whole.more),
            "limit {limit}: {last:?}"
        );
        ensure!(revision_of(&last.header) == revision_of(&whole.header));
    }
    Ok(())
}

async fn only_the_last_message_has_header_count_and_more(s: &Session<'_>) -> Result<()> {
    fill(s).await?;
    let parts = stream(s, between("k", "l")).await?;
    let (last, before) = parts.split_last().unwrap_or((&parts[0], &[]));
    ensure!(
        before.len() > 1 && before[0].kvs.len() <= 10,
        "chunks begin small: {}",
        before.len()
    );
    for part in before {
        ensure!(part.header.is_none() && part.count == 0 && !part.more && !part.kvs.is_empty());
    }
    ensure!(last.count == 100 && last.header.is_some());
    Ok(())
}

async fn count_only_is_one_message(s: &Session<'_>) -> Result<()> {
    fill(s).await?;
    let parts = stream(
        s,
        RangeRequest {
            count_only: true,
            ..between("k", "l")
        },
    )
    .await?;
    ensure!(parts.len() == 1 && parts[0].count == 100 && parts[0].kvs.is_empty());
    let nothing = stream(s, one("nothing")).await?;
    ensure!(
        nothing
            .last()
            .is_some_and(|part| part.count == 0 && part.header.is_some())
    );
    Ok(())
}

async fn orders_and_filters_are_refused(s: &Session<'_>) -> Result<()> {
    for (sort_order, sort_target) in [(2, 0), (1, 1), (2, 4)] {
        let request = RangeRequest {
            sort_order,
            sort_target,
            ..one("k")
        };
        refused(stream(s, request).await, errors::RANGE_STREAM_SORT)?;
    }
    for filter in [
        RangeRequest {
            min_mod_revision: 1,
            ..one("k")
        },
        RangeRequest {
            max_mod_revision: 1,
            ..one("k")
        },
        RangeRequest {
            min_create_revision: 1,
            ..one("k")
        },
        RangeRequest {
            max_create_revision: 1,
            ..one("k")
        },
    ] {
        refused(stream(s, filter).await, errors::RANGE_STREAM_FILTER)?;
    }
    stream(
        s,
        RangeRequest {
            sort_order: 1,
            ..one("k")
        },
    )
    .await?;
    Ok(())
}

async fn errors_are_those_of_range(s: &Session<'_>) -> Result<()> {
    refused(stream(s, one("")).await, errors::EMPTY_KEY)?;
    refused(
        stream(
            s,
            RangeRequest {
                sort_order: 9,
                ..one("k")
            },
        )
        .await,
        errors::INVALID_SORT_OPTION,
    )?;
    let revision = s.puts(&[("k", "1"), ("k", "2")]).await?;
    let at = |revision| RangeRequest {
        revision,
        ..one("k")
    };
    refused(stream(s, at(revision + 1)).await, errors::FUTURE_REVISION)?;
    s.client.compact(revision).await?;
    refused(stream(s, at(revision - 1)).await, errors::COMPACTED)?;
    ensure!(keys(&stream(s, at(revision)).await?[0]) == ["k"]);
    Ok(())
}
