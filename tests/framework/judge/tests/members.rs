//! Lies of members about what they hold at the end, and of recorders about what was answered.

use bytes::Bytes;

use crate::history::{
    Answer, Args, Final, Header, History, Outcome, Pair, Record, Reply, Stored, WatchEvent,
};

fn last_of(history: &mut History) -> Option<&mut Final> {
    history.records.iter_mut().find_map(|record| match record {
        Record::Final(last) => Some(last),
        _ => None,
    })
}

pub(super) fn member_ends_differently(history: &mut History) -> bool {
    last_of(history).and_then(|last| last.kvs.pop()).is_some()
}

pub(super) fn member_ends_behind(history: &mut History) -> bool {
    last_of(history).map(|last| last.revision -= 1).is_some()
}

pub(super) fn hash_differs(history: &mut History) -> bool {
    last_of(history).map(|last| last.hash += 1).is_some()
}

pub(super) fn key_appears_at_end(history: &mut History) -> bool {
    let stray = Pair {
        key: Bytes::from_static(b"stray"),
        ..Pair::default()
    };
    last_of(history).map(|last| last.kvs.push(stray)).is_some()
}

pub(super) fn write_of_unknown_outcome_told_as_ok(history: &mut History) -> bool {
    // One that never ran.
    let written: Vec<Vec<u8>> = history
        .watches()
        .filter_map(|record| match &record.event {
            WatchEvent::Batch { events, .. } => Some(events),
            _ => None,
        })
        .flatten()
        .map(|event| event.kv.value.token().to_vec())
        .collect();
    let unknown = history.operations().find(|operation| {
        let token = operation.token.clone().unwrap_or_default();
        operation.unknown()
            && matches!(operation.args, Args::Put(_))
            && !written.contains(&token.into_bytes())
    });
    let Some(id) = unknown.map(|operation| operation.id) else {
        return false;
    };
    let revision = history
        .finals()
        .map(|last| last.revision)
        .max()
        .unwrap_or(0);
    for record in &mut history.records {
        match record {
            Record::Op(operation) if operation.id == id => {
                operation.return_ns = Some(operation.call_ns + 1);
                operation.outcome = Outcome::Ok(Answer {
                    reply: Reply::Put(Stored::default()),
                    header: Header {
                        revision: Some(revision),
                        ..Header::default()
                    },
                });
            }
            Record::End(end) => end.unknown -= 1,
            _ => {}
        }
    }
    true
}
