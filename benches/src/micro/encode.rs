//! Answers into bytes.

use std::{hint::black_box, time::Duration};

use anyhow::Result;
use catena_api::{Event, EventType, KeyValue, KeyValueView, etcd::etcdserverpb as pb};
use prost::Message;

use super::measured;
use crate::load::value;

fn header() -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        cluster_id: u64::MAX,
        member_id: u64::MAX,
        revision: 1 << 20,
        raft_term: 2,
    })
}

fn pair() -> KeyValue {
    let view = KeyValueView {
        key: "bench/00000000".into(),
        create_revision: 1 << 19,
        mod_revision: 1 << 20,
        version: 100,
        value: value(256),
        lease: 0,
    };
    view.encode()
}

/// Encodes a message so often, into a buffer that is used again.
fn encode(message: &impl Message, times: u64) -> Result<Duration> {
    let mut out = Vec::with_capacity(message.encoded_len());
    measured(&mut || {
        for _ in 0..times {
            out.clear();
            black_box(message).encode(&mut out)?;
        }
        Ok(())
    })
}

pub(super) fn put(times: u64) -> Result<(u64, Duration)> {
    let message = pb::PutResponse {
        header: header(),
        prev_kv: None,
    };
    Ok((times, encode(&message, times)?))
}

pub(super) fn range(times: u64) -> Result<(u64, Duration)> {
    const KEYS: u64 = 1000;
    let message = pb::RangeResponse {
        header: header(),
        kvs: vec![pair(); KEYS as usize],
        more: false,
        count: KEYS as i64,
    };
    let answers = times.div_ceil(KEYS);
    Ok((answers * KEYS, encode(&message, answers)?))
}

pub(super) fn event(times: u64) -> Result<(u64, Duration)> {
    let message = pb::WatchResponse {
        header: header(),
        watch_id: 7,
        events: vec![Event::new(EventType::Put, &pair(), None)],
        ..Default::default()
    };
    Ok((times, encode(&message, times)?))
}
