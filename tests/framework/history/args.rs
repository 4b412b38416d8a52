//! What was asked. The fields have the names that they have in the file.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Value, json};

/// An operation and its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", content = "args", rename_all = "snake_case")]
pub enum Args {
    /// Reads keys.
    Get(Get),
    /// Writes a key.
    Put(Put),
    /// Deletes keys.
    Delete(Delete),
    /// All or nothing.
    Txn(Txn),
    /// Forgets old revisions.
    Compact(Compact),
    /// Grants a lease.
    LeaseGrant(LeaseGrant),
    /// Ends a lease and deletes its keys.
    LeaseRevoke(LeaseId),
    /// Renews a lease.
    LeaseKeepalive(LeaseId),
    /// Asks what is left of a lease.
    LeaseTtl(LeaseTtl),
    /// Asks for the ids of all leases.
    Leases {},
    /// Asks for the hash of all pairs.
    Hashkv(HashKv),
    /// Any other call, such as `member_add` or `defrag`: recorded, not judged.
    #[serde(untagged)]
    Other(Other),
}

impl Default for Args {
    fn default() -> Self {
        Args::Get(Get::default())
    }
}

/// A range.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Get {
    /// First key.
    #[serde(with = "json::bytes")]
    pub key: Bytes,
    /// End of the interval; empty: one key; `\0`: every key from the first.
    #[serde(with = "json::bytes", skip_serializing_if = "Bytes::is_empty")]
    pub range_end: Bytes,
    /// Revision to read at, 0 for the present.
    #[serde(skip_serializing_if = "json::zero")]
    pub revision: i64,
    /// Most keys to return, 0 for all.
    #[serde(skip_serializing_if = "json::zero")]
    pub limit: i64,
    /// Direction.
    #[serde(skip_serializing_if = "json::default")]
    pub sort_order: SortOrder,
    /// By what.
    #[serde(skip_serializing_if = "json::default")]
    pub sort_target: SortTarget,
    /// Whether the member may answer from what it has.
    #[serde(skip_serializing_if = "json::default")]
    pub serializable: bool,
    /// Leave the values out.
    #[serde(skip_serializing_if = "json::default")]
    pub keys_only: bool,
    /// Only count.
    #[serde(skip_serializing_if = "json::default")]
    pub count_only: bool,
    /// Lowest `mod_revision`, 0 for any.
    #[serde(skip_serializing_if = "json::zero")]
    pub min_mod_revision: i64,
    /// Highest `mod_revision`, 0 for any.
    #[serde(skip_serializing_if = "json::zero")]
    pub max_mod_revision: i64,
    /// Lowest `create_revision`, 0 for any.
    #[serde(skip_serializing_if = "json::zero")]
    pub min_create_revision: i64,
    /// Highest `create_revision`, 0 for any.
    #[serde(skip_serializing_if = "json::zero")]
    pub max_create_revision: i64,
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SortOrder {
    /// None asked for.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What a sort looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The revision of creation.
    Create,
    /// The revision of the last write.
    Mod,
    /// The value.
    Value,
}

/// A put.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Put {
    /// The key.
    #[serde(with = "json::bytes")]
    pub key: Bytes,
    /// Its new value, that is, the operation's token.
    pub value: Value,
    /// The lease to attach it to, or 0.
    #[serde(with = "json::lease", skip_serializing_if = "json::zero")]
    pub lease: i64,
    /// Whether to return what was there.
    #[serde(skip_serializing_if = "json::default")]
    pub prev_kv: bool,
    /// Keep the value that is there.
    #[serde(skip_serializing_if = "json::default")]
    pub ignore_value: bool,
    /// Keep the lease that is there.
    #[serde(skip_serializing_if = "json::default")]
    pub ignore_lease: bool,
}

/// A delete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delete {
    /// First key.
    #[serde(with = "json::bytes")]
    pub key: Bytes,
    /// End of the interval, as in [`Get`].
    #[serde(with = "json::bytes", skip_serializing_if = "Bytes::is_empty")]
    pub range_end: Bytes,
    /// Whether to return what was there.
    #[serde(skip_serializing_if = "json::default")]
    pub prev_kv: bool,
}

/// A transaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Txn {
    /// All must hold for `success` to be taken.
    pub compare: Vec<Compare>,
    /// Run if they hold.
    pub success: Branch,
    /// Run otherwise.
    pub failure: Branch,
}

/// One side of a transaction: only [`Args::Get`], [`Args::Put`], [`Args::Delete`] and [`Args::Txn`].
pub type Branch = Vec<Args>;

/// A condition on a key, or on each key of an interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compare {
    /// First key.
    #[serde(with = "json::bytes", default)]
    pub key: Bytes,
    /// End of the interval, as in [`Get`].
    #[serde(with = "json::bytes", default, skip_serializing_if = "Bytes::is_empty")]
    pub range_end: Bytes,
    /// How what is there must stand to the operand.
    pub result: CompareResult,
    /// What is looked at, and what it is compared with.
    #[serde(flatten)]
    pub operand: Operand,
}

/// How two sides of a compare stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CompareResult {
    /// They are equal.
    Equal,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
    /// They differ.
    NotEqual,
}

/// What a compare looks at, and what it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "target", rename_all = "UPPERCASE")]
pub enum Operand {
    /// Writes in the present generation.
    Version {
        /// With this.
        version: i64,
    },
    /// Revision of creation.
    Create {
        /// With this.
        create_revision: i64,
    },
    /// Revision of the last write.
    Mod {
        /// With this.
        mod_revision: i64,
    },
    /// The value.
    Value {
        /// With this.
        value: Value,
    },
    /// The lease.
    Lease {
        /// With this.
        #[serde(with = "json::lease")]
        lease: i64,
    },
}

/// A compaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compact {
    /// The lowest revision that stays readable.
    pub revision: i64,
    /// Whether to wait until the space is free.
    #[serde(skip_serializing_if = "json::default")]
    pub physical: bool,
}

/// A grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseGrant {
    /// Seconds.
    pub ttl: i64,
    /// The id, 0 to leave the choice to the member.
    #[serde(with = "json::lease", skip_serializing_if = "json::zero")]
    pub id: i64,
}

/// A lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseId {
    /// Its id.
    #[serde(with = "json::lease")]
    pub id: i64,
}

/// A question about a lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseTtl {
    /// Its id.
    #[serde(with = "json::lease")]
    pub id: i64,
    /// Whether to list its keys.
    #[serde(skip_serializing_if = "json::default")]
    pub keys: bool,
}

/// A question for the hash of all pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HashKv {
    /// At this revision, 0 for the present.
    pub revision: i64,
}

/// Any other call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Other {
    /// Its name in the file.
    pub op: String,
    /// Its arguments.
    #[serde(default)]
    pub args: BTreeMap<String, Json>,
}

impl Args {
    /// The name in the file.
    pub fn name(&self) -> &str {
        match self {
            Args::Get(_) => "get",
            Args::Put(_) => "put",
            Args::Delete(_) => "delete",
            Args::Txn(_) => "txn",
            Args::Compact(_) => "compact",
            Args::LeaseGrant(_) => "lease_grant",
            Args::LeaseRevoke(_) => "lease_revoke",
            Args::LeaseKeepalive(_) => "lease_keepalive",
            Args::LeaseTtl(_) => "lease_ttl",
            Args::Leases {} => "leases",
            Args::Hashkv(_) => "hashkv",
            Args::Other(other) => &other.op,
        }
    }

    /// Whether it can change pairs.
    pub fn can_write(&self) -> bool {
        match self {
            Args::Put(_) | Args::Delete(_) | Args::LeaseRevoke(_) => true,
            Args::Txn(txn) => txn.ops().any(Args::can_write),
            Args::Get(_)
            | Args::Compact(_)
            | Args::LeaseGrant(_)
            | Args::LeaseKeepalive(_)
            | Args::LeaseTtl(_)
            | Args::Leases {}
            | Args::Hashkv(_)
            | Args::Other(_) => false,
        }
    }

    /// Replaces long values by their digest, as a history keeps them.
    pub(crate) fn record(&mut self) {
        match self {
            Args::Put(put) => put.value = std::mem::take(&mut put.value).recorded(),
            Args::Txn(txn) => {
                txn.compare.iter_mut().for_each(Compare::record);
                txn.success.iter_mut().for_each(Args::record);
                txn.failure.iter_mut().for_each(Args::record);
            }
            Args::Get(_)
            | Args::Delete(_)
            | Args::Compact(_)
            | Args::LeaseGrant(_)
            | Args::LeaseRevoke(_)
            | Args::LeaseKeepalive(_)
            | Args::LeaseTtl(_)
            | Args::Leases {}
            | Args::Hashkv(_)
            | Args::Other(_) => {}
        }
    }
}

impl Txn {
    /// The operations of both sides.
    pub fn ops(&self) -> impl Iterator<Item = &Args> {
        self.success.iter().chain(&self.failure)
    }

    /// The side that is taken.
    pub fn branch(&self, succeeded: bool) -> &Branch {
        match succeeded {
            true => &self.success,
            false => &self.failure,
        }
    }
}

impl Compare {
    fn record(&mut self) {
        if let Operand::Value { value } = &mut self.operand {
            *value = std::mem::take(value).recorded();
        }
    }
}
