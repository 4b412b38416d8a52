//! Attacks with the frames of HTTP/2.
//!
//! Each row floods one connection. A member may bear it or end the connection with a reason; in either case it neither grows nor
//! keeps others waiting.

use std::{slice, time::Duration};

use anyhow::{Result, ensure};
use catena_api::etcd::etcdserverpb as pb;
use prost::Message;

use crate::{
    case::{Case, Stand, case},
    frames::{
        ACK, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, End, HEADERS, PING, PRIORITY,
        RST_STREAM, Raw, SETTINGS, WINDOW_UPDATE, call, field, frame, head, message,
    },
};

/// Frames in one flood: as many as a client with nothing else to do writes in seconds.
const FLOOD: usize = 200_000;

/// The error code ENHANCE_YOUR_CALM.
const CALM: u32 = 11;

const RANGE: &str = "/etcdserverpb.KV/Range";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(rapid_reset),
        case!(ping_flood),
        case!(settings_flood),
        case!(priority_flood),
        case!(empty_data_flood),
        case!(window_update_flood),
        case!(continuation_flood),
        case!(oversized_frame),
        case!(header_block_that_never_ends),
        case!(too_much_metadata),
        case!(megabyte_of_metadata),
        case!(window_of_zero_and_overflow),
        case!(streams_beyond_the_limit),
        case!(garbage_after_the_preface),
    ]
}

/// A small request of Range.
fn range_of(key: &'static str) -> Vec<u8> {
    let request = pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    };
    request.encode_to_vec()
}

fn sent_away(end: Option<End>, code: u32) -> Result<()> {
    match end {
        Some(End::GoAway(said, _)) if said == code => Ok(()),
        other => anyhow::bail!("not sent away with {code}: {other:?}"),
    }
}

/// CVE-2023-44487: calls that are begun and reset at once.
async fn rapid_reset(stand: &Stand) -> Result<()> {
    let raw = Raw::open(&stand.address(), &[]).await?;
    let mut calls = Vec::new();
    for number in 0..50_000 {
        let stream = 2 * number + 1;
        calls.extend(call(stream, RANGE));
        calls.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    sent_away(raw.flood(&calls, 1).await?, CALM)
}

/// CVE-2019-9512.
async fn ping_flood(stand: &Stand) -> Result<()> {
    let raw = Raw::open(&stand.address(), &[]).await?;
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(100);
    let end = raw.flood(&pings, FLOOD / 100).await?;
    ensure!(end.is_some(), "as many pings as anybody likes");
    stand.logs("too many control frames").await
}

/// CVE-2019-9515.
async fn settings_flood(stand: &Stand) -> Result<()> {
    let raw = Raw::open(&stand.address(), &[]).await?;
    let settings = frame(SETTINGS, 0, 0, &[]).repeat(100);
    let end = raw.flood(&settings, FLOOD / 100).await?;
    ensure!(end.is_some(), "as many settings as anybody likes");
    stand.logs("too many control frames").await
}

/// CVE-2019-9513, the simplest form.
async fn priority_flood(stand: &Stand) -> Result<()> {
    let raw = Raw::open(&stand.address(), &[]).await?;
    let priorities = frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]).repeat(100);
    let end = raw.flood(&priorities, FLOOD / 100).await?;
    ensure!(end.is_some(), "as many priorities as anybody likes");
    Ok(())
}

/// CVE-2019-9518: DATA without data.
async fn empty_data_flood(stand: &Stand) -> Result<()> {
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    raw.write(&call(1, RANGE)).await?;
    let empty = frame(DATA, 0, 1, &[]).repeat(100);
    let end = raw.flood(&empty, FLOOD / 100).await?;
    ensure!(end.is_some(), "as many empty frames as anybody likes");
    Ok(())
}

/// Cheap for both sides, so it is borne; only the window may not overflow.
async fn window_update_flood(stand: &Stand) -> Result<()> {
    let raw = Raw::open(&stand.address(), &[]).await?;
    let updates = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).repeat(100);
    let _borne_or_not = raw.flood(&updates, FLOOD / 100).await?;
    Ok(())
}

/// CVE-2024-27316: a header block in ever more pieces.
async fn continuation_flood(stand: &Stand) -> Result<()> {
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    raw.write(&frame(HEADERS, 0, 1, &head(RANGE))).await?;
    let piece = frame(CONTINUATION, 0, 1, &field("x-more", &"m".repeat(1000)));
    sent_away(raw.flood(&piece, FLOOD).await?, CALM)
}

/// A frame that claims to be longer than was agreed.
async fn oversized_frame(stand: &Stand) -> Result<()> {
    /// The error code FRAME_SIZE_ERROR.
    const FRAME_SIZE: u32 = 6;
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    raw.write(&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1]).await?;
    sent_away(Some(raw.end().await?), FRAME_SIZE)
}

/// Half of a header block, and then nothing: it costs one connection, and nobody waits for it.
async fn header_block_that_never_ends(stand: &Stand) -> Result<()> {
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    raw.write(&frame(HEADERS, 0, 1, &head(RANGE))).await?;
    raw.until(SETTINGS).await?;
    Ok(())
}

/// Forty kilobytes, more than a call may have: the call is refused with 431, the connection lives. etcd takes up to 16 MiB.
async fn too_much_metadata(stand: &Stand) -> Result<()> {
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    write_metadata(&mut raw, 1, 40_000).await?;
    let answer = raw.until(HEADERS).await?;
    ensure!(answer.stream == 1, "{answer:?}");
    ensure!(
        answer.payload.starts_with(STATUS_431),
        "{:x?}",
        answer.payload
    );
    raw.write(&call(3, RANGE)).await?;
    raw.write(&message(3, &range_of("k"))).await?;
    let answer = raw.until(HEADERS).await?;
    ensure!(answer.stream == 3, "{answer:?}");
    Ok(())
}

/// A megabyte comes in more pieces than a header block may have, so the connection ends before it is gathered.
async fn megabyte_of_metadata(stand: &Stand) -> Result<()> {
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    // It may end while we write.
    let _sent_or_not = write_metadata(&mut raw, 1, 1 << 20).await;
    sent_away(Some(raw.end().await?), CALM)
}

/// `:status: 431` in HPACK: the name from the static table, the value in Huffman's code.
const STATUS_431: &[u8] = &[0x48, 0x83, 0x69, 0x90, 0xff];

/// Begins a call with so many bytes of metadata, in as few frames as HTTP/2 allows.
async fn write_metadata(raw: &mut Raw, stream: u32, bytes: usize) -> Result<()> {
    let mut block = head(RANGE);
    block.extend(field("client-api-version", &"v".repeat(bytes)));
    let (first, rest) = block.split_at(16_000);
    raw.write(&frame(HEADERS, 0, stream, first)).await?;
    let pieces: Vec<_> = rest.chunks(16_000).collect();
    for (place, piece) in pieces.iter().enumerate() {
        let last = place + 1 == pieces.len();
        let flags = if last { END_HEADERS } else { 0 };
        raw.write(&frame(CONTINUATION, flags, stream, piece))
            .await?;
    }
    Ok(())
}

/// A window of zero, opened by one byte at a time, and one that overflows.
async fn window_of_zero_and_overflow(stand: &Stand) -> Result<()> {
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    const INITIAL_WINDOW: u16 = 4;
    let mut raw = Raw::open(&stand.address(), &[(INITIAL_WINDOW, 0)]).await?;
    raw.write(&call(1, RANGE)).await?;
    raw.write(&message(1, &range_of("k"))).await?;
    raw.until(HEADERS).await?;
    for _ in 0..3 {
        raw.write(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()))
            .await?;
        let data = raw.until(DATA).await?;
        ensure!(data.payload.len() == 1, "{data:?}");
    }
    let most = ((1_u32 << 31) - 1).to_be_bytes();
    raw.write(&frame(WINDOW_UPDATE, 0, 0, &most)).await?;
    raw.write(&frame(WINDOW_UPDATE, 0, 0, &most)).await?;
    /// The error code FLOW_CONTROL_ERROR.
    const FLOW_CONTROL: u32 = 3;
    sent_away(Some(raw.end().await?), FLOW_CONTROL)
}

/// More calls at once than a connection may have: those beyond are reset, the others stay.
async fn streams_beyond_the_limit(stand: &Stand) -> Result<()> {
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    let mut calls = Vec::new();
    for number in 0..1100 {
        calls.extend(call(2 * number + 1, "/etcdserverpb.Watch/Watch"));
    }
    raw.write(&calls).await?;
    let refused = raw.until(RST_STREAM).await?;
    ensure!(refused.stream > 2 * 1000 - 1, "{refused:?}");
    Ok(())
}

/// What is not HTTP/2 behind its preface.
async fn garbage_after_the_preface(stand: &Stand) -> Result<()> {
    for byte in [0x00, 0x5a, 0xff] {
        let mut raw = Raw::open(&stand.address(), &[]).await?;
        raw.write(&frame(SETTINGS, ACK, 0, &[])).await?;
        raw.write(slice::from_ref(&byte).repeat(4096).as_slice())
            .await?;
        raw.write(&frame(DATA, END_STREAM, 0, &[])).await?;
        let end = tokio::time::timeout(Duration::from_secs(30), raw.end()).await??;
        ensure!(matches!(end, End::GoAway(..) | End::Closed));
    }
    Ok(())
}
