//! What members ask of one another.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
};
use serde::{Deserialize, Serialize};

use super::{
    BadBytes, LogIdForm, Small, StoredMembershipForm, VoteForm, decode_entry, decode_plain,
    encode_entry, encode_plain, take, take_sized,
};
use crate::types::{Commands, LogId, SnapshotMeta, StoredMembership, Types, Vote};

/// Asks for a vote, or whether one would be given.
#[derive(Serialize, Deserialize)]
pub(crate) struct VoteRequest {
    vote: VoteForm,
    last: Option<LogIdForm>,
    /// Set: the leader itself asked for this election, so voters do not wait for its lease to end.
    transfer: bool,
}

impl VoteRequest {
    pub(crate) fn new<C: Types>(request: &openraft::raft::VoteRequest<C>) -> Self {
        Self {
            vote: request.vote.form(),
            last: request.last_log_id.as_ref().map(Small::form),
            transfer: request.leadership_transfer,
        }
    }

    pub(crate) fn into_openraft<C: Types>(
        self,
    ) -> Result<openraft::raft::VoteRequest<C>, BadBytes> {
        let last = self.last.map(LogId::of).transpose()?;
        let mut request = openraft::raft::VoteRequest::new(Vote::of(self.vote)?, last);
        request.leadership_transfer = self.transfer;
        Ok(request)
    }
}

/// Answers [`VoteRequest`].
#[derive(Serialize, Deserialize)]
pub(crate) struct VoteAnswer {
    vote: VoteForm,
    granted: bool,
    last: Option<LogIdForm>,
}

impl VoteAnswer {
    pub(crate) fn new<C: Types>(answer: &openraft::raft::VoteResponse<C>) -> Self {
        Self {
            vote: answer.vote.form(),
            granted: answer.vote_granted,
            last: answer.last_log_id.as_ref().map(Small::form),
        }
    }

    pub(crate) fn into_openraft<C: Types>(
        self,
    ) -> Result<openraft::raft::VoteResponse<C>, BadBytes> {
        let last = self.last.map(LogId::of).transpose()?;
        Ok(openraft::raft::VoteResponse::new(
            Vote::of(self.vote)?,
            last,
            self.granted,
        ))
    }
}

/// Asks a member to stand for election at once.
#[derive(Serialize, Deserialize)]
pub(crate) struct TransferRequest {
    from: VoteForm,
    to: u64,
    last: Option<LogIdForm>,
}

impl TransferRequest {
    pub(crate) fn new<C: Types>(request: &openraft::raft::TransferLeaderRequest<C>) -> Self {
        Self {
            from: request.from_leader().form(),
            to: *request.to_node_id(),
            last: request.last_log_id().map(Small::form),
        }
    }

    pub(crate) fn into_openraft<C: Types>(
        self,
    ) -> Result<openraft::raft::TransferLeaderRequest<C>, BadBytes> {
        let last = self.last.map(LogId::of).transpose()?;
        let from = Vote::of(self.from)?;
        Ok(openraft::raft::TransferLeaderRequest::new(
            from, self.to, last,
        ))
    }
}

/// Answers [`TransferRequest`].
#[derive(Serialize, Deserialize)]
pub(crate) enum TransferAnswer {
    Started,
    VoteChanged {
        expected: VoteForm,
        actual: VoteForm,
    },
    LogNotFlushed {
        expected: Option<LogIdForm>,
        actual: Option<LogIdForm>,
    },
}

impl TransferAnswer {
    pub(crate) fn new<C: Types>(answer: &openraft::raft::TransferLeaderResponse<C>) -> Self {
        match answer {
            Ok(()) => Self::Started,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => Self::VoteChanged {
                expected: expected.form(),
                actual: actual.form(),
            },
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Self::LogNotFlushed {
                expected: expected.as_ref().map(Small::form),
                actual: actual.as_ref().map(Small::form),
            },
        }
    }

    pub(crate) fn into_openraft<C: Types>(
        self,
    ) -> Result<openraft::raft::TransferLeaderResponse<C>, BadBytes> {
        Ok(match self {
            Self::Started => Ok(()),
            Self::VoteChanged { expected, actual } => Err(TransferLeaderError::VoteChanged {
                expected: Vote::of(expected)?,
                actual: Vote::of(actual)?,
            }),
            Self::LogNotFlushed { expected, actual } => Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(LogId::of).transpose()?,
                actual: actual.map(LogId::of).transpose()?,
            }),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct AppendHead {
    vote: VoteForm,
    prev: Option<LogIdForm>,
    commit: Option<LogIdForm>,
    entries: u32,
}

/// Encodes a request to append: head, then the entries.
pub(crate) fn append_request<C: Types>(request: &AppendEntriesRequest<C>) -> Bytes {
    let head = encode_plain(&AppendHead {
        vote: request.vote.form(),
        prev: request.prev_log_id.as_ref().map(Small::form),
        commit: request.leader_commit.as_ref().map(Small::form),
        entries: request.entries.len() as u32,
    });
    let entries: Vec<(u64, Bytes)> = request
        .entries
        .iter()
        .map(|entry| (entry.log_id.index, encode_entry(entry)))
        .collect();
    let bytes: usize = entries.iter().map(|(_, entry)| 8 + 4 + entry.len()).sum();
    let mut out = BytesMut::with_capacity(4 + head.len() + bytes);
    out.put_u32_le(head.len() as u32);
    out.put_slice(&head);
    for (index, entry) in entries {
        out.put_u64_le(index);
        out.put_u32_le(entry.len() as u32);
        out.put_slice(&entry);
    }
    out.freeze()
}

/// Decodes a request to append. Openraft trusts the order of what is in it, so it is checked here.
pub(crate) fn decode_append_request<C: Types>(
    mut bytes: Bytes,
) -> Result<AppendEntriesRequest<C>, BadBytes> {
    let head: AppendHead = decode_plain(&take_sized(&mut bytes)?)?;
    let prev_log_id = head.prev.map(LogId::of).transpose()?;
    let mut last = prev_log_id;
    let mut entries = Vec::new();
    for _ in 0..head.entries {
        let index = take(&mut bytes, 8)?.get_u64_le();
        let entry = decode_entry(index, take_sized(&mut bytes)?)?;
        let expected = last.map_or(0, |last| last.index.saturating_add(1));
        if index != expected || last.is_some_and(|last| entry.log_id < last) {
            return Err(BadBytes::Nonsense("entries to append are not in order"));
        }
        last = Some(entry.log_id);
        entries.push(entry);
    }
    if !bytes.is_empty() {
        return Err(BadBytes::Nonsense(
            "something follows the entries to append",
        ));
    }
    let vote = Vote::of(head.vote)?;
    if !vote.committed {
        return Err(BadBytes::Nonsense("entries to append come from no leader"));
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit: head.commit.map(LogId::of).transpose()?,
    })
}

/// Answers a request to append.
#[derive(Serialize, Deserialize)]
pub(crate) enum AppendAnswer {
    Matched(Option<LogIdForm>),
    Conflict(LogIdForm),
    HigherVote(VoteForm),
}

impl AppendAnswer {
    pub(crate) fn new<C: Types>(result: &StreamAppendResult<C>) -> Self {
        match result {
            Ok(matched) => Self::Matched(matched.as_ref().map(Small::form)),
            Err(StreamAppendError::Conflict(at)) => Self::Conflict(at.form()),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(vote.form()),
        }
    }

    pub(crate) fn into_openraft<C: Types>(self) -> Result<StreamAppendResult<C>, BadBytes> {
        Ok(match self {
            Self::Matched(matched) => Ok(matched.map(LogId::of).transpose()?),
            Self::Conflict(at) => Err(StreamAppendError::Conflict(LogId::of(at)?)),
            Self::HigherVote(vote) => Err(StreamAppendError::HigherVote(Vote::of(vote)?)),
        })
    }
}

/// Opens the transfer of a snapshot; its bytes follow.
#[derive(Serialize, Deserialize)]
pub(crate) struct SnapshotHead {
    vote: VoteForm,
    last: Option<LogIdForm>,
    membership: StoredMembershipForm,
}

impl SnapshotHead {
    pub(crate) fn new(vote: &Vote, meta: &SnapshotMeta) -> Self {
        Self {
            vote: vote.form(),
            last: meta.last_log_id.as_ref().map(Small::form),
            membership: meta.last_membership.form(),
        }
    }

    pub(crate) fn into_parts(self) -> Result<(Vote, SnapshotMeta), BadBytes> {
        let meta = SnapshotMeta {
            last_log_id: self.last.map(LogId::of).transpose()?,
            last_membership: StoredMembership::of(self.membership)?,
        };
        Ok((Vote::of(self.vote)?, meta))
    }
}

/// Answers a frame of a snapshot.
#[derive(Serialize, Deserialize)]
pub(crate) enum SnapshotAnswer {
    /// Written; send on.
    Received,
    /// That was the last one, and the snapshot is in place unless the vote is higher than the sender's.
    Installed(VoteForm),
}

/// Encodes a forwarded batch and the time that is left for it.
pub(crate) fn propose(left_millis: u32, commands: &Commands) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + commands.0.len());
    out.put_u32_le(left_millis);
    out.put_slice(&commands.0);
    out.freeze()
}

/// Decodes a forwarded batch.
pub(crate) fn decode_propose(mut bytes: Bytes) -> Result<(u32, Commands), BadBytes> {
    let left_millis = take(&mut bytes, 4)?.get_u32_le();
    Ok((left_millis, Commands(bytes)))
}

/// Answers a forwarded batch. The outcomes are not in it: the proposer applies the entry as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProposeAnswer {
    /// Committed and applied at the leader.
    Applied,
    /// Not appended: that member does not lead, perhaps another one does.
    NotLeader(Option<u64>),
    /// Not appended: the leader cannot write now.
    NotNow,
    /// Not appended: the leader has too much waiting.
    TooMany,
    /// Appended in this term or an earlier one, then lost sight of.
    Discarded {
        /// Term of the leader that appended it.
        term: u64,
    },
    /// Unknown: the leader stops, or its time is up.
    Unknown,
    /// Not appended: no batch, or one that may not be forwarded.
    Malformed,
}

/// A change of members, for the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum MemberRequest {
    /// Adds a member that is a voter as soon as it has caught up.
    AddVoter {
        /// Its id.
        id: u64,
        /// Where it will listen.
        peer_urls: Vec<String>,
    },
    /// Adds a learner.
    AddLearner {
        /// Its id.
        id: u64,
        /// Where it will listen.
        peer_urls: Vec<String>,
    },
    /// Removes a member for ever.
    Remove {
        /// Which.
        id: u64,
    },
    /// Makes a learner a voter.
    Promote {
        /// Which.
        id: u64,
    },
    /// Replaces the peer URLs.
    Update {
        /// Of which.
        id: u64,
        /// The new ones.
        peer_urls: Vec<String>,
    },
}
