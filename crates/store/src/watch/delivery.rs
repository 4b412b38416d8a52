//! What a stream has to send.

use catena_api::{Event, etcd::etcdserverpb as pb};
use prost::Message;

/// What one response to a watcher says.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The watch; -1 for progress of the whole stream.
    pub watch_id: i64,
    /// Revision for the header; 0 = leave it out.
    pub revision: i64,
    /// The rest.
    pub kind: DeliveryKind,
}

/// Kinds of delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum DeliveryKind {
    /// Events of one watch, whole revisions.
    Events {
        /// In order of revision and sub-revision.
        events: Vec<Event>,
        /// Whether the watch allows the response to be split.
        fragment: bool,
    },
    /// Every event up to `revision` has been delivered.
    Progress,
    /// Compaction overtook the watch; it gets nothing more, and its id stays in use until it is cancelled.
    Compacted {
        /// The compacted revision.
        compact_revision: i64,
    },
}

impl Delivery {
    /// The responses to send, without cluster id, member id and term: one, or several if the watch allows fragments and the
    /// response would have `limit_bytes` or more.
    pub fn into_responses(self, limit_bytes: usize) -> Vec<pb::WatchResponse> {
        let mut response = pb::WatchResponse {
            header: header(self.revision),
            watch_id: self.watch_id,
            ..Default::default()
        };
        match self.kind {
            DeliveryKind::Progress => vec![response],
            DeliveryKind::Compacted { compact_revision } => {
                response.canceled = true;
                response.compact_revision = compact_revision;
                vec![response]
            }
            DeliveryKind::Events { events, fragment } => {
                response.events = events;
                let splits = fragment && response.events.len() > 1;
                match splits && response.encoded_len() >= limit_bytes {
                    true => split(response, limit_bytes),
                    false => vec![response],
                }
            }
        }
    }
}

/// A header with nothing but a revision.
pub(super) fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}

/// Fills each piece with events as long as it stays below the limit, with one event at least.
fn split(mut whole: pb::WatchResponse, limit_bytes: usize) -> Vec<pb::WatchResponse> {
    let events = std::mem::take(&mut whole.events);
    whole.fragment = true;
    let head_bytes = whole.encoded_len();
    let mut pieces = Vec::new();
    let mut piece = whole.clone();
    let mut bytes = head_bytes;
    for event in events {
        let len = event.encoded_len();
        // One byte of tag, and the length.
        let event_bytes = 1 + prost::length_delimiter_len(len) + len;
        if !piece.events.is_empty() && bytes + event_bytes >= limit_bytes {
            pieces.push(std::mem::replace(&mut piece, whole.clone()));
            bytes = head_bytes;
        }
        bytes += event_bytes;
        piece.events.push(event);
    }
    piece.fragment = false;
    pieces.push(piece);
    pieces
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use catena_api::{EventType, KeyValueView};

    use super::*;

    fn event(value_bytes: usize) -> Event {
        let kv = KeyValueView {
            key: "k".into(),
            value: Bytes::from(vec![7; value_bytes]),
            ..KeyValueView::default()
        };
        Event::new(EventType::Put, &kv.encode(), None)
    }

    fn pieces(sizes: &[usize], fragment: bool, limit: usize) -> Vec<Vec<usize>> {
        let delivery = Delivery {
            watch_id: 3,
            revision: 9,
            kind: DeliveryKind::Events {
                events: sizes.iter().map(|size| event(*size)).collect(),
                fragment,
            },
        };
        let responses = delivery.into_responses(limit);
        for (i, response) in responses.iter().enumerate() {
            assert_eq!(response.fragment, i + 1 < responses.len());
            assert_eq!((response.watch_id, &response.header), (3, &header(9)));
            assert!(response.encoded_len() < limit || response.events.len() == 1 || !fragment);
        }
        let value = |event: &Event| event.kv().map_or(0, |kv| kv.value().len());
        responses
            .iter()
            .map(|piece| piece.events.iter().map(value).collect())
            .collect()
    }

    #[test]
    fn only_what_is_too_large_is_split() {
        assert_eq!(pieces(&[10, 10, 10], true, 1000), [vec![10, 10, 10]]);
        assert_eq!(pieces(&[300, 300], false, 500), [vec![300, 300]]);
        assert_eq!(pieces(&[300, 300], true, 500), [vec![300], vec![300]]);
        assert_eq!(pieces(&[900], true, 500), [vec![900]]);
        assert_eq!(
            pieces(&[100, 100, 100, 900, 100, 100], true, 500),
            [vec![100, 100, 100], vec![900], vec![100, 100]]
        );
    }
}
