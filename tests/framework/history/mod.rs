//! What clients and watchers saw, in the form in which it is judged and kept.
//!
//! A [`History`] is a list of [`Record`]s: who ran, which operation was called when and what became of it, what each watch was
//! sent, which fault was under way, what every member held at the end. It is made by a [`Recorder`], which every client of a run
//! shares, and it is judged by [`crate::judge`]. Written to a file it is JSON Lines, one record a line, and a file read again is
//! judged like the original.
//!
//! Three rules make a history judgeable, and [`History::defects`] looks after them:
//!
//! - **Time is one clock.** Every `*_ns` counts nanoseconds since the run began, given by the caller, so that virtual time does as
//!   well as real time. A call is stamped before the first byte leaves, a return after the whole answer is read.
//! - **Unknown is an outcome.** [`outcome_of`] says `fail` only where the server's words prove that nothing was executed. A client
//!   whose operation ended as unknown is retired: its successor has a new number, since the old operation may still take effect.
//! - **A write leaves its token.** A put's value begins with a text that no other operation writes, up to an optional `#`; a
//!   transaction writes its token in each of its puts. What a bare delete did cannot be recognised, so mixes make few of them.
//!
//! A *witness* is a watch of all keys, without filters, with `prev_kv`. A run opens one on each member before the load, from
//! revision 1, and resumes it after the last revision seen; together they show every revision.

mod args;
mod classify;
mod convert;
mod defects;
#[cfg(test)]
mod format_test;
mod json;
mod line;
mod operation;
mod recorder;
mod reply;
mod value;
mod watch;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use args::{
    Args, Branch, Compact, Compare, CompareResult, Delete, Get, HashKv, LeaseGrant, LeaseId,
    LeaseTtl, Operand, Other, Put, SortOrder, SortTarget, Txn,
};
pub use classify::{not_sent, outcome_of};
pub use operation::{Answer, Failure, Header, Operation, Outcome};
pub use recorder::Recorder;
pub use reply::{Hash, LeaseGranted, LeaseLeft, Pair, Ranged, Removed, Reply, Stored, Tried};
pub use value::Value;
pub use watch::{Change, ChangeKind, Filter, Scope, Watch, WatchArgs, WatchEvent};

/// All that was recorded in one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The records, in the order in which they were made.
    pub records: Vec<Record>,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
#[allow(
    clippy::large_enum_variant,
    reason = "most records are of the largest kind"
)]
pub enum Record {
    /// The first: what ran.
    Meta(Meta),
    /// A call of a client.
    Op(Operation),
    /// Something that happened on a watch.
    Watch(Watch),
    /// A fault began or ended.
    Fault(Fault),
    /// A member's process began, became ready or ended.
    Proc(Proc),
    /// What a member held at the end.
    Final(Final),
    /// The last: a history without it is cut short.
    End(End),
}

/// What ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Version of the format, 1.
    pub v: u64,
    /// Name of the run.
    pub run: String,
    /// What repeats it.
    pub seed: String,
    /// Programs and their versions.
    pub versions: BTreeMap<String, String>,
    /// The members at the start.
    pub members: Vec<MemberInfo>,
    /// Heartbeat interval.
    pub heartbeat_ms: u64,
    /// Election timeout.
    pub election_ms: u64,
    /// Anything else that a reader wants to know; see [`crate::judge`] for those that it reads.
    pub settings: BTreeMap<String, Json>,
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberInfo {
    /// Its name, as in [`Proc::name`].
    pub name: String,
    /// Its id, as in [`Header::member`].
    #[serde(with = "json::id")]
    pub id: u64,
    /// Where clients reach it, as in [`Operation::endpoint`].
    pub endpoint: String,
}

/// The beginning or the end of a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// When.
    pub ns: u64,
    /// Which.
    pub name: String,
    /// Whether it begins or ends.
    pub phase: Phase,
    /// The members that it hits.
    #[serde(default)]
    pub targets: Vec<String>,
    /// Its parameters.
    #[serde(default)]
    pub args: BTreeMap<String, Json>,
    /// What shows that it took place; required at the end.
    #[serde(default)]
    pub proof: Option<Proof>,
}

/// Side of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It begins.
    Start,
    /// It is over.
    End,
}

/// What shows that a fault took place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// What was looked at.
    pub kind: String,
    /// What was found.
    pub value: Json,
}

/// An event in the life of a member's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proc {
    /// When.
    pub ns: u64,
    /// The member's name.
    pub name: String,
    /// The member's id, if known: needed for members that [`Meta::members`] does not list.
    #[serde(default, with = "json::maybe_id")]
    pub member: Option<u64>,
    /// What.
    pub event: ProcEvent,
    /// The process, 0 in a simulation.
    #[serde(default)]
    pub pid: u64,
    /// Counts the starts of this member.
    #[serde(default)]
    pub incarnation: u64,
    /// Exit status, for [`ProcEvent::Exit`].
    #[serde(default)]
    pub exit: Option<i64>,
}

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcEvent {
    /// It was started.
    Start,
    /// It answers.
    Ready,
    /// It ended.
    Exit,
}

/// What a member held after everything was healed and quiet.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Final {
    /// Where it was asked.
    pub endpoint: String,
    /// Who answered.
    #[serde(with = "json::id")]
    pub member: u64,
    /// Its revision.
    pub revision: i64,
    /// Its compacted revision, or -1.
    pub compact_revision: i64,
    /// HashKV at `hash_revision`.
    pub hash: u32,
    /// The revision that was hashed.
    pub hash_revision: i64,
    /// Every pair.
    pub kvs: Vec<Pair>,
}

/// The last record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When.
    pub ns: u64,
    /// Lines of the file, this one included.
    pub lines: u64,
    /// Records of operations.
    pub ops: u64,
    /// Operations of unknown outcome.
    pub unknown: u64,
}

impl History {
    /// The operations.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.records.iter().filter_map(|record| match record {
            Record::Op(operation) => Some(operation),
            _ => None,
        })
    }

    /// What happened on watches.
    pub fn watches(&self) -> impl Iterator<Item = &Watch> {
        self.records.iter().filter_map(|record| match record {
            Record::Watch(watch) => Some(watch),
            _ => None,
        })
    }

    /// The faults.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.records.iter().filter_map(|record| match record {
            Record::Fault(fault) => Some(fault),
            _ => None,
        })
    }

    /// What happened to processes.
    pub fn processes(&self) -> impl Iterator<Item = &Proc> {
        self.records.iter().filter_map(|record| match record {
            Record::Proc(process) => Some(process),
            _ => None,
        })
    }

    /// What the members held at the end.
    pub fn finals(&self) -> impl Iterator<Item = &Final> {
        self.records.iter().filter_map(|record| match record {
            Record::Final(last) => Some(last),
            _ => None,
        })
    }

    /// What ran.
    pub fn meta(&self) -> Option<&Meta> {
        self.records.iter().find_map(|record| match record {
            Record::Meta(meta) => Some(meta),
            _ => None,
        })
    }

    /// Writes JSON Lines.
    pub fn write_to(&self, path: &Path) -> Result<()> {
        json::write(&self.records, path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads what [`History::write_to`] wrote. A line that is no record is an error; a file that is cut short is not, it is a
    /// [defect](History::defects).
    pub fn read_from(path: &Path) -> Result<Self> {
        let records =
            json::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { records })
    }
}
