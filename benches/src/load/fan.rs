//! Watchers beside puts, and how long an event takes to reach them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use catena_api::etcd::etcdserverpb as pb;
use pb::watch_request::RequestUnion;

use super::{
    Keys, PUT, Workload, put,
    requests::{Fields, Value, put_message},
    value,
};
use crate::{
    histogram::Histogram,
    wire::{Connection, More},
};

/// The path of watches.
const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// A value begins with a time in nanoseconds.
const STAMP_BYTES: usize = 8;
/// Field of a WatchResponse, an Event, a KeyValue.
const EVENTS: u32 = 11;
const EVENT_KV: u32 = 2;
const KV_VALUE: u32 = 5;

/// Appends the request of a watch on `[key, end)`, or on `key` alone if `end` is empty.
pub(super) fn watch(connection: &mut Connection, key: bytes::Bytes, range_end: bytes::Bytes) {
    let create = pb::WatchCreateRequest {
        key,
        range_end,
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut message = Vec::new();
    put_message(&request, &mut message);
    connection.call(WATCH, &message, More::Follows);
}

/// Clients put keys in turn; watchers on streams of their own watch one key each. A put's value begins with the time at which it was
/// sent.
#[derive(Debug)]
pub(crate) struct Fan {
    keys: Keys,
    watchers: usize,
    connections: usize,
    began: Instant,
    /// Events of puts that were sent before this time, counted from the beginning, are not counted.
    from: Duration,
    next: usize,
    /// From the sending of a put to the arrival of an event.
    pub(crate) delays: Histogram,
    /// Messages that came in part, by connection and stream.
    parts: HashMap<(usize, u32), Vec<u8>>,
}

impl Fan {
    /// So many watchers, spread over all keys and over all connections.
    pub(crate) fn new(keys: Keys, watchers: usize, connections: usize, from: Duration) -> Self {
        Self {
            keys,
            watchers,
            connections,
            began: Instant::now(),
            from,
            next: 0,
            delays: Histogram::default(),
            parts: HashMap::new(),
        }
    }

    fn message(&mut self, message: &[u8]) {
        let now = self.began.elapsed();
        for stamp in stamps(message) {
            if stamp >= self.from {
                self.delays.record(now.saturating_sub(stamp));
            }
        }
    }
}

/// The times that stand in the values of a watch response's events.
fn stamps(message: &[u8]) -> impl Iterator<Item = Duration> {
    let within = |wanted| {
        move |(tag, value)| match value {
            Value::Bytes(bytes) if tag == wanted => Some(bytes),
            Value::Bytes(_) | Value::Number(_) => None,
        }
    };
    Fields(message)
        .filter_map(within(EVENTS))
        .filter_map(move |event| Fields(event).find_map(within(EVENT_KV)))
        .filter_map(move |kv| Fields(kv).find_map(within(KV_VALUE)))
        .filter_map(|value| value.first_chunk())
        .map(|stamp| Duration::from_nanos(u64::from_be_bytes(*stamp)))
}

impl Workload for Fan {
    fn begin(&mut self, place: usize, connection: &mut Connection) {
        for watcher in (place..self.watchers).step_by(self.connections) {
            let key = self.keys.key(watcher % self.keys.count);
            watch(connection, key, bytes::Bytes::new());
        }
    }

    fn send(&mut self, _client: usize, connection: &mut Connection, _open: Option<u32>) -> u32 {
        let stamp = u64::try_from(self.began.elapsed().as_nanos()).expect("runs are short");
        let mut value = value(256).to_vec();
        value[..STAMP_BYTES].copy_from_slice(&stamp.to_be_bytes());
        let key = self.keys.key(self.next % self.keys.count);
        self.next += 1;
        let mut message = Vec::with_capacity(512);
        put_message(&put(key, value.into()), &mut message);
        connection.call(PUT, &message, More::Ends)
    }

    fn other(&mut self, connection: usize, stream: u32, bytes: &[u8], last: bool) {
        let begun = self.parts.remove(&(connection, stream));
        match (begun, last) {
            (None, true) => self.message(bytes),
            (begun, last) => {
                let mut message = begun.unwrap_or_default();
                message.extend_from_slice(bytes);
                if last {
                    self.message(&message);
                } else {
                    self.parts.insert((connection, stream), message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use catena_api::{Event, KeyValueView};
    use prost::Message;

    use super::*;

    #[test]
    fn stamps_are_found_in_every_event() {
        let event = |nanos: u64| {
            let value = [&nanos.to_be_bytes()[..], b"rest"].concat();
            let kv = KeyValueView {
                key: "key".into(),
                create_revision: 1,
                mod_revision: 2,
                version: 2,
                value: value.into(),
                lease: 0,
            };
            Event::new(catena_api::EventType::Put, &kv.encode(), None)
        };
        let response = pb::WatchResponse {
            header: Some(pb::ResponseHeader::default()),
            watch_id: 3,
            events: vec![event(5), event(1 << 40)],
            ..Default::default()
        };
        let found: Vec<_> = stamps(&response.encode_to_vec()).collect();
        assert_eq!(found, [5, 1 << 40].map(Duration::from_nanos));
    }
}
