//! The stream in which a member sends its state to another.
//!
//! An input is a byte of options and the stream.

use std::sync::Arc;

use bytes::Bytes;
use catena_store::backend::{Backend, Dump, Load, LoadError, View};

use crate::{
    MENDED,
    memory::{Bound, bounded},
    number, refused, split,
    state::{engine, opens, pairs},
};

/// The store's fixed parts; and the input in frames, in batches, in the engine, in the index, and once more as it is dumped again.
const BOUND: Bound = Bound {
    fixed: 16 << 20,
    per_byte: 256,
};

/// Bytes of a frame before its payload: kind and length; the sum follows.
const HEAD_BYTES: usize = 5;
const SUM_BYTES: usize = 4;

/// Kinds of frames.
const RECORDS: u8 = 2;
const FOOTER: u8 = 3;

/// Bytes of a footer: records, bytes, sum of the stream.
const FOOTER_BYTES: usize = 20;

/// One input.
pub fn check(input: &[u8]) {
    let (first, rest) = split(input);
    let mut stream = rest.to_vec();
    if first & MENDED != 0 {
        mend(&mut stream);
    }
    bounded(BOUND, input, || load(&stream));
}

fn load(stream: &[u8]) {
    let engine = engine();
    match Load::new(engine.clone()).read(&mut &*stream) {
        Err(LoadError::Malformed { what, .. }) => refused(what),
        Err(error) => panic!("memory fails: {error}"),
        Ok(loaded) => {
            if let Some(dumped) = dump(&engine, &loaded.meta) {
                again(&dumped, &engine, &loaded.meta);
            }
            opens(engine);
        }
    }
}

/// What an engine sends; nothing if `meta` does not fit into a frame.
pub(crate) fn dump(engine: &Arc<dyn Backend>, meta: &Bytes) -> Option<Vec<u8>> {
    let view: Arc<dyn View> = engine.view().expect("memory can be read").into();
    let mut dump = Dump::new(view, meta.clone());
    let mut stream = Vec::new();
    loop {
        match dump.next_frame() {
            Ok(Some(frame)) => stream.extend_from_slice(&frame),
            Ok(None) => return Some(stream),
            Err(_) => return None,
        }
    }
}

/// A stream of our own loads, and is what that engine sends.
fn again(stream: &[u8], from: &Arc<dyn Backend>, meta: &Bytes) {
    let engine = engine();
    let loaded = Load::new(engine.clone()).read(&mut &*stream);
    let loaded = loaded.expect("what was dumped can be loaded");
    assert_eq!(loaded.meta, *meta);
    let view =
        |engine: &Arc<dyn Backend>| pairs(engine.view().expect("memory can be read").as_ref());
    let (there, here) = (view(from), view(&engine));
    assert!(there == here, "pairs changed on the way");
    assert_eq!(loaded.records, here.len() as u64);
    assert!(dump(&engine, meta).as_deref() == Some(stream));
}

/// Writes the right sums over whatever the frames hold.
fn mend(stream: &mut [u8]) {
    let (mut at, mut bytes, mut sum) = (0, 0_u64, 0);
    while let Some(length) = number(stream, at + 1) {
        let end = (at + HEAD_BYTES).checked_add(length);
        let Some(end) = end.filter(|end| end.saturating_add(SUM_BYTES) <= stream.len()) else {
            return;
        };
        let payload = &mut stream[at..end];
        match payload[0] {
            RECORDS => {
                bytes += length as u64;
                sum = crc32c::crc32c_append(sum, &payload[HEAD_BYTES..]);
            }
            FOOTER if length == FOOTER_BYTES => {
                let footer = &mut payload[HEAD_BYTES..];
                footer[8..16].copy_from_slice(&bytes.to_le_bytes());
                footer[16..].copy_from_slice(&sum.to_le_bytes());
            }
            _ => {}
        }
        let frame = crc32c::crc32c(&stream[at..end]);
        stream[end..end + SUM_BYTES].copy_from_slice(&frame.to_le_bytes());
        at = end + SUM_BYTES;
    }
}
