//! What the log carries and what apply answers.

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::{codec, error::Error};

/// Place of an entry in the log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Term of the leader that wrote the entry.
    pub term: u64,
    /// Index of the entry, from 0.
    pub index: u64,
}

/// Who asked, checked again at apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User name.
    pub user: String,
    /// Revision of the auth store when the request was admitted.
    pub auth_revision: u64,
}

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Who asked; absent when authentication is off and for what members themselves propose.
    pub identity: Option<Identity>,
    /// What to do.
    pub request: Request,
}

/// The kinds of change.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Writes a key.
    Put(pb::PutRequest),
    /// Deletes an interval of keys.
    DeleteRange(pb::DeleteRangeRequest),
    /// Compares, then does one of two lists of operations.
    Txn(pb::TxnRequest),
    /// Drops history.
    Compact(pb::CompactionRequest),
    /// Makes a lease; the id is chosen by the proposer, the TTL already raised to the minimum.
    LeaseGrant(pb::LeaseGrantRequest),
    /// Ends a lease and deletes its keys.
    LeaseRevoke(pb::LeaseRevokeRequest),
    /// Notes the remaining time of leases.
    LeaseCheckpoint(Vec<LeaseCheckpoint>),
    /// Raises or lifts an alarm.
    Alarm(pb::AlarmRequest),
    /// Changes the record of members; travels in the same entry as raft's own change of membership where there is one.
    Member(MemberChange),
    /// Sets the cluster version, such as `3.7.0`.
    ClusterVersion(String),
}

/// Remaining time of a lease; 0 clears the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCheckpoint {
    /// The lease.
    pub id: i64,
    /// Remaining seconds.
    pub remaining_ttl_secs: i64,
}

/// A member as the state machine records it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Id, never used again once removed.
    pub id: u64,
    /// Name; empty until the member has started and published it.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until published.
    pub client_urls: Vec<String>,
    /// Whether it is listed as a learner.
    pub is_learner: bool,
}

/// A change of the record of members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// The first members of the cluster, with the cluster's id.
    Bootstrap {
        /// Fixed for the cluster's life.
        cluster_id: u64,
        /// All first members.
        members: Vec<Member>,
    },
    /// Adds a member.
    Add(Member),
    /// Removes a member for ever.
    Remove {
        /// The member.
        id: u64,
    },
    /// Replaces the peer URLs.
    Update {
        /// The member.
        id: u64,
        /// The new URLs.
        peer_urls: Vec<String>,
    },
    /// Makes a learner a voter.
    Promote {
        /// The member.
        id: u64,
    },
    /// A started member makes its name and client URLs known.
    Publish {
        /// The member.
        id: u64,
        /// Its name.
        name: String,
        /// Its client URLs.
        client_urls: Vec<String>,
    },
}

/// What a command gave. Headers inside are absent: the edge fills them.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Of [`Request::Put`].
    Put(pb::PutResponse),
    /// Of [`Request::DeleteRange`].
    DeleteRange(pb::DeleteRangeResponse),
    /// Of [`Request::Txn`]; the headers of inner responses are set as etcd does.
    Txn(pb::TxnResponse),
    /// Of [`Request::Compact`].
    Compact(pb::CompactionResponse),
    /// Of [`Request::LeaseGrant`].
    LeaseGrant(pb::LeaseGrantResponse),
    /// Of [`Request::LeaseRevoke`].
    LeaseRevoke(pb::LeaseRevokeResponse),
    /// Of [`Request::Alarm`].
    Alarm(pb::AlarmResponse),
    /// Of all others.
    Done,
}

/// Result of one applied command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer, or the error that every member came to alike.
    pub result: Result<Response, Error>,
    /// Revision of the store after the command.
    pub revision: i64,
    /// Where the command stood in the log.
    pub position: Position,
}

/// The form on disk and wire: bincode around protobuf messages, which keep their own encoding.
#[derive(Serialize, Deserialize)]
struct Encoded {
    identity: Option<Identity>,
    request: EncodedRequest,
}

#[derive(Serialize, Deserialize)]
enum EncodedRequest {
    Put(Bytes),
    DeleteRange(Bytes),
    Txn(Bytes),
    Compact(Bytes),
    LeaseGrant(Bytes),
    LeaseRevoke(Bytes),
    LeaseCheckpoint(Vec<LeaseCheckpoint>),
    Alarm(Bytes),
    Member(MemberChange),
    ClusterVersion(String),
}

/// What an encoded command takes beside its message, without an identity: format, kinds and a length.
const FRAME_BYTES: usize = 16;

impl Command {
    /// A command that a member proposes in its own name.
    pub fn internal(request: Request) -> Self {
        Self {
            identity: None,
            request,
        }
    }

    /// Whether applying it may take long: what touches an interval of keys, or all keys of a lease, is as large as the store.
    pub fn may_take_long(&self) -> bool {
        match &self.request {
            Request::DeleteRange(delete) => !delete.range_end.is_empty(),
            Request::Txn(txn) => touches_interval(txn),
            Request::LeaseRevoke(_) => true,
            Request::Put(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseCheckpoint(_)
            | Request::Alarm(_)
            | Request::Member(_)
            | Request::ClusterVersion(_) => false,
        }
    }

    /// Encodes the command for the log.
    pub fn encode(&self) -> Bytes {
        let bytes = |message: Vec<u8>| Bytes::from(message);
        let request = match &self.request {
            Request::Put(m) => EncodedRequest::Put(bytes(m.encode_to_vec())),
            Request::DeleteRange(m) => EncodedRequest::DeleteRange(bytes(m.encode_to_vec())),
            Request::Txn(m) => EncodedRequest::Txn(bytes(m.encode_to_vec())),
            Request::Compact(m) => EncodedRequest::Compact(bytes(m.encode_to_vec())),
            Request::LeaseGrant(m) => EncodedRequest::LeaseGrant(bytes(m.encode_to_vec())),
            Request::LeaseRevoke(m) => EncodedRequest::LeaseRevoke(bytes(m.encode_to_vec())),
            Request::LeaseCheckpoint(list) => EncodedRequest::LeaseCheckpoint(list.clone()),
            Request::Alarm(m) => EncodedRequest::Alarm(bytes(m.encode_to_vec())),
            Request::Member(change) => EncodedRequest::Member(change.clone()),
            Request::ClusterVersion(version) => EncodedRequest::ClusterVersion(version.clone()),
        };
        let message_bytes = match &request {
            EncodedRequest::Put(m) | EncodedRequest::DeleteRange(m) | EncodedRequest::Txn(m) => {
                m.len()
            }
            _ => 0,
        };
        let encoded = Encoded {
            identity: self.identity.clone(),
            request,
        };
        codec::encode_sized(&encoded, message_bytes + FRAME_BYTES)
    }

    /// Decodes a command; the error says what is wrong with the bytes.
    pub fn decode(encoded: &Bytes) -> Result<Self, codec::Malformed> {
        let Encoded { identity, request } = codec::decode(encoded)?;
        let request = match request {
            EncodedRequest::Put(m) => Request::Put(pb::PutRequest::decode(m)?),
            EncodedRequest::DeleteRange(m) => {
                Request::DeleteRange(pb::DeleteRangeRequest::decode(m)?)
            }
            EncodedRequest::Txn(m) => Request::Txn(pb::TxnRequest::decode(m)?),
            EncodedRequest::Compact(m) => Request::Compact(pb::CompactionRequest::decode(m)?),
            EncodedRequest::LeaseGrant(m) => Request::LeaseGrant(pb::LeaseGrantRequest::decode(m)?),
            EncodedRequest::LeaseRevoke(m) => {
                Request::LeaseRevoke(pb::LeaseRevokeRequest::decode(m)?)
            }
            EncodedRequest::LeaseCheckpoint(list) => Request::LeaseCheckpoint(list),
            EncodedRequest::Alarm(m) => Request::Alarm(pb::AlarmRequest::decode(m)?),
            EncodedRequest::Member(change) => Request::Member(change),
            EncodedRequest::ClusterVersion(version) => Request::ClusterVersion(version),
        };
        Ok(Self { identity, request })
    }
}

fn touches_interval(txn: &pb::TxnRequest) -> bool {
    use pb::request_op::Request as Op;
    let of_compares = |compare: &pb::Compare| !compare.range_end.is_empty();
    let of_ops = |op: &pb::RequestOp| match &op.request {
        Some(Op::RequestRange(range)) => !range.range_end.is_empty(),
        Some(Op::RequestDeleteRange(delete)) => !delete.range_end.is_empty(),
        Some(Op::RequestTxn(inner)) => touches_interval(inner),
        Some(Op::RequestPut(_)) | None => false,
    };
    txn.compare.iter().any(of_compares) || txn.success.iter().chain(&txn.failure).any(of_ops)
}

#[cfg(test)]
mod tests {
    use pb::request_op::Request as Op;

    use super::*;

    fn txn(success: Vec<Op>, compares: Vec<pb::Compare>) -> pb::TxnRequest {
        let op = |request| pb::RequestOp {
            request: Some(request),
        };
        pb::TxnRequest {
            compare: compares,
            success: success.into_iter().map(op).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn what_touches_an_interval_may_take_long() {
        let end = Bytes::from_static(b"z");
        let takes_long = |request| Command::internal(request).may_take_long();
        let range = |range_end: &Bytes| {
            Op::RequestRange(pb::RangeRequest {
                range_end: range_end.clone(),
                ..Default::default()
            })
        };
        let one = txn(vec![range(&Bytes::new())], Vec::new());
        assert!(!takes_long(Request::Put(pb::PutRequest::default())));
        assert!(!takes_long(Request::DeleteRange(Default::default())));
        assert!(!takes_long(Request::Txn(one.clone())));
        assert!(!takes_long(Request::Txn(txn(
            vec![Op::RequestTxn(one)],
            Vec::new()
        ))));

        let many = txn(vec![range(&end)], Vec::new());
        let compare = pb::Compare {
            range_end: end.clone(),
            ..Default::default()
        };
        let delete = pb::DeleteRangeRequest {
            range_end: end,
            ..Default::default()
        };
        assert!(takes_long(Request::Txn(txn(
            vec![Op::RequestTxn(many.clone())],
            Vec::new()
        ))));
        assert!(takes_long(Request::Txn(many)));
        assert!(takes_long(Request::Txn(txn(Vec::new(), vec![compare]))));
        assert!(takes_long(Request::DeleteRange(delete)));
        assert!(takes_long(Request::LeaseRevoke(Default::default())));
    }
}
