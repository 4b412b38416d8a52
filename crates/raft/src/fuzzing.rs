//! Doors for the fuzzers in `tests/fuzz`; in no other build.

use bytes::Bytes;
use catena_store::Command;

use crate::{
    batch,
    types::{Commands, Membership, Prod, SnapshotMeta, StoredMembership, Vote},
    wire::{
        self, AppendAnswer, BadBytes, MemberRequest, ProposeAnswer, Small, SnapshotAnswer,
        SnapshotHead, TransferAnswer, TransferRequest, VoteAnswer, VoteRequest,
    },
};

/// Everything that members send one another or keep in the log.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are those of the messages")]
pub enum Message {
    VoteRequest,
    VoteAnswer,
    TransferRequest,
    TransferAnswer,
    AppendRequest,
    AppendAnswer,
    SnapshotHead,
    SnapshotAnswer,
    Propose,
    ProposeAnswer,
    MemberRequest,
    Entry,
    Batch,
    Vote,
    StoredMembership,
}

impl Message {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::VoteRequest,
        Self::VoteAnswer,
        Self::TransferRequest,
        Self::TransferAnswer,
        Self::AppendRequest,
        Self::AppendAnswer,
        Self::SnapshotHead,
        Self::SnapshotAnswer,
        Self::Propose,
        Self::ProposeAnswer,
        Self::MemberRequest,
        Self::Entry,
        Self::Batch,
        Self::Vote,
        Self::StoredMembership,
    ];

    /// Reads the message as its receiver does, and writes what was understood. The error is what the receiver says.
    pub fn again(self, bytes: Bytes) -> Result<Bytes, String> {
        self.read(bytes).map_err(|error| error.to_string())
    }

    fn read(self, bytes: Bytes) -> Result<Bytes, BadBytes> {
        Ok(match self {
            Self::VoteRequest => {
                let message = wire::decode_plain::<VoteRequest>(&bytes)?;
                wire::encode_plain(&VoteRequest::new(&message.into_openraft::<Prod>()?))
            }
            Self::VoteAnswer => {
                let message = wire::decode_plain::<VoteAnswer>(&bytes)?;
                wire::encode_plain(&VoteAnswer::new(&message.into_openraft::<Prod>()?))
            }
            Self::TransferRequest => {
                let message = wire::decode_plain::<TransferRequest>(&bytes)?;
                wire::encode_plain(&TransferRequest::new(&message.into_openraft::<Prod>()?))
            }
            Self::TransferAnswer => {
                let message = wire::decode_plain::<TransferAnswer>(&bytes)?;
                wire::encode_plain(&TransferAnswer::new(&message.into_openraft::<Prod>()?))
            }
            Self::AppendRequest => {
                wire::append_request(&wire::decode_append_request::<Prod>(bytes)?)
            }
            Self::AppendAnswer => {
                let message = wire::decode_plain::<AppendAnswer>(&bytes)?;
                wire::encode_plain(&AppendAnswer::new(&message.into_openraft::<Prod>()?))
            }
            Self::SnapshotHead => {
                let (vote, meta) = wire::decode_plain::<SnapshotHead>(&bytes)?.into_parts()?;
                wire::encode_plain(&SnapshotHead::new(&vote, &meta))
            }
            Self::SnapshotAnswer => {
                wire::encode_plain(&wire::decode_plain::<SnapshotAnswer>(&bytes)?)
            }
            Self::Propose => {
                let (left_millis, commands) = wire::decode_propose(bytes)?;
                wire::propose(left_millis, &commands)
            }
            Self::ProposeAnswer => {
                wire::encode_plain(&wire::decode_plain::<ProposeAnswer>(&bytes)?)
            }
            Self::MemberRequest => {
                wire::encode_plain(&wire::decode_plain::<MemberRequest>(&bytes)?)
            }
            Self::Entry => wire::encode_entry(&wire::decode_entry(INDEX, bytes)?),
            Self::Batch => return self.batch(bytes),
            Self::Vote => wire::encode(&wire::decode::<Vote>(&bytes)?),
            Self::StoredMembership => wire::encode(&wire::decode::<StoredMembership>(&bytes)?),
        })
    }

    fn batch(self, bytes: Bytes) -> Result<Bytes, BadBytes> {
        let nonsense = |_| BadBytes::Nonsense("no batch of commands");
        let (ticket, commands) = batch::decode(&Commands(bytes)).map_err(nonsense)?;
        let commands: Vec<Bytes> = commands.iter().map(Command::encode).collect();
        Ok(batch::encode(ticket, commands.iter()).0)
    }
}

/// Where an entry counts as read from: its bytes do not tell.
const INDEX: u64 = 7;

/// One real message of each kind, or several.
pub fn examples() -> Vec<(Message, Bytes)> {
    use std::collections::{BTreeMap, BTreeSet};

    use openraft::raft::{
        AppendEntriesRequest, StreamAppendError, TransferLeaderError, TransferLeaderRequest,
        VoteRequest as Ask, VoteResponse,
    };

    use crate::types::{Entry, Payload, Peer};

    let vote = Vote::new_committed(7, 1);
    let id = |index| wire::log_id(6, index);
    let peer = |n: u64| Peer {
        name: format!("m{n}"),
        peer_urls: vec![format!("http://127.0.0.1:{n}")],
    };
    let peers: BTreeMap<u64, Peer> = (1..=4).map(|id| (id, peer(id))).collect();
    let joint = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
    let membership = Membership::new(joint, peers).expect("every voter is a peer");
    let commands = ["3.6.0", "3.7.0"].map(|version| {
        Command::internal(catena_store::Request::ClusterVersion(version.to_owned())).encode()
    });
    let ticket = batch::Ticket { run: 3, seq: 4 };
    let commands = batch::encode(ticket, commands.iter());
    let entry = |index: u64, change: bool| Entry {
        log_id: id(index),
        payload: Payload {
            commands: commands.clone(),
            membership: change.then(|| std::sync::Arc::new(membership.clone())),
        },
    };
    let append = AppendEntriesRequest::<Prod> {
        vote,
        prev_log_id: Some(id(4)),
        entries: vec![entry(5, false), entry(6, true)],
        leader_commit: Some(id(4)),
    };
    let stored = StoredMembership::new(Some(id(3)), membership.clone());
    let meta = SnapshotMeta {
        last_log_id: Some(id(9)),
        last_membership: stored.clone(),
    };
    let votes = VoteResponse::<Prod>::new(vote, Some(id(2)), true);
    let transfer = TransferLeaderRequest::<Prod>::new(vote, 2, Some(id(5)));
    let changed = TransferLeaderError::VoteChanged {
        expected: vote,
        actual: vote,
    };
    let urls = vec!["http://127.0.0.1:5".to_owned()];
    let plain = |request: &MemberRequest| wire::encode_plain(request);
    vec![
        (
            Message::VoteRequest,
            wire::encode_plain(&VoteRequest::new(&Ask::<Prod>::new(vote, Some(id(2))))),
        ),
        (
            Message::VoteAnswer,
            wire::encode_plain(&VoteAnswer::new(&votes)),
        ),
        (
            Message::TransferRequest,
            wire::encode_plain(&TransferRequest::new(&transfer)),
        ),
        (
            Message::TransferAnswer,
            wire::encode_plain(&TransferAnswer::new::<Prod>(&Ok(()))),
        ),
        (
            Message::TransferAnswer,
            wire::encode_plain(&TransferAnswer::new::<Prod>(&Err(changed))),
        ),
        (Message::AppendRequest, wire::append_request(&append)),
        (
            Message::AppendAnswer,
            wire::encode_plain(&AppendAnswer::new::<Prod>(&Ok(Some(id(6))))),
        ),
        (
            Message::AppendAnswer,
            wire::encode_plain(&AppendAnswer::new::<Prod>(&Err(
                StreamAppendError::HigherVote(vote),
            ))),
        ),
        (
            Message::SnapshotHead,
            wire::encode_plain(&SnapshotHead::new(&vote, &meta)),
        ),
        (
            Message::SnapshotAnswer,
            wire::encode_plain(&SnapshotAnswer::Installed(vote.form())),
        ),
        (Message::Propose, wire::propose(500, &commands)),
        (
            Message::ProposeAnswer,
            wire::encode_plain(&ProposeAnswer::Discarded { term: 7 }),
        ),
        (
            Message::MemberRequest,
            plain(&MemberRequest::AddVoter {
                id: 5,
                peer_urls: urls.clone(),
            }),
        ),
        (
            Message::MemberRequest,
            plain(&MemberRequest::Update {
                id: 5,
                peer_urls: urls,
            }),
        ),
        (
            Message::MemberRequest,
            plain(&MemberRequest::Promote { id: 5 }),
        ),
        (Message::Entry, wire::encode_entry(&entry(INDEX, true))),
        (Message::Batch, commands.0.clone()),
        (Message::Vote, wire::encode(&vote)),
        (Message::StoredMembership, wire::encode(&stored)),
    ]
}
