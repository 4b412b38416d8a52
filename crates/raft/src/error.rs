//! What can go wrong, by what the caller can do about it. Texts that clients see are made at the edge, in `server`.

use std::path::PathBuf;

use catena_runtime::NetError;
use serde::{Deserialize, Serialize};

use crate::{Remedy, consensus::NotReadable};

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory is another member's, another cluster's or another version's.
    #[error("{path}: {what}")]
    DataDir {
        /// The file that says so.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// What can be done.
        remedy: Remedy,
    },
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: std::io::Error,
    },
    /// The log.
    #[error("log: {0}")]
    Wal(#[from] catena_wal::Error),
    /// The applied state.
    #[error("store: {0}")]
    Store(#[from] catena_store::Fatal),
    /// A setting that consensus cannot run with.
    #[error("invalid configuration: {0}")]
    Config(String),
    /// Consensus refused what it found.
    #[error("raft: {0}")]
    Raft(String),
}

impl StartError {
    /// What can be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::DataDir { remedy, .. } => *remedy,
            Self::Io { error, .. } => Remedy::of_io(error),
            Self::Wal(error) => Remedy::of_wal(error),
            Self::Store(error) => Remedy::of_store(error),
            Self::Config(_) | Self::Raft(_) => Remedy::AsSaid,
        }
    }
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not appended: too much is waiting, or apply is too far behind.
    #[error("too many requests")]
    TooManyRequests,
    /// Not appended: larger than an entry may be.
    #[error("request is too large")]
    TooLarge,
    /// Not appended: the leader has lost its quorum or there is none.
    #[error("no leader")]
    NoLeader,
    /// Not appended: this member is not the leader of the term that the proposal is fenced by.
    #[error("not leader")]
    NotLeader,
    /// Not appended: no leader was known from the start to the deadline.
    #[error("deadline exceeded: no leader is known")]
    Deadline,
    /// Unknown: no outcome within the time for requests.
    #[error("request timed out")]
    Timeout,
    /// Unknown: the leader changed meanwhile.
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailure,
    /// Unknown: the leader could not be reached, or it could not reach a quorum, all the time.
    #[error("request timed out, possibly due to connection lost")]
    TimeoutConnectionLost,
    /// Unknown: the member stops.
    #[error("server stopped")]
    Stopped,
}

/// Why a read cannot be linearized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum ReadError {
    /// No quorum confirmed the leader in time.
    #[error("request timed out")]
    Timeout,
    /// No leader.
    #[error("no leader")]
    NoLeader,
    /// This member is not the leader.
    #[error("not leader")]
    NotLeader,
    /// The member stops.
    #[error("server stopped")]
    Stopped,
}

impl From<NotReadable> for ReadError {
    fn from(error: NotReadable) -> Self {
        match error {
            NotReadable::NotLeader(_) => ReadError::NotLeader,
            NotReadable::NoQuorum => ReadError::Timeout,
            NotReadable::Stopped => ReadError::Stopped,
        }
    }
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MemberError {
    /// A peer URL is missing or malformed.
    #[error("given member URLs are invalid")]
    BadUrls,
    /// Too few members have started for the quorum after the change.
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    /// Too few members are connected for the quorum after the change.
    #[error("unhealthy cluster")]
    Unhealthy,
    /// No such member, or it was removed.
    #[error("member not found")]
    NotFound,
    /// The id is taken.
    #[error("member ID already exist")]
    Exists,
    /// A peer URL belongs to a member.
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    /// More learners than allowed.
    #[error("too many learner members in cluster")]
    TooManyLearners,
    /// Only learners are promoted.
    #[error("can only promote a learner member")]
    NotLearner,
    /// The learner is behind.
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    /// No leader to ask.
    #[error("no leader")]
    NoLeader,
    /// Unknown: no outcome in time.
    #[error("request timed out")]
    Timeout,
    /// The member stops.
    #[error("server stopped")]
    Stopped,
}

/// Why leadership was not moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// This member is not the leader.
    #[error("not leader")]
    NotLeader,
    /// The target is unknown, a learner or out of reach.
    #[error("bad leader transferee")]
    BadTransferee,
    /// The target did not become leader in time.
    #[error("request timed out, leader transfer took too long")]
    Timeout,
    /// The member stops.
    #[error("server stopped")]
    Stopped,
}

/// Why the leader did not answer a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// The leader did not answer.
    #[error(transparent)]
    Net(#[from] NetError),
}

/// Why a member must exit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Asked to.
    #[error("stopped")]
    Asked,
    /// Removed from the cluster.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// The other members refuse it, and say what to do.
    #[error("refused by the cluster: {0}")]
    Refused(String),
    /// The log failed: a failed sync is final.
    #[error("log failed: {what}")]
    Wal {
        /// What happened to which file.
        what: String,
        /// What can be done.
        remedy: Remedy,
    },
    /// The applied state failed.
    #[error("store failed: {what}")]
    Store {
        /// What happened to which file.
        what: String,
        /// What can be done.
        remedy: Remedy,
    },
    /// Consensus stopped.
    #[error("raft stopped: {0}")]
    Raft(String),
}

impl Stop {
    /// The log failed.
    pub(crate) fn wal(error: &catena_wal::Error) -> Self {
        Self::Wal {
            what: error.to_string(),
            remedy: Remedy::of_wal(error),
        }
    }

    /// What can be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Wal { remedy, .. } | Self::Store { remedy, .. } => *remedy,
            Self::Refused(_) => Remedy::Replace,
            Self::Asked | Self::Removed | Self::Raft(_) => Remedy::AsSaid,
        }
    }
}
