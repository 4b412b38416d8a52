//! What is written comes back; what is not as written is refused, and nothing panics.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use openraft::raft::AppendEntriesRequest;

use super::*;
use crate::types::{Commands, Entry, Payload, Prod};

fn membership() -> Membership {
    let peer = |n: u64| Peer {
        name: format!("m{n}"),
        peer_urls: vec![format!("http://127.0.0.1:{n}")],
    };
    let peers: BTreeMap<u64, Peer> = (1..=4).map(|id| (id, peer(id))).collect();
    Membership::new(vec![BTreeSet::from([1, 2, 3])], peers).unwrap()
}

fn entry(index: u64) -> Entry {
    Entry {
        log_id: log_id(7, index),
        payload: Payload {
            commands: Commands(Bytes::from(vec![index as u8; 20])),
            membership: (index % 2 == 1).then(|| Arc::new(membership())),
        },
    }
}

fn request(first: u64, count: u64) -> AppendEntriesRequest<Prod> {
    AppendEntriesRequest {
        vote: Vote::new_committed(7, 1),
        prev_log_id: first.checked_sub(1).map(|prev| log_id(6, prev)),
        entries: (first..first + count).map(entry).collect(),
        leader_commit: Some(log_id(6, 1)),
    }
}

#[test]
fn small_values_come_back() {
    let vote = Vote::new(3, u64::MAX);
    assert_eq!(decode::<Vote>(&encode(&vote)).unwrap(), vote);
    let id = log_id(9, 0);
    assert_eq!(decode::<LogId>(&encode(&id)).unwrap(), id);
    let stored = StoredMembership::new(Some(id), membership());
    assert_eq!(
        decode::<StoredMembership>(&encode(&stored)).unwrap(),
        stored
    );
    let none = StoredMembership::default();
    assert_eq!(decode::<StoredMembership>(&encode(&none)).unwrap(), none);
}

#[test]
fn membership_with_an_unknown_voter_is_refused() {
    let form = MembershipForm {
        configs: vec![BTreeSet::from([1, 5])],
        peers: BTreeMap::from([(1, Peer::default())]),
    };
    assert!(decode::<Membership>(&encode_plain(&form)).is_err());
}

#[test]
fn entries_come_back() {
    for index in 0..4 {
        let entry = entry(index);
        assert_eq!(decode_entry(index, encode_entry(&entry)).unwrap(), entry);
    }
}

#[test]
fn requests_to_append_come_back() {
    for (first, count) in [(0, 3), (5, 0), (5, 4)] {
        let sent = request(first, count);
        let got = decode_append_request::<Prod>(append_request(&sent)).unwrap();
        assert_eq!(format!("{got:?}"), format!("{sent:?}"));
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let mut gap = request(5, 3);
    gap.entries.remove(1);
    let mut late = request(5, 3);
    late.entries.remove(0);
    let mut older = request(5, 3);
    older.entries[2].log_id = log_id(6, 7);
    let mut no_leader = request(5, 3);
    no_leader.vote = Vote::new(7, 1);
    for request in [gap, late, older, no_leader] {
        assert!(decode_append_request::<Prod>(append_request(&request)).is_err());
    }
}

#[test]
fn damaged_requests_panic_nowhere() {
    let whole = append_request(&request(5, 3));
    for len in 0..whole.len() {
        assert!(
            decode_append_request::<Prod>(whole.slice(..len)).is_err(),
            "{len}"
        );
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let _either = decode_append_request::<Prod>(bytes.into());
    }
}
