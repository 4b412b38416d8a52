//! Clients that ask for much and read nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use catena_api::etcd::etcdserverpb::{self as pb, watch_request::RequestUnion};
use framework::{WatchStream, message::between, wait_until};
use prost::Message;

use crate::{
    case::{Case, GROWTH_MIB, Stand, case},
    frames::{DATA, Raw, call, frame, message},
};

/// Readers of each kind.
const READERS: usize = 100;

/// What is stored before they come: 32 values of 512 KiB.
const STORED_MIB: u64 = 16;

/// Answers that wait for clients to take them, in all; beyond it large ranges are refused.
const ANSWERS_MIB: u64 = 128;

/// Ranges that are read at a time before their size is known.
const RANGES_AT_A_TIME: u64 = 4;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        // The answers in their budget, each for a moment also as the message it is encoded from; the ranges being read; caches.
        case!(full_range_readers)
            .growth_mib(2 * ANSWERS_MIB + 2 * RANGES_AT_A_TIME * STORED_MIB + GROWTH_MIB),
        // For each an event of half a megabyte with as much that was before it, and both encoded once more.
        case!(watchers_that_never_read).growth_mib(GROWTH_MIB + 3 * READERS as u64),
        // For each a chunk, of three megabytes where values are half of one, and what it is encoded into, which grows by doubling.
        case!(streamed_ranges_that_nobody_reads).growth_mib(GROWTH_MIB + 10 * READERS as u64),
        case!(slow_reader_gets_everything),
    ]
}

async fn store(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    for number in 0..STORED_MIB * 2 {
        client
            .put(format!("large/{number:03}"), vec![b'x'; 512 << 10])
            .await?;
    }
    Ok(())
}

/// Opens a connection with a window of some bytes that asks for everything and never reads more.
async fn ask(address: &str, path: &str, window: u32) -> Result<Raw> {
    let mut raw = Raw::open(address, &[(4, window)]).await?;
    let request = between("large/", "large0");
    raw.write(&call(1, path)).await?;
    raw.write(&message(1, &request.encode_to_vec())).await?;
    Ok(raw)
}

/// #12342: a hundred clients read everything at once and take none of it. Some answers are held for them, the others are refused;
/// after a while those that are not taken are given up, and honest clients can read everything again.
async fn full_range_readers(stand: &Stand) -> Result<()> {
    store(stand).await?;
    let mut readers = Vec::new();
    for reader in 0..READERS {
        let window = if reader % 2 == 0 { 0 } else { 1 };
        readers.push(ask(&stand.address(), "/etcdserverpb.KV/Range", window).await?);
    }
    let refused = "grpc_server_handled_total{grpc_code=\"ResourceExhausted\",grpc_method=\"Range\"";
    wait_until(
        "refusals are counted",
        Duration::from_secs(60),
        async || {
            let metrics = framework::get(&stand.address(), "/metrics").await.ok()?;
            let line = metrics
                .body
                .lines()
                .find(|line| line.starts_with(refused))?;
            (!line.ends_with(" 0")).then_some(())
        },
    )
    .await?;
    let client = stand.client()?;
    wait_until(
        "honest readers are served",
        Duration::from_secs(100),
        async || {
            let answer = client.range(between("large/", "large0")).await;
            match answer {
                Ok(answer) => Some(ensure_all(answer.kvs.len())),
                Err(status) => (status.message() != "etcdserver: too many requests")
                    .then(|| Err(status.into())),
            }
        },
    )
    .await?
}

fn ensure_all(count: usize) -> Result<()> {
    ensure!(count as u64 == STORED_MIB * 2, "{count} keys");
    Ok(())
}

/// A hundred watchers of everything that never read, while much is written.
async fn watchers_that_never_read(stand: &Stand) -> Result<()> {
    let create = pb::WatchCreateRequest {
        key: "large/".into(),
        range_end: "large0".into(),
        prev_kv: true,
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut raw = Raw::open(&stand.address(), &[]).await?;
        raw.write(&call(1, "/etcdserverpb.Watch/Watch")).await?;
        let message = crate::frames::envelope(&request.encode_to_vec());
        raw.write(&frame(DATA, 0, 1, &message)).await?;
        readers.push(raw);
    }
    for _ in 0..4 {
        store(stand).await?;
    }
    Ok(())
}

/// RangeStream is pulled: a client that takes nothing costs a chunk.
async fn streamed_ranges_that_nobody_reads(stand: &Stand) -> Result<()> {
    store(stand).await?;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(ask(&stand.address(), "/etcdserverpb.KV/RangeStream", 1).await?);
    }
    let client = stand.client()?;
    for round in 0..20 {
        client.put("meanwhile", round.to_string()).await?;
    }
    Ok(())
}

/// A watcher that begins to read when much more was written than is held for it gets every event, in order.
async fn slow_reader_gets_everything(stand: &Stand) -> Result<()> {
    const EVENTS: usize = 400;
    let client = stand.client()?;
    let mut slow = WatchStream::open(&client);
    slow.create(pb::WatchCreateRequest {
        key: "slow".into(),
        ..Default::default()
    })
    .await?;
    let writer = stand.client()?;
    for number in 0..EVENTS {
        writer
            .put("slow", format!("{number:05}").repeat(2000))
            .await?;
    }
    let events = slow.events(EVENTS).await?;
    ensure!(events.len() == EVENTS, "{} events", events.len());
    for (number, event) in events.iter().enumerate() {
        let expected = format!("PUT slow={number:05}");
        ensure!(event.starts_with(&expected), "not {expected}");
    }
    Ok(())
}
