//! What was answered. The fields have the names that they have in the file.

use bytes::Bytes;
use catena_api::KeyValue;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Value, json};

/// The result of an operation; of the same kind as its [`Args`](super::Args).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", content = "result", rename_all = "snake_case")]
pub enum Reply {
    /// Of a get.
    Get(Ranged),
    /// Of a put.
    Put(Stored),
    /// Of a delete.
    Delete(Removed),
    /// Of a transaction.
    Txn(Tried),
    /// Of a compaction.
    Compact {},
    /// Of a grant.
    LeaseGrant(LeaseGranted),
    /// Of a revocation.
    LeaseRevoke {},
    /// Of a renewal: the new time in seconds, 0 if there is no such lease.
    LeaseKeepalive {
        /// Seconds.
        ttl: i64,
    },
    /// Of a question about a lease.
    LeaseTtl(LeaseLeft),
    /// The ids of all leases.
    Leases {
        /// In the order in which they came.
        #[serde(with = "json::leases")]
        ids: Vec<i64>,
    },
    /// Of a question for the hash.
    Hashkv(Hash),
    /// Of any other call.
    #[serde(untagged)]
    Other {
        /// Its name in the file.
        op: String,
        /// As in the proto.
        #[serde(default)]
        result: Json,
    },
}

/// A key with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pair {
    /// The key.
    #[serde(with = "json::bytes")]
    pub key: Bytes,
    /// Its value.
    pub value: Value,
    /// Revision of the write that created the present generation.
    pub create_revision: i64,
    /// Revision of the last write.
    pub mod_revision: i64,
    /// Writes in the present generation.
    pub version: i64,
    /// The lease to which it is attached, or 0.
    #[serde(with = "json::lease")]
    pub lease: i64,
}

/// The result of a get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ranged {
    /// What was found.
    pub kvs: Vec<Pair>,
    /// How many keys there are, whatever the limit.
    pub count: i64,
    /// Whether the limit cut some off.
    pub more: bool,
}

/// The result of a put.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stored {
    /// What was there.
    pub prev: Option<Pair>,
}

/// The result of a delete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Removed {
    /// How many.
    pub deleted: i64,
    /// What was there.
    pub prevs: Vec<Pair>,
}

/// The result of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tried {
    /// Whether the compares held.
    pub succeeded: bool,
    /// The results of the side that was taken.
    pub responses: Vec<Reply>,
}

/// The result of a grant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseGranted {
    /// The lease.
    #[serde(with = "json::lease")]
    pub id: i64,
    /// Seconds.
    pub ttl: i64,
}

/// What is left of a lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseLeft {
    /// Seconds left, -1 if there is no such lease.
    pub ttl: i64,
    /// Seconds granted.
    pub granted_ttl: i64,
    /// Its keys, if asked for.
    #[serde(with = "json::list")]
    pub keys: Vec<Bytes>,
}

/// The hash of all pairs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hash {
    /// The hash.
    pub hash: u32,
    /// The revision hashed, 0 for the one of the header.
    pub hash_revision: i64,
    /// The compacted revision.
    pub compact_revision: i64,
}

impl From<&KeyValue> for Pair {
    fn from(kv: &KeyValue) -> Self {
        let view = kv.view();
        Self {
            key: view.key,
            value: Value::from(view.value).recorded(),
            create_revision: view.create_revision,
            mod_revision: view.mod_revision,
            version: view.version,
            lease: view.lease,
        }
    }
}

impl Reply {
    /// Whether it says that pairs changed. For a revocation it does not say.
    pub fn changed(&self) -> bool {
        match self {
            Reply::Put(_) => true,
            Reply::Delete(removed) => removed.deleted > 0,
            Reply::Txn(tried) => tried.responses.iter().any(Reply::changed),
            Reply::Get(_)
            | Reply::Compact {}
            | Reply::LeaseGrant(_)
            | Reply::LeaseRevoke {}
            | Reply::LeaseKeepalive { .. }
            | Reply::LeaseTtl(_)
            | Reply::Leases { .. }
            | Reply::Hashkv(_)
            | Reply::Other { .. } => false,
        }
    }
}
