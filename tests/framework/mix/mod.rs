//! What clients ask for: a seeded mix of every operation.
//!
//! A [`Mix`] is one for all clients of a run. It knows only what an honest client may know: what answers told it through
//! [`Mix::learn`]. Randomness is the caller's, so that a simulation's seed rules over all of it.
//!
//! Keys are few (`k00`, `k01`, …), so that clients meet. Every operation that writes leaves its own token in each value that it
//! puts; a delete is mostly a transaction that puts a *marker* (`m0`, …) as well, since a bare delete of unknown outcome could
//! explain away a lost write.

mod known;
#[cfg(test)]
mod mix_test;
mod settings;
mod transactions;

use bytes::Bytes;

use crate::history::{
    Args, Compact, Delete, Filter, Get, LeaseGrant, LeaseId, LeaseTtl, Operation, Put, SortOrder,
    SortTarget, Txn, Value, WatchArgs,
};
use known::Known;
use settings::Kind;
pub use settings::Settings;

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

/// What to ask next.
#[derive(Clone, Debug)]
pub struct Call {
    /// The operation.
    pub args: Args,
    /// What it writes, if it can write and leaves a mark.
    pub token: Option<String>,
}

impl Call {
    fn silent(args: Args) -> Self {
        Self { args, token: None }
    }
}

/// Markers that deletes put.
const MARKERS: u64 = 4;
/// How far around the newest revision known a watch or a read of the past goes.
const REACH: i64 = 100;

/// The mix of one run.
#[derive(Debug)]
pub struct Mix<C> {
    chance: C,
    settings: Settings,
    known: Known,
    tokens: u64,
    /// Ids of leases that were asked for by number.
    leases: i64,
}

impl<C: Chance> Mix<C> {
    /// A mix that draws from `chance`.
    pub fn new(chance: C, settings: Settings) -> Self {
        Self {
            chance,
            settings,
            known: Known::default(),
            tokens: 0,
            leases: 0,
        }
    }

    /// What a client does next.
    pub fn next(&mut self, client: u64) -> Call {
        self.tokens += 1;
        let token = format!("c{client}-{}", self.tokens);
        match self.kind() {
            Kind::Put => self.marked(token, Self::put),
            Kind::Delete => self.marked(token, Self::delete_with_marker),
            Kind::BareDelete => Call::silent(Args::Delete(self.delete())),
            Kind::Txn => self.marked(token, Self::puts),
            Kind::Swap => self.marked(token, Self::swap),
            Kind::Nested => self.marked(token, Self::nested),
            Kind::Get => Call::silent(Args::Get(self.get())),
            Kind::Serializable => Call::silent(Args::Get(Get {
                serializable: true,
                ..self.any_get()
            })),
            Kind::Past => Call::silent(Args::Get(Get {
                revision: self.past(),
                ..self.any_get()
            })),
            Kind::Range => Call::silent(Args::Get(self.range())),
            Kind::Compact => Call::silent(self.compact()),
            Kind::Grant => Call::silent(self.grant()),
            Kind::Keepalive => Call::silent(self.keepalive()),
            Kind::Revoke => Call::silent(self.revoke()),
            Kind::LeasePut => self.lease_put(token),
        }
    }

    /// Learns from an operation that ended.
    pub fn learn(&mut self, ended: &Operation) {
        self.known.learn(ended);
    }

    /// A watch, from around the newest revision known.
    pub fn watch(&mut self) -> WatchArgs {
        let Get { key, range_end, .. } = self.any_get();
        let filters = match self.chance.below(8) {
            0 => vec![Filter::NoPut],
            1 => vec![Filter::NoDelete],
            _ => Vec::new(),
        };
        WatchArgs {
            key,
            range_end,
            start_revision: match self.one_in(3) {
                true => 0,
                false => self.around(),
            },
            filters,
            prev_kv: self.one_in(2),
            progress_notify: self.one_in(2),
            fragment: self.one_in(3),
        }
    }

    fn kind(&mut self) -> Kind {
        let weights = self.settings.weights();
        let sum: u64 = weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.chance.below(sum.max(1));
        for (kind, weight) in weights {
            if drawn < weight {
                return kind;
            }
            drawn -= weight;
        }
        Kind::Get
    }

    fn marked(&mut self, token: String, make: impl FnOnce(&mut Self, &Value) -> Args) -> Call {
        let value = self.value(&token);
        Call {
            args: make(self, &value),
            token: Some(token),
        }
    }

    fn value(&mut self, token: &str) -> Value {
        let long = self.settings.long_value_bytes;
        match long > 0 && self.one_in(32) {
            true => {
                let rest = usize::try_from(long)
                    .unwrap_or(0)
                    .saturating_sub(token.len() + 1);
                format!("{token}#{}", "x".repeat(rest)).into()
            }
            false => token.to_owned().into(),
        }
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.chance.below(times) == 0
    }

    fn number(&mut self) -> u64 {
        self.chance.below(self.settings.keys.max(1))
    }

    fn key(&mut self) -> Bytes {
        key(self.number())
    }

    fn marker(&mut self) -> Bytes {
        Bytes::from(format!("m{}", self.chance.below(MARKERS)))
    }

    /// Different keys.
    fn keys(&mut self, count: u64) -> Vec<Bytes> {
        let first = self.number();
        let keys = self.settings.keys.max(1);
        (0..count.min(keys))
            .map(|step| key((first + step * 5 % keys) % keys))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// A few neighbouring keys.
    fn interval(&mut self) -> (Bytes, Bytes) {
        let first = self.number();
        let length = 1 + self.chance.below(6);
        (key(first), key(first + length))
    }

    fn put(&mut self, value: &Value) -> Args {
        Args::Put(Put {
            key: self.key(),
            value: value.clone(),
            prev_kv: self.one_in(4),
            ..Put::default()
        })
    }

    fn delete(&mut self) -> Delete {
        let (key, range_end) = match self.one_in(4) {
            true => self.interval(),
            false => (self.key(), Bytes::new()),
        };
        Delete {
            key,
            range_end,
            prev_kv: self.one_in(3),
        }
    }

    fn delete_with_marker(&mut self, value: &Value) -> Args {
        let delete = Args::Delete(self.delete());
        let marker = Args::Put(Put {
            key: self.marker(),
            value: value.clone(),
            ..Put::default()
        });
        let success = match self.one_in(2) {
            true => vec![delete, marker],
            false => vec![marker, delete],
        };
        Args::Txn(Txn {
            success,
            ..Txn::default()
        })
    }

    fn get(&mut self) -> Get {
        Get {
            key: self.key(),
            ..Get::default()
        }
    }

    /// One key, some, or all.
    fn any_get(&mut self) -> Get {
        let (key, range_end) = match self.chance.below(8) {
            0 => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            1..4 => self.interval(),
            _ => (self.key(), Bytes::new()),
        };
        Get {
            key,
            range_end,
            ..Get::default()
        }
    }

    fn range(&mut self) -> Get {
        let (key, range_end) = self.interval();
        let sorted = self.one_in(3);
        let filtered = self.one_in(5);
        Get {
            key,
            range_end,
            limit: match self.one_in(2) {
                true => i64::try_from(self.chance.below(4)).unwrap_or(0),
                false => 0,
            },
            sort_order: match (sorted, self.one_in(2)) {
                (false, _) => SortOrder::None,
                (true, true) => SortOrder::Ascend,
                (true, false) => SortOrder::Descend,
            },
            sort_target: match (sorted, self.chance.below(4)) {
                (false, _) | (true, 0) => SortTarget::Key,
                (true, 1) => SortTarget::Mod,
                (true, 2) => SortTarget::Value,
                (true, _) => SortTarget::Version,
            },
            keys_only: self.one_in(8),
            count_only: self.one_in(8),
            min_mod_revision: match filtered {
                true => self.around().max(1),
                false => 0,
            },
            serializable: self.one_in(8),
            ..Get::default()
        }
    }

    fn compact(&mut self) -> Args {
        let behind = self.settings.compact_behind + self.chance.below(20);
        let revision = self.known.revision - i64::try_from(behind).unwrap_or(i64::MAX);
        match revision > self.known.compacted {
            true => Args::Compact(Compact {
                revision,
                physical: self.one_in(2),
            }),
            false => Args::Get(self.get()),
        }
    }

    /// A revision from a hundred below the newest one known to three above, or sometimes a compacted one.
    fn past(&mut self) -> i64 {
        if self.one_in(8) {
            return self.known.compacted.max(1);
        }
        let back = i64::try_from(self.chance.below(REACH.cast_unsigned())).unwrap_or(0);
        (self.known.revision + 3 - back).max(1)
    }

    /// A revision from a hundred below the newest one known to a hundred above.
    fn around(&mut self) -> i64 {
        let distance = i64::try_from(self.chance.below(2 * REACH.cast_unsigned())).unwrap_or(0);
        (self.known.revision - REACH + distance).max(1)
    }

    fn grant(&mut self) -> Args {
        let Settings {
            ttl_min, ttl_max, ..
        } = self.settings;
        let ttl = ttl_min + self.chance.below(ttl_max.saturating_sub(ttl_min) + 1);
        let id = match self.one_in(2) {
            // The member chooses.
            true => 0,
            false => {
                self.leases += 1;
                LEASE_BASE + self.leases
            }
        };
        Args::LeaseGrant(LeaseGrant {
            ttl: i64::try_from(ttl).unwrap_or(i64::MAX),
            id,
        })
    }

    fn keepalive(&mut self) -> Args {
        let list = match self.one_in(8) {
            true => &self.known.ended,
            false => &self.known.leases,
        };
        let Some(id) = pick(list, &mut self.chance) else {
            return self.grant();
        };
        match self.one_in(5) {
            true => Args::LeaseTtl(LeaseTtl {
                id,
                keys: self.one_in(2),
            }),
            false => Args::LeaseKeepalive(LeaseId { id }),
        }
    }

    fn revoke(&mut self) -> Args {
        match pick(&self.known.leases, &mut self.chance) {
            Some(id) => Args::LeaseRevoke(LeaseId { id }),
            None => self.grant(),
        }
    }

    fn lease_put(&mut self, token: String) -> Call {
        let Some(lease) = pick(&self.known.leases, &mut self.chance) else {
            return Call::silent(self.grant());
        };
        self.marked(token, |mix, value| mix.attach(value, lease))
    }
}

/// Leases that are asked for by number begin here, far from what a member would choose.
const LEASE_BASE: i64 = 0x1ea5_0000;

fn key(number: u64) -> Bytes {
    Bytes::from(format!("k{number:02}"))
}

fn pick(list: &[i64], chance: &mut impl Chance) -> Option<i64> {
    let at = match list.len() {
        0 => return None,
        length => chance.below(length as u64),
    };
    list.get(usize::try_from(at).ok()?).copied()
}
