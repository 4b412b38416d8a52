//! `mvccpb.KeyValue` and `mvccpb.Event` as the bytes they are on the wire.
//!
//! A stored key-value pair is written to the disk, hashed and sent to clients in one and the same form, so it is encoded once,
//! when it is made, and never decoded on its way out. The encoding is canonical: fields ascending, zero values left out. That is
//! the form over which etcd's HashKV is defined.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

const KEY: u32 = 1;
const CREATE_REVISION: u32 = 2;
const MOD_REVISION: u32 = 3;
const VERSION: u32 = 4;
const VALUE: u32 = 5;
const LEASE: u32 = 6;

const EVENT_TYPE: u32 = 1;
const EVENT_KV: u32 = 2;
const EVENT_PREV_KV: u32 = 3;

/// A key-value pair in its protobuf encoding (`mvccpb.KeyValue`). Cloning shares the bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct KeyValue {
    raw: Bytes,
}

/// The fields of a [`KeyValue`]; `key` and `value` share its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyValueView {
    /// The key.
    pub key: Bytes,
    /// Revision of the write that created the present generation.
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// Number of writes in the present generation.
    pub version: i64,
    /// The value.
    pub value: Bytes,
    /// Attached lease, or 0.
    pub lease: i64,
}

impl KeyValueView {
    /// Encodes the fields canonically.
    pub fn encode(&self) -> KeyValue {
        let numbers = [
            (CREATE_REVISION, self.create_revision),
            (MOD_REVISION, self.mod_revision),
            (VERSION, self.version),
        ];
        let numbers_len: usize = numbers.iter().map(|(_, number)| number_len(*number)).sum();
        let bytes_len = bytes_len(&self.key) + bytes_len(&self.value);
        // Exactly: it is kept as long as anybody may ask for it.
        let mut raw = BytesMut::with_capacity(bytes_len + numbers_len + number_len(self.lease));
        put_bytes(KEY, &self.key, &mut raw);
        for (tag, number) in numbers {
            put_number(tag, number, &mut raw);
        }
        put_bytes(VALUE, &self.value, &mut raw);
        put_number(LEASE, self.lease, &mut raw);
        KeyValue { raw: raw.freeze() }
    }
}

impl KeyValue {
    /// Takes bytes that are known to be an encoded `KeyValue`, such as a record that the store wrote.
    pub fn from_encoded(raw: Bytes) -> Self {
        Self { raw }
    }

    /// A tombstone's value: only the key.
    pub fn tombstone(key: Bytes) -> Self {
        KeyValueView {
            key,
            ..KeyValueView::default()
        }
        .encode()
    }

    /// The encoded form.
    pub fn as_encoded(&self) -> &Bytes {
        &self.raw
    }

    /// Decodes all fields. Bytes that are no `KeyValue` give the fields before the damage.
    pub fn view(&self) -> KeyValueView {
        let mut view = KeyValueView::default();
        let mut rest = self.raw.clone();
        while rest.has_remaining() {
            if view.merge_next(&mut rest).is_err() {
                break;
            }
        }
        view
    }

    /// The key.
    pub fn key(&self) -> Bytes {
        self.view().key
    }

    /// The value.
    pub fn value(&self) -> Bytes {
        self.view().value
    }
}

impl KeyValueView {
    fn merge_next(&mut self, rest: &mut Bytes) -> Result<(), DecodeError> {
        let (tag, wire_type) = encoding::decode_key(rest)?;
        self.merge_field(tag, wire_type, rest, DecodeContext::default())
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            KEY => encoding::bytes::merge(wire_type, &mut self.key, buf, ctx),
            CREATE_REVISION => {
                encoding::int64::merge(wire_type, &mut self.create_revision, buf, ctx)
            }
            MOD_REVISION => encoding::int64::merge(wire_type, &mut self.mod_revision, buf, ctx),
            VERSION => encoding::int64::merge(wire_type, &mut self.version, buf, ctx),
            VALUE => encoding::bytes::merge(wire_type, &mut self.value, buf, ctx),
            LEASE => encoding::int64::merge(wire_type, &mut self.lease, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }
}

impl std::fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.view().fmt(f)
    }
}

/// The fields of an encoded [`KeyValue`] but for revision and value, where they lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueHead<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Revision of the write that created the present generation.
    pub create_revision: i64,
    /// Number of writes in the present generation.
    pub version: i64,
    /// Attached lease, or 0.
    pub lease: i64,
}

impl<'a> KeyValueHead<'a> {
    /// Reads the fields. Bytes that are no `KeyValue` give the fields before the damage.
    pub fn of(encoded: &'a [u8]) -> Self {
        let mut head = Self::default();
        let mut rest = encoded;
        while !rest.is_empty() {
            if head.read_next(&mut rest).is_none() {
                break;
            }
        }
        head
    }

    fn read_next(&mut self, rest: &mut &'a [u8]) -> Option<()> {
        let (tag, wire_type) = encoding::decode_key(rest).ok()?;
        if wire_type == WireType::LengthDelimited {
            let len = usize::try_from(encoding::decode_varint(rest).ok()?).ok()?;
            let (bytes, behind) = rest.split_at_checked(len)?;
            *rest = behind;
            if tag == KEY {
                self.key = bytes;
            }
            return Some(());
        }
        let number = match tag {
            CREATE_REVISION => &mut self.create_revision,
            VERSION => &mut self.version,
            LEASE => &mut self.lease,
            _ => &mut 0,
        };
        encoding::int64::merge(wire_type, number, rest, DecodeContext::default()).ok()
    }
}

impl Message for KeyValue {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.raw);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let mut view = self.view();
        view.merge_field(tag, wire_type, buf, ctx)?;
        *self = view.encode();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.raw.len()
    }

    fn clear(&mut self) {
        self.raw.clear();
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EventType {
    /// The key was written.
    #[default]
    Put,
    /// The key was deleted.
    Delete,
}

/// A change of one key in its protobuf encoding (`mvccpb.Event`). Cloning shares the bytes: one event serves all its watchers.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Event {
    raw: Bytes,
}

impl Event {
    /// Encodes an event. For a deletion `kv` holds only key and mod_revision.
    pub fn new(kind: EventType, kv: &KeyValue, prev_kv: Option<&KeyValue>) -> Self {
        let size = kv.raw.len() + prev_kv.map_or(0, |kv| kv.raw.len() + 11) + 13;
        let mut raw = BytesMut::with_capacity(size);
        put_number(EVENT_TYPE, i64::from(kind == EventType::Delete), &mut raw);
        put_message(EVENT_KV, &kv.raw, &mut raw);
        if let Some(prev_kv) = prev_kv {
            put_message(EVENT_PREV_KV, &prev_kv.raw, &mut raw);
        }
        Self { raw: raw.freeze() }
    }

    /// The kind of change.
    pub fn kind(&self) -> EventType {
        self.parts().0
    }

    /// The pair after the change; of a deletion, its key and mod_revision.
    pub fn kv(&self) -> Option<KeyValue> {
        self.parts().1
    }

    /// The pair before the change, if the watch asked for it and it is not compacted.
    pub fn prev_kv(&self) -> Option<KeyValue> {
        self.parts().2
    }

    fn parts(&self) -> (EventType, Option<KeyValue>, Option<KeyValue>) {
        let mut parts = EventParts::default();
        let mut rest = self.raw.clone();
        while rest.has_remaining() {
            let merged = encoding::decode_key(&mut rest).and_then(|(tag, wire_type)| {
                parts.merge_field(tag, wire_type, &mut rest, DecodeContext::default())
            });
            if merged.is_err() {
                break;
            }
        }
        let kind = if parts.kind == 1 {
            EventType::Delete
        } else {
            EventType::Put
        };
        (kind, parts.kv, parts.prev_kv)
    }
}

#[derive(Default)]
struct EventParts {
    kind: i32,
    kv: Option<KeyValue>,
    prev_kv: Option<KeyValue>,
}

impl EventParts {
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            EVENT_TYPE => encoding::int32::merge(wire_type, &mut self.kind, buf, ctx),
            EVENT_KV => {
                let kv = self.kv.get_or_insert_default();
                encoding::message::merge(wire_type, kv, buf, ctx)
            }
            EVENT_PREV_KV => {
                let kv = self.prev_kv.get_or_insert_default();
                encoding::message::merge(wire_type, kv, buf, ctx)
            }
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encode(&self) -> Event {
        let pairs = [&self.kv, &self.prev_kv].into_iter().flatten();
        let pairs_len: usize = pairs.map(|kv| bytes_len(&kv.raw)).sum();
        let kind = i64::from(self.kind);
        let mut raw = BytesMut::with_capacity(number_len(kind) + pairs_len);
        put_number(EVENT_TYPE, kind, &mut raw);
        for (tag, kv) in [(EVENT_KV, &self.kv), (EVENT_PREV_KV, &self.prev_kv)] {
            if let Some(kv) = kv {
                put_message(tag, &kv.raw, &mut raw);
            }
        }
        Event { raw: raw.freeze() }
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, kv, prev_kv) = self.parts();
        f.debug_struct("Event")
            .field("kind", &kind)
            .field("kv", &kv)
            .field("prev_kv", &prev_kv)
            .finish()
    }
}

impl Message for Event {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.raw);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        let (kind, kv, prev_kv) = self.parts();
        let mut parts = EventParts {
            kind: i32::from(kind == EventType::Delete),
            kv,
            prev_kv,
        };
        parts.merge_field(tag, wire_type, buf, ctx)?;
        *self = parts.encode();
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.raw.len()
    }

    fn clear(&mut self) {
        self.raw.clear();
    }
}

fn put_number(tag: u32, number: i64, buf: &mut BytesMut) {
    if number != 0 {
        encoding::int64::encode(tag, &number, buf);
    }
}

/// What [`put_number`] writes, with a tag of one byte.
fn number_len(number: i64) -> usize {
    match number {
        0 => 0,
        _ => 1 + encoding::encoded_len_varint(number as u64),
    }
}

/// What [`put_bytes`] writes, with a tag of one byte.
fn bytes_len(bytes: &Bytes) -> usize {
    match bytes.len() {
        0 => 0,
        len => 1 + encoding::encoded_len_varint(len as u64) + len,
    }
}

fn put_bytes(tag: u32, bytes: &Bytes, buf: &mut BytesMut) {
    if !bytes.is_empty() {
        put_message(tag, bytes, buf);
    }
}

fn put_message(tag: u32, encoded: &Bytes, buf: &mut BytesMut) {
    encoding::encode_key(tag, WireType::LengthDelimited, buf);
    encoding::encode_varint(encoded.len() as u64, buf);
    buf.put_slice(encoded);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> KeyValueView {
        KeyValueView {
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            mod_revision: 300,
            version: 2,
            value: Bytes::from_static(b"v"),
            lease: -1,
        }
    }

    #[test]
    fn key_value_round_trip() {
        let kv = sample().encode();
        assert_eq!(kv.view(), sample());
        assert_eq!(KeyValue::decode(kv.as_encoded().clone()).unwrap(), kv);
        assert_eq!(&kv.encode_to_vec()[..], &kv.as_encoded()[..]);
    }

    #[test]
    fn lengths_are_those_of_what_is_written() {
        let mut raw = BytesMut::new();
        for number in [0, 1, 127, 128, 1 << 40, i64::MAX, -1] {
            put_number(VERSION, number, &mut raw);
            assert_eq!(number_len(number), raw.split().len(), "{number}");
        }
        for len in [0, 1, 127, 128, 20_000] {
            let bytes = Bytes::from(vec![7; len]);
            put_bytes(VALUE, &bytes, &mut raw);
            assert_eq!(bytes_len(&bytes), raw.split().len(), "{len}");
        }
    }

    #[test]
    fn the_head_is_what_decoding_finds() {
        let whole = sample().encode();
        for len in 0..=whole.as_encoded().len() {
            let part = KeyValue::from_encoded(whole.as_encoded().slice(..len));
            let view = part.view();
            let head = KeyValueHead {
                key: &view.key,
                create_revision: view.create_revision,
                version: view.version,
                lease: view.lease,
            };
            assert_eq!(KeyValueHead::of(part.as_encoded()), head, "{len} bytes");
        }
        assert_eq!(KeyValueHead::of(&[0xff; 20]), KeyValueHead::default());
    }

    #[test]
    fn tombstone_is_only_the_key() {
        assert_eq!(
            &KeyValue::tombstone(Bytes::from_static(b"foo")).as_encoded()[..],
            b"\x0a\x03foo"
        );
    }

    #[test]
    fn event_round_trip() {
        let (kv, prev_kv) = (
            sample().encode(),
            KeyValue::tombstone(Bytes::from_static(b"k")),
        );
        for kind in [EventType::Put, EventType::Delete] {
            let event = Event::new(kind, &kv, Some(&prev_kv));
            let decoded = Event::decode(&event.encode_to_vec()[..]).unwrap();
            assert_eq!(decoded, event);
            assert_eq!(
                (decoded.kind(), decoded.kv(), decoded.prev_kv()),
                (kind, Some(kv.clone()), Some(prev_kv.clone()))
            );
        }
    }

    #[test]
    fn damaged_bytes_do_not_panic() {
        for end in 0..40 {
            let raw = sample().encode().as_encoded().clone();
            KeyValue::from_encoded(raw.slice(..end.min(raw.len()))).view();
            assert!(KeyValue::decode(&[0x0a, 0xff, 0xff][..]).is_err());
        }
    }
}
