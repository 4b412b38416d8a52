//! What clients ask for: a seeded mix of every operation.
//!
//! A [`Mix`] is one for all clients of a run. It knows only what an honest client may know: what it was told by answers through
//! [`Mix::learn`]. Randomness is the caller's, so that a simulation's seed rules over all of it.

use crate::history::{Args, Operation};

/// Where randomness comes from.
pub trait Chance {
    /// Any number below `bound`, which is at least 1, each as likely as the others.
    fn below(&mut self, bound: u64) -> u64;
}

impl<F: FnMut(u64) -> u64> Chance for F {
    fn below(&mut self, bound: u64) -> u64 {
        self(bound)
    }
}

/// What a mix consists of: how often each kind comes, in parts of their sum.
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
    /// Renewals.
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
    /// Bytes of a long value; one put in 32 has one. 0: none has.
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

/// What to ask next.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation.
    pub args: Args,
    /// What it writes, if it can write and leaves a mark.
    pub token: Option<String>,
}

/// The mix of one run.
#[derive(Debug)]
pub struct Mix<C> {
    chance: C,
    settings: Settings,
    tokens: u64,
}

impl<C: Chance> Mix<C> {
    /// A mix that draws from `chance`.
    pub fn new(chance: C, settings: Settings) -> Self {
        Self {
            chance,
            settings,
            tokens: 0,
        }
    }

    /// What a client does next.
    pub fn next(&mut self, client: u64) -> Call {
        self.tokens += 1;
        let token = format!("c{client}-{}", self.tokens);
        let key = format!("k{}", self.chance.below(self.settings.keys));
        let put = crate::history::Put {
            key: key.into(),
            value: token.clone().into(),
            ..Default::default()
        };
        Call {
            args: Args::Put(put),
            token: Some(token),
        }
    }

    /// Learns from an operation that ended.
    pub fn learn(&mut self, _ended: &Operation) {}
}
