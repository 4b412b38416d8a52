//! What the API server of a Kubernetes cluster asks of its store.

use anyhow::Result;
use catena_api::etcd::etcdserverpb as pb;

use super::{
    Cycle, Dataset, RANGE, Requests, Workload, fan,
    op::{GRANT, swaps},
    workload::Swaps,
};
use crate::wire::Connection;

/// Keys in a page of a list.
const PAGE_KEYS: i64 = 500;
/// Watchers of all objects: one for each kind of object that the API server caches.
const WATCHERS: usize = 10;
/// Leases of the mix live for so long, as those of events do.
const LEASE_TTL_SECS: i64 = 3600;

/// Out of 100 requests, 68 update an object that is as it was read, 28 read one, 2 list a page and 2 grant a lease; meanwhile
/// watchers see every update.
#[derive(Debug)]
pub(crate) struct Mix {
    updates: Swaps,
    gets: Cycle,
    lists: Cycle,
    grants: Cycle,
    /// Whether each client's last request was an update, whose answer tells more than that it came.
    updating: Vec<bool>,
    next: usize,
}

impl Mix {
    /// The mix of so many clients. Updates go to objects of the clients' own.
    pub(crate) fn new(dataset: &Dataset, clients: usize) -> Result<Self> {
        let prefix = dataset.keys.prefix;
        let list = pb::RangeRequest {
            key: prefix.into(),
            range_end: end(prefix),
            limit: PAGE_KEYS,
            ..Default::default()
        };
        let grant = pb::LeaseGrantRequest {
            ttl: LEASE_TTL_SECS,
            id: 0,
        };
        Ok(Self {
            updates: Swaps::new(swaps(clients, dataset.value_bytes)?),
            gets: Cycle::new(RANGE, dataset.gets(1, false)),
            lists: Cycle::new(RANGE, Requests::encode([list])),
            grants: Cycle::new(GRANT, Requests::encode([grant])),
            updating: vec![false; clients],
            next: 0,
        })
    }
}

/// The end of the interval of all keys that begin with `prefix`.
fn end(prefix: &str) -> bytes::Bytes {
    framework::prefix_end(prefix.as_bytes())
}

impl Workload for Mix {
    fn begin(&mut self, place: usize, connection: &mut Connection) {
        if place < WATCHERS {
            fan::watch(connection, "swap/".into(), end("swap/"));
        }
    }

    fn send(&mut self, client: usize, connection: &mut Connection, open: Option<u32>) -> u32 {
        self.next += 1;
        // 37 and 100 have no common factor: kinds alternate, and each comes as often as it should.
        let kind = self.next * 37 % 100;
        self.updating[client] = kind < 68;
        match kind {
            0..68 => self.updates.send(client, connection, open),
            68..96 => self.gets.send(client, connection, open),
            96..98 => self.lists.send(client, connection, open),
            _ => self.grants.send(client, connection, open),
        }
    }

    fn piece(&mut self, client: usize, bytes: &[u8], last: bool) {
        if self.updating[client] {
            self.updates.piece(client, bytes, last);
        }
    }

    fn accept(&mut self, client: usize) -> bool {
        !self.updating[client] || self.updates.accept(client)
    }
}
