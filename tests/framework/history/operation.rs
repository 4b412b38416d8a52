//! Operations and what became of them.

use catena_api::etcd::etcdserverpb::ResponseHeader;
use serde::{Deserialize, Serialize};

use super::{Args, Reply, line::Line};

/// A call of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Line", try_from = "Line")]
pub struct Operation {
    /// Unique, ascending by call.
    pub id: u64,
    /// The logical thread that called: at most one open operation, retired after an unknown outcome.
    pub client: u64,
    /// The member that was addressed.
    pub endpoint: String,
    /// Before the first byte was written.
    pub call_ns: u64,
    /// After the whole answer was read; `None` exactly if the outcome is unknown.
    pub return_ns: Option<u64>,
    /// What was asked.
    pub args: Args,
    /// What became of it.
    pub outcome: Outcome,
    /// The unique text that it writes; every operation that can write has one, bare deletes and revocations excepted.
    pub token: Option<String>,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done: the complete answer.
    Ok(Answer),
    /// It was not and will not be done: the server's words prove it.
    Fail(Failure),
    /// It may have been done, or be done later.
    Unknown(Option<Failure>),
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result.
    pub reply: Reply,
    /// What its header says.
    pub header: Header,
}

/// What the header of an answer says; all absent where the answer has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `header.revision`.
    pub revision: Option<i64>,
    /// `header.raft_term`.
    pub term: Option<u64>,
    /// `header.member_id`: who answered.
    pub member: Option<u64>,
}

/// An error of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Name of the gRPC code.
    pub code: String,
    /// Exact text.
    pub text: String,
}

impl From<Option<ResponseHeader>> for Header {
    fn from(header: Option<ResponseHeader>) -> Self {
        header.map_or(Header::default(), |header| Header {
            revision: Some(header.revision),
            term: Some(header.raft_term),
            member: Some(header.member_id),
        })
    }
}

impl Operation {
    /// The answer, if it was done.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Fail(_) | Outcome::Unknown(_) => None,
        }
    }

    /// The error, if it is certain that it was not done.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.outcome {
            Outcome::Fail(failure) => Some(failure),
            Outcome::Ok(_) | Outcome::Unknown(_) => None,
        }
    }

    /// Whether nobody knows.
    pub fn unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown(_))
    }
}
