//! The operations of the benchmark's table.

use std::{
    net::SocketAddr,
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use catena_api::etcd::etcdserverpb as pb;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::process::Servers;

use super::{
    Cycle, Keys, Load, Requests, Stop, Swap, Workload, put, requests, value,
    workload::{Renewals, Swaps, TXN},
};

/// An operation of the table.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Op {
    /// A put of one of the keys, in random order.
    Put,
    /// A linearizable read of one key.
    Get,
    /// A serializable read of one key.
    GetSerializable,
    /// A linearizable read of 1000 keys in a row.
    Range,
    /// A transaction of one put, without a condition.
    Txn,
    /// A transaction of one put on condition that the key is as the client left it.
    Swap,
    /// A renewal of the client's own lease, on a stream that stays open.
    Keepalive,
}

/// Keys in a range.
const RANGE_KEYS: usize = 1000;
/// Leases live for so long: longer than any run, so that none ends in it.
const LEASE_TTL_SECS: i64 = 36_000;
/// Clients that lay the keys down.
const LAYING_CLIENTS: usize = 64;

/// The keys that a server holds, and what their values are.
#[derive(Clone, Debug)]
pub(crate) struct Dataset {
    /// The keys.
    pub(crate) keys: Keys,
    /// Bytes of a value.
    pub(crate) value_bytes: usize,
}

impl Dataset {
    /// Puts each key once.
    pub(crate) fn lay(&self, addresses: &[SocketAddr], servers: &Servers) -> Result<()> {
        let mut puts = Cycle::new(PUT, self.puts());
        run_all(self.keys.count, &mut puts, addresses, servers)
    }

    /// A put of each key, in random order.
    pub(crate) fn puts(&self) -> Requests {
        let value = value(self.value_bytes);
        let put = |place| put(self.keys.key(place), value.clone());
        Requests::encode(self.keys.shuffled().into_iter().map(put))
    }

    /// A range of each key, or of so many from each key on that has them.
    pub(super) fn gets(&self, span: usize, serializable: bool) -> Requests {
        let get = |place| pb::RangeRequest {
            key: self.keys.key(place),
            range_end: match span {
                1 => bytes::Bytes::new(),
                _ => self.keys.key(place + span),
            },
            serializable,
            ..Default::default()
        };
        let mut places = self.keys.shuffled();
        places.retain(|place| place + span <= self.keys.count);
        Requests::encode(places.into_iter().map(get))
    }
}

/// The path of grants.
pub(super) const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
/// The path of puts.
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
/// The path of ranges.
pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";

impl Op {
    /// The name in tables.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Get => "get, linearizable",
            Op::GetSerializable => "get, serializable",
            Op::Range => "range of 1000",
            Op::Txn => "txn, one put",
            Op::Swap => "txn, compare and swap",
            Op::Keepalive => "lease keepalive",
        }
    }

    /// The workload of so many clients. Keys and leases beyond the data set are made here.
    pub(crate) fn workload(
        self,
        dataset: &Dataset,
        clients: usize,
        addresses: &[SocketAddr],
        servers: &Servers,
    ) -> Result<Box<dyn Workload>> {
        Ok(match self {
            Op::Put => Box::new(Cycle::new(PUT, dataset.puts())),
            Op::Get => Box::new(Cycle::new(RANGE, dataset.gets(1, false))),
            Op::GetSerializable => Box::new(Cycle::new(RANGE, dataset.gets(1, true))),
            Op::Range => Box::new(Cycle::new(RANGE, dataset.gets(RANGE_KEYS, false))),
            Op::Txn => {
                let value = value(dataset.value_bytes);
                let txn = |place| requests::txn(put(dataset.keys.key(place), value.clone()));
                let places = dataset.keys.shuffled();
                Box::new(Cycle::new(
                    TXN,
                    Requests::encode(places.into_iter().map(txn)),
                ))
            }
            Op::Swap => Box::new(Swaps::new(swaps(clients, dataset.value_bytes)?)),
            Op::Keepalive => {
                let leases = grant(clients, addresses, servers)?;
                Box::new(Renewals::new(leases, clients))
            }
        })
    }
}

/// A number that no run before used, so that what it names does not exist yet.
fn fresh() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(u64::try_from(now.as_micros())?)
}

/// Swaps of keys that do not exist yet.
pub(super) fn swaps(clients: usize, value_bytes: usize) -> Result<Vec<Swap>> {
    let (run, value) = (fresh()?, value(value_bytes));
    let swap = |client| Swap::new(format!("swap/{run}/{client:08}").into(), value.clone());
    Ok((0..clients).map(swap).collect())
}

/// Grants leases; gives a renewal of each.
fn grant(clients: usize, addresses: &[SocketAddr], servers: &Servers) -> Result<Requests> {
    let (mut grants, ids) = grants(clients)?;
    run_all(clients, &mut grants, addresses, servers)?;
    Ok(Requests::encode(ids.map(renewal)))
}

/// Grants of leases that do not exist yet, and their ids.
pub(crate) fn grants(count: usize) -> Result<(Cycle, Range<i64>)> {
    let first = i64::try_from(fresh()?)?;
    let ids = first..first + i64::try_from(count)?;
    let grants = ids.clone().map(|id| pb::LeaseGrantRequest {
        ttl: LEASE_TTL_SECS,
        id,
    });
    Ok((Cycle::new(GRANT, Requests::encode(grants)), ids))
}

/// Renewals of leases by so many clients.
pub(crate) fn renewals(ids: Range<i64>, clients: usize) -> impl Workload {
    Renewals::new(Requests::encode(ids.map(renewal)), clients)
}

fn renewal(id: i64) -> pb::LeaseKeepAliveRequest {
    pb::LeaseKeepAliveRequest { id }
}

/// Has `count` requests answered, all of them well.
fn run_all(
    count: usize,
    workload: &mut dyn Workload,
    addresses: &[SocketAddr],
    servers: &Servers,
) -> Result<()> {
    let stop = Stop::Answers(count as u64);
    let load = Load::closed(LAYING_CLIENTS.min(count), stop);
    let outcome = load.run(workload, addresses, servers)?;
    ensure!(outcome.errors == 0, "{} of {count} failed", outcome.errors);
    Ok(())
}
