//! What is written to the log and sent between members, in bytes.
//!
//! Small messages are bincode records of [`catena_store::codec`], behind its format byte. Entries, which may be large, are laid out
//! by hand, so that they are copied once on the way out and not at all on the way in. Everything here refuses bytes that are not
//! what they should be: they come from a disk that may be damaged and from a network where anybody may speak.

mod entry;
mod message;
#[cfg(test)]
mod tests;

use bytes::{Buf, Bytes};
use catena_store::codec::{self, Malformed};
pub(crate) use entry::{decode_entry, encode_entry};
pub(crate) use message::{
    AppendAnswer, MemberRequest, ProposeAnswer, SnapshotAnswer, SnapshotHead, TransferAnswer,
    TransferRequest, VoteAnswer, VoteRequest, append_request, decode_append_request,
    decode_propose, propose,
};
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::types::{CommittedLeaderId, LeaderId, LogId, Membership, Peer, StoredMembership, Vote};

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadBytes {
    /// Too short for what they claim to hold.
    #[error("ends early")]
    Short,
    /// Written by another version.
    #[error("has unknown format {0}")]
    Format(u8),
    /// Fields that contradict one another.
    #[error("{0}")]
    Nonsense(&'static str),
    /// A record in them.
    #[error(transparent)]
    Record(#[from] Malformed),
}

impl From<BadBytes> for std::io::Error {
    fn from(error: BadBytes) -> Self {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string())
    }
}

/// A type with a small form of its own.
pub(crate) trait Small: Sized {
    /// What is encoded.
    type Form: Serialize + DeserializeOwned;
    /// To the form.
    fn form(&self) -> Self::Form;
    /// From the form, if it makes sense.
    fn of(form: Self::Form) -> Result<Self, BadBytes>;
}

/// Encodes a small value.
pub(crate) fn encode<T: Small>(value: &T) -> Bytes {
    codec::encode(&value.form())
}

/// Decodes a small value.
pub(crate) fn decode<T: Small>(bytes: &[u8]) -> Result<T, BadBytes> {
    T::of(codec::decode(bytes)?)
}

/// Encodes what has no form but its own.
pub(crate) fn encode_plain<T: Serialize>(value: &T) -> Bytes {
    codec::encode(value)
}

/// Decodes what has no form but its own.
pub(crate) fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadBytes> {
    Ok(codec::decode(bytes)?)
}

/// Term and index.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LogIdForm {
    term: u64,
    index: u64,
}

impl Small for LogId {
    type Form = LogIdForm;

    fn form(&self) -> LogIdForm {
        LogIdForm {
            term: self.leader_id.term,
            index: self.index,
        }
    }

    fn of(form: LogIdForm) -> Result<Self, BadBytes> {
        Ok(log_id(form.term, form.index))
    }
}

/// Builds a log id.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}

/// Term, candidate, and whether it was elected.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct VoteForm {
    term: u64,
    candidate: u64,
    committed: bool,
}

impl Small for Vote {
    type Form = VoteForm;

    fn form(&self) -> VoteForm {
        VoteForm {
            term: self.leader_id.term,
            candidate: self.leader_id.voted_for,
            committed: self.committed,
        }
    }

    fn of(form: VoteForm) -> Result<Self, BadBytes> {
        Ok(Vote {
            leader_id: LeaderId::new(form.term, form.candidate),
            committed: form.committed,
        })
    }
}

/// Voters of each configuration, and all members.
#[derive(Serialize, Deserialize)]
pub(crate) struct MembershipForm {
    configs: Vec<std::collections::BTreeSet<u64>>,
    peers: std::collections::BTreeMap<u64, Peer>,
}

impl Small for Membership {
    type Form = MembershipForm;

    fn form(&self) -> MembershipForm {
        MembershipForm {
            configs: self.get_joint_config().clone(),
            peers: self.nodes().map(|(id, peer)| (*id, peer.clone())).collect(),
        }
    }

    fn of(form: MembershipForm) -> Result<Self, BadBytes> {
        if form.configs.is_empty() && form.peers.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(form.configs, form.peers).map_err(|_| {
            BadBytes::Nonsense("membership has no voters or a voter that is no member")
        })
    }
}

/// A membership and the entry that it came in.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredMembershipForm {
    log_id: Option<LogIdForm>,
    membership: MembershipForm,
}

impl Small for StoredMembership {
    type Form = StoredMembershipForm;

    fn form(&self) -> StoredMembershipForm {
        StoredMembershipForm {
            log_id: self.log_id().as_ref().map(Small::form),
            membership: self.membership().form(),
        }
    }

    fn of(form: StoredMembershipForm) -> Result<Self, BadBytes> {
        Ok(StoredMembership::new(
            form.log_id.map(LogId::of).transpose()?,
            Membership::of(form.membership)?,
        ))
    }
}

/// Cuts `len` bytes off the front.
fn take(bytes: &mut Bytes, len: usize) -> Result<Bytes, BadBytes> {
    if bytes.len() < len {
        return Err(BadBytes::Short);
    }
    Ok(bytes.split_to(len))
}

/// Cuts a length of four bytes and as many bytes off the front.
fn take_sized(bytes: &mut Bytes) -> Result<Bytes, BadBytes> {
    let len = take(bytes, 4)?.get_u32_le() as usize;
    take(bytes, len)
}
