//! Watch: creation, events, history, filters, fragments, progress, cancellation.

use std::time::Duration;

use anyhow::{Result, ensure};
use catena_api::{
    errors,
    etcd::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse},
};
use framework::{
    WatchStream, describe,
    message::{Op, delete, put, txn},
    wait_until,
};

use crate::session::{Case, Session, case, revision_of};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(ids_count_from_zero),
        case!(chosen_ids_are_kept_and_skipped),
        case!(duplicate_id_is_refused),
        case!(created_shows_the_revision),
        case!(events_in_order),
        case!(one_revision_comes_in_one_response),
        case!(intervals_are_those_of_range),
        case!(empty_range_is_refused),
        case!(history_is_replayed),
        case!(future_start_gets_only_later_events),
        case!(negative_start_is_refused),
        case!(compacted_start_is_cancelled),
        case!(start_at_the_compact_revision_is_complete),
        case!(delete_at_the_compact_revision_is_delivered),
        case!(prev_kv_comes_along),
        case!(prev_kv_in_history_unless_compacted),
        case!(filters_drop_events),
        case!(cancel_by_request),
        case!(cancel_of_unknown_is_silent),
        case!(id_is_free_after_cancel),
        case!(many_watches_share_a_stream),
        case!(progress_on_request),
        case!(progress_waits_for_future_start),
        case!(progress_notify_comes_when_idle).fresh(&["--watch-progress-notify-interval=200ms"]),
        case!(large_responses_are_fragmented),
        case!(unknown_requests_are_ignored),
        case!(half_closed_stream_goes_on),
        case!(slow_watcher_loses_nothing),
        case!(watch_on_every_member).members(3),
    ]
}

fn on(key: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        ..Default::default()
    }
}

fn over(key: &'static str, range_end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        range_end: range_end.into(),
        ..on(key)
    }
}

fn from(start_revision: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..request
    }
}

async fn ids_count_from_zero(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    for id in 0..3 {
        ensure!(stream.create(on("k")).await?.watch_id == id);
    }
    let mut other = WatchStream::open(&s.client);
    ensure!(
        other.create(on("k")).await?.watch_id == 0,
        "ids belong to a stream"
    );
    Ok(())
}

async fn chosen_ids_are_kept_and_skipped(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    let chosen = |watch_id| WatchCreateRequest {
        watch_id,
        ..on("k")
    };
    for (asked, given) in [
        (1, 1),
        (0, 0),
        (0, 2),
        (-7, -7),
        (i64::MAX, i64::MAX),
        (0, 3),
    ] {
        let response = stream.create(chosen(asked)).await?;
        ensure!(
            response.watch_id == given && !response.canceled,
            "{asked}: {response:?}"
        );
    }
    Ok(())
}

fn refused(response: &WatchResponse, reason: &str) -> Result<()> {
    ensure!(
        response.created && response.canceled && response.watch_id == -1,
        "{response:?}"
    );
    ensure!(response.cancel_reason == reason, "{response:?}");
    Ok(())
}

async fn duplicate_id_is_refused(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    let five = || WatchCreateRequest {
        watch_id: 5,
        ..on("k")
    };
    stream.create(five()).await?;
    let response = stream.create(five()).await?;
    refused(&response, errors::WATCH_DUPLICATE_ID.text)?;
    // The first one lives on.
    s.puts(&[("k", "v")]).await?;
    ensure!(stream.next().await?.watch_id == 5);
    Ok(())
}

async fn created_shows_the_revision(s: &Session<'_>) -> Result<()> {
    let now = s.puts(&[("k", "v")]).await?;
    let mut stream = WatchStream::open(&s.client);
    let response = stream.create(on("k")).await?;
    ensure!(revision_of(&response.header) == now && response.events.is_empty());
    ensure!(
        response
            .header
            .is_some_and(|header| header.member_id != 0 && header.raft_term != 0)
    );
    Ok(())
}

async fn events_in_order(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    stream.create(on("k")).await?;
    let first = s.puts(&[("k", "1"), ("other", "x"), ("k", "2")]).await? - 2;
    s.client.delete("k").await?;
    s.puts(&[("k", "3")]).await?;
    let events = stream.events(4).await?;
    let expected = [
        format!("PUT k=1@{first}"),
        format!("PUT k=2@{}", first + 2),
        format!("DELETE k@{}", first + 3),
        format!("PUT k=3@{}", first + 4),
    ];
    ensure!(events == expected, "{events:?}");
    Ok(())
}

async fn one_revision_comes_in_one_response(s: &Session<'_>) -> Result<()> {
    s.puts(&[("c", "")]).await?;
    let mut stream = WatchStream::open(&s.client);
    stream.create(over("a", "z")).await?;
    let ops = vec![put("b", "1").op(), delete("c", "").op(), put("a", "1").op()];
    let response = s.client.txn(txn(vec![], ops, vec![])).await?;
    let revision = revision_of(&response.header);
    let response = stream.next().await?;
    let expected = [
        format!("PUT b=1@{revision}"),
        format!("DELETE c@{revision}"),
        format!("PUT a=1@{revision}"),
    ];
    ensure!(describe(&response) == expected, "{response:?}");
    ensure!(revision_of(&response.header) == revision);
    Ok(())
}

async fn intervals_are_those_of_range(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    for request in [
        on("b"),
        over("b", "d"),
        over("c", "\0"),
        on(""),
        over("", "\0"),
    ] {
        stream.create(request).await?;
    }
    let start = s
        .puts(&[("a", ""), ("b", ""), ("c", ""), ("d", "")])
        .await?
        - 3;
    s.client.put("\0", "").await?;
    let mut seen = vec![String::new(); 5];
    let total = 1 + 2 + 2 + 1 + 5;
    let mut count = 0;
    while count < total {
        let response = stream.next().await?;
        for event in &response.events {
            let revision = event.kv().unwrap_or_default().view().mod_revision;
            seen[usize::try_from(response.watch_id)?] += &(revision - start).to_string();
            count += 1;
        }
    }
    ensure!(seen == ["1", "12", "23", "4", "01234"], "{seen:?}");
    Ok(())
}

async fn empty_range_is_refused(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    for (key, end) in [("b", "a"), ("b", "b")] {
        let response = stream.create(over(key, end)).await?;
        refused(&response, errors::WATCH_EMPTY_RANGE.text)?;
        ensure!(revision_of(&response.header) == s.client.revision().await?);
    }
    Ok(())
}

async fn history_is_replayed(s: &Session<'_>) -> Result<()> {
    let first = s.puts(&[("k", "1"), ("x", ""), ("k", "2")]).await? - 2;
    s.client.delete("k").await?;
    let mut stream = WatchStream::open(&s.client);
    stream.create(from(first, on("k"))).await?;
    let events = stream.events(3).await?;
    ensure!(
        events
            == [
                format!("PUT k=1@{first}"),
                format!("PUT k=2@{}", first + 2),
                format!("DELETE k@{}", first + 3)
            ]
    );
    // What comes after joins without a gap.
    s.puts(&[("k", "3")]).await?;
    ensure!(stream.events(1).await? == [format!("PUT k=3@{}", first + 4)]);
    Ok(())
}

async fn future_start_gets_only_later_events(s: &Session<'_>) -> Result<()> {
    let now = s.client.revision().await?;
    let mut stream = WatchStream::open(&s.client);
    let created = stream.create(from(now + 3, on("k"))).await?;
    ensure!(revision_of(&created.header) == now);
    s.puts(&[("k", "1"), ("k", "2"), ("k", "3")]).await?;
    ensure!(stream.events(1).await? == [format!("PUT k=3@{}", now + 3)]);
    Ok(())
}

async fn negative_start_is_refused(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    let response = stream.create(from(-1, on("k"))).await?;
    refused(&response, errors::COMPACTED.text)
}

async fn compacted_start_is_cancelled(s: &Session<'_>) -> Result<()> {
    let last = s.puts(&[("k", "1"), ("k", "2"), ("k", "3")]).await?;
    s.client.compact(last).await?;
    let mut stream = WatchStream::open(&s.client);
    let created = stream.create(from(last - 1, on("k"))).await?;
    ensure!(!created.canceled);
    let response = stream.next().await?;
    ensure!(response.canceled && response.compact_revision == last && response.events.is_empty());
    ensure!(response.watch_id == created.watch_id && response.cancel_reason.is_empty());
    ensure!(
        revision_of(&response.header) == 0
            && response.header.is_some_and(|header| header.member_id != 0)
    );
    // The stream itself is well.
    stream.create(on("k")).await?;
    s.puts(&[("k", "4")]).await?;
    ensure!(stream.events(1).await? == [format!("PUT k=4@{}", last + 1)]);
    Ok(())
}

async fn start_at_the_compact_revision_is_complete(s: &Session<'_>) -> Result<()> {
    let last = s.puts(&[("k", "1"), ("k", "2"), ("k", "3")]).await?;
    s.client.compact(last - 1).await?;
    let mut stream = WatchStream::open(&s.client);
    stream.create(from(last - 1, on("k"))).await?;
    ensure!(
        stream.events(2).await? == [format!("PUT k=2@{}", last - 1), format!("PUT k=3@{last}")]
    );
    Ok(())
}

async fn delete_at_the_compact_revision_is_delivered(s: &Session<'_>) -> Result<()> {
    let put = s.puts(&[("k", "1")]).await?;
    s.client.delete("k").await?;
    s.puts(&[("other", "")]).await?;
    s.client.compact(put + 1).await?;
    let mut stream = WatchStream::open(&s.client);
    stream.create(from(put + 1, on("k"))).await?;
    ensure!(stream.events(1).await? == [format!("DELETE k@{}", put + 1)]);
    Ok(())
}

async fn prev_kv_comes_along(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    stream
        .create(WatchCreateRequest {
            prev_kv: true,
            ..on("k")
        })
        .await?;
    let first = s.puts(&[("k", "1"), ("k", "2")]).await? - 1;
    s.client.delete("k").await?;
    s.puts(&[("k", "3")]).await?;
    let events = stream.events(4).await?;
    let expected = [
        format!("PUT k=1@{first}"),
        format!("PUT k=2@{} was 1@{first}", first + 1),
        format!("DELETE k@{} was 2@{}", first + 2, first + 1),
        format!("PUT k=3@{}", first + 3),
    ];
    ensure!(events == expected, "{events:?}");
    Ok(())
}

async fn prev_kv_in_history_unless_compacted(s: &Session<'_>) -> Result<()> {
    let last = s.puts(&[("k", "1"), ("k", "2"), ("k", "3")]).await?;
    s.client.compact(last - 1).await?;
    let mut stream = WatchStream::open(&s.client);
    stream
        .create(WatchCreateRequest {
            prev_kv: true,
            ..from(last - 1, on("k"))
        })
        .await?;
    let events = stream.events(2).await?;
    let expected = [
        format!("PUT k=2@{}", last - 1),
        format!("PUT k=3@{last} was 2@{}", last - 1),
    ];
    ensure!(events == expected, "{events:?}");
    Ok(())
}

async fn filters_drop_events(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    for filters in [vec![0], vec![1], vec![0, 1], vec![7]] {
        stream
            .create(WatchCreateRequest { filters, ..on("k") })
            .await?;
    }
    let first = s.puts(&[("k", "1")]).await?;
    s.client.delete("k").await?;
    let mut seen = vec![Vec::new(); 4];
    for _ in 0..4 {
        let response = stream.next().await?;
        seen[usize::try_from(response.watch_id)?].extend(describe(&response));
    }
    let (put, delete) = (
        format!("PUT k=1@{first}"),
        format!("DELETE k@{}", first + 1),
    );
    let expected = [
        vec![delete.clone()],
        vec![put.clone()],
        vec![],
        vec![put, delete],
    ];
    ensure!(seen == expected, "{seen:?}");
    Ok(())
}

async fn cancel_by_request(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    let id = stream.create(on("k")).await?.watch_id;
    stream.cancel(id).await?;
    let response = stream.next().await?;
    ensure!(response.canceled && response.watch_id == id && !response.created);
    ensure!(response.cancel_reason.is_empty() && response.compact_revision == 0);
    ensure!(revision_of(&response.header) == s.client.revision().await?);
    s.puts(&[("k", "v")]).await?;
    let next = stream.create(on("k")).await?;
    ensure!(
        next.watch_id == id + 1,
        "ids are not used again by themselves: {next:?}"
    );
    Ok(())
}

async fn cancel_of_unknown_is_silent(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    stream.cancel(99).await?;
    ensure!(
        stream.create(on("k")).await?.created,
        "the first answer is to the creation"
    );
    Ok(())
}

async fn id_is_free_after_cancel(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    let chosen = || WatchCreateRequest {
        watch_id: 9,
        ..on("k")
    };
    stream.create(chosen()).await?;
    stream.cancel(9).await?;
    ensure!(stream.next().await?.canceled);
    ensure!(!stream.create(chosen()).await?.canceled);
    Ok(())
}

async fn many_watches_share_a_stream(s: &Session<'_>) -> Result<()> {
    const WATCHES: usize = 300;
    let mut stream = WatchStream::open(&s.client);
    for _ in 0..WATCHES {
        stream.create(on("k")).await?;
    }
    s.puts(&[("k", "1"), ("k", "2")]).await?;
    let mut seen = vec![0; WATCHES];
    while seen.iter().sum::<usize>() < 2 * WATCHES {
        let response = stream.next().await?;
        seen[usize::try_from(response.watch_id)?] += response.events.len();
    }
    ensure!(seen.iter().all(|count| *count == 2));
    Ok(())
}

async fn progress_on_request(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    stream.create(on("k")).await?;
    let now = s.puts(&[("other", "")]).await?;
    let response = progress(&mut stream, now).await?;
    ensure!(response.watch_id == -1 && response.events.is_empty());
    ensure!(!response.created && !response.canceled);
    Ok(())
}

/// Asks until progress of a revision is reported: a request is dropped while a watch catches up.
async fn progress(stream: &mut WatchStream, revision: i64) -> Result<WatchResponse> {
    wait_until("progress", Duration::from_secs(10), async || {
        stream.progress().await.ok()?;
        let response = stream.next().await.ok()?;
        (revision_of(&response.header) >= revision).then_some(response)
    })
    .await
}

async fn progress_waits_for_future_start(s: &Session<'_>) -> Result<()> {
    let now = s.client.revision().await?;
    let mut stream = WatchStream::open(&s.client);
    stream.create(from(now + 2, on("k"))).await?;
    stream.progress().await?;
    s.puts(&[("k", "1"), ("k", "2")]).await?;
    let response = stream.next().await?;
    ensure!(
        describe(&response) == [format!("PUT k=2@{}", now + 2)],
        "no progress before the start: {response:?}"
    );
    ensure!(progress(&mut stream, now + 2).await?.events.is_empty());
    Ok(())
}

async fn progress_notify_comes_when_idle(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    let id = stream
        .create(WatchCreateRequest {
            progress_notify: true,
            ..on("k")
        })
        .await?
        .watch_id;
    stream.create(on("k")).await?;
    let now = s.puts(&[("other", "")]).await?;
    for _ in 0..10 {
        let response = stream.next().await?;
        ensure!(
            response.watch_id == id && response.events.is_empty(),
            "{response:?}"
        );
        if revision_of(&response.header) == now {
            return Ok(());
        }
    }
    anyhow::bail!("progress never reached {now}")
}

async fn large_responses_are_fragmented(s: &Session<'_>) -> Result<()> {
    let before = s.client.revision().await?;
    for n in 0..4 {
        s.client.put(format!("k{n}"), vec![b'v'; 1_000_000]).await?;
    }
    let mut stream = WatchStream::open(&s.client);
    let request = WatchCreateRequest {
        fragment: true,
        ..from(before + 1, over("k", "l"))
    };
    stream.create(request).await?;
    let (mut revisions, mut fragments) = (Vec::new(), 0);
    while revisions.len() < 4 {
        let response = stream.next().await?;
        fragments += usize::from(response.fragment);
        ensure!(response.events.len() <= 2, "a piece stays below 2 MiB");
        revisions.extend(
            response
                .events
                .iter()
                .map(|event| event.kv().unwrap_or_default().view().mod_revision),
        );
        ensure!(
            response.fragment == (revisions.len() < 4),
            "all but the last piece are fragments"
        );
    }
    ensure!(
        fragments >= 1 && revisions == [1, 2, 3, 4].map(|n| before + n),
        "{revisions:?}"
    );
    Ok(())
}

async fn unknown_requests_are_ignored(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    stream
        .send_raw(WatchRequest {
            request_union: None,
        })
        .await?;
    ensure!(stream.create(on("k")).await?.created);
    Ok(())
}

async fn half_closed_stream_goes_on(s: &Session<'_>) -> Result<()> {
    let mut stream = WatchStream::open(&s.client);
    stream.create(on("k")).await?;
    stream.half_close();
    let revision = s.puts(&[("k", "v")]).await?;
    ensure!(stream.events(1).await? == [format!("PUT k=v@{revision}")]);
    Ok(())
}

async fn slow_watcher_loses_nothing(s: &Session<'_>) -> Result<()> {
    const WRITES: usize = 600;
    let mut slow = WatchStream::open(&s.client);
    slow.create(on("k")).await?;
    let before = s.client.revision().await?;
    // More than every buffer in between holds, so that the watcher falls behind.
    for _ in 0..WRITES {
        s.client.put("k", vec![b'v'; 20_000]).await?;
    }
    let mut next = before + 1;
    while next <= before + i64::try_from(WRITES)? {
        for event in slow.next().await?.events {
            let revision = event.kv().unwrap_or_default().view().mod_revision;
            ensure!(revision == next, "{revision} instead of {next}");
            next += 1;
        }
    }
    Ok(())
}

async fn watch_on_every_member(s: &Session<'_>) -> Result<()> {
    let mut streams = Vec::new();
    for place in 0..3 {
        let mut stream = WatchStream::open(&s.cluster.client(place)?);
        stream.create(on("k")).await?;
        streams.push(stream);
    }
    let revision = s.puts(&[("k", "1"), ("k", "2")]).await?;
    for stream in &mut streams {
        ensure!(
            stream.events(2).await?
                == [
                    format!("PUT k=1@{}", revision - 1),
                    format!("PUT k=2@{revision}")
                ]
        );
    }
    Ok(())
}
