//! How often each kind of operation comes.

/// How often each kind comes, in parts of their sum, and what they are like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How many keys there are. Few, so that clients meet.
    pub keys: u64,
    /// Puts of one key.
    pub put: u64,
    /// Deletes in a transaction that also puts a marker.
    pub delete: u64,
    /// Deletes that leave no token: rare.
    pub bare_delete: u64,
    /// Puts of several keys at once.
    pub txn: u64,
    /// Puts that compare first.
    pub swap: u64,
    /// Transactions in transactions.
    pub nested: u64,
    /// Linearizable reads of one key.
    pub get: u64,
    /// Serialisable reads.
    pub serializable: u64,
    /// Reads of an older revision.
    pub past: u64,
    /// Reads of several keys, with limits, sorts and filters.
    pub range: u64,
    /// Compactions.
    pub compact: u64,
    /// Grants.
    pub grant: u64,
    /// Renewals, and questions about leases.
    pub keepalive: u64,
    /// Revocations.
    pub revoke: u64,
    /// Puts with a lease.
    pub lease_put: u64,
    /// The shortest TTL asked for, in seconds.
    pub ttl_min: u64,
    /// The longest TTL asked for, in seconds.
    pub ttl_max: u64,
    /// How far a compaction stays behind the newest revision known, at least.
    pub compact_behind: u64,
    /// Bytes of a long value; one write in 32 has one. 0: none has.
    pub long_value_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: 24,
            put: 300,
            delete: 80,
            bare_delete: 4,
            txn: 80,
            swap: 120,
            nested: 30,
            get: 200,
            serializable: 60,
            past: 40,
            range: 60,
            compact: 4,
            grant: 8,
            keepalive: 20,
            revoke: 4,
            lease_put: 30,
            ttl_min: 2,
            ttl_max: 10,
            compact_behind: 50,
            long_value_bytes: 2_000,
        }
    }
}

/// A kind of operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Put,
    Delete,
    BareDelete,
    Txn,
    Swap,
    Nested,
    Get,
    Serializable,
    Past,
    Range,
    Compact,
    Grant,
    Keepalive,
    Revoke,
    LeasePut,
}

impl Settings {
    pub(super) fn weights(&self) -> [(Kind, u64); 15] {
        [
            (Kind::Put, self.put),
            (Kind::Delete, self.delete),
            (Kind::BareDelete, self.bare_delete),
            (Kind::Txn, self.txn),
            (Kind::Swap, self.swap),
            (Kind::Nested, self.nested),
            (Kind::Get, self.get),
            (Kind::Serializable, self.serializable),
            (Kind::Past, self.past),
            (Kind::Range, self.range),
            (Kind::Compact, self.compact),
            (Kind::Grant, self.grant),
            (Kind::Keepalive, self.keepalive),
            (Kind::Revoke, self.revoke),
            (Kind::LeasePut, self.lease_put),
        ]
    }
}
