//! How many connections clients and peers may have.
//!
//! Each takes a file descriptor, and so does the log's next segment: a member that cannot open it stops. So a part of the
//! descriptors is kept, as in etcd, and peers may have some of that part. Beyond that, one address may not have all that is left,
//! which etcd does not ask for.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};

/// Descriptors that the member keeps for its files and its peers: etcd's number.
const RESERVED_DESCRIPTORS: usize = 150;

/// Connections in all: an idle one costs some tens of kilobytes.
const CONNECTIONS_MAX: usize = 16 << 10;

/// Connections that are allowed even where descriptors are fewer than what is kept.
const CONNECTIONS_MIN: usize = 16;

/// Connections from peers: three from each, and three more that it has given up and we do not know of yet, for ten peers. They
/// and as many to peers leave some of [`RESERVED_DESCRIPTORS`] to files.
const PEER_CONNECTIONS_MAX: usize = 64;

/// The connections of all listeners of one kind. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    open: Arc<Mutex<Open>>,
    max: fn() -> usize,
}

#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection that was let in; it is counted until this is dropped.
pub(crate) struct Admitted {
    connections: Connections,
    address: Option<IpAddr>,
}

impl Connections {
    /// Those of clients.
    pub(crate) fn of_clients() -> Self {
        Self::within(clients_max)
    }

    /// Those of the other members.
    pub(crate) fn of_peers() -> Self {
        Self::within(|| PEER_CONNECTIONS_MAX)
    }

    fn within(max: fn() -> usize) -> Self {
        let open = Arc::default();
        Self { open, max }
    }

    /// Lets a connection in, unless there are too many; one through a Unix socket has no address.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> Option<Admitted> {
        let max = (self.max)();
        let mut open = self.open.lock();
        // Three quarters: many clients behind one address are served, and somebody else still gets in.
        let address_max = max - max / 4;
        let of_address = address.map_or(0, |ip| open.by_address.get(&ip).copied().unwrap_or(0));
        if open.total >= max || of_address >= address_max {
            return None;
        }
        open.total += 1;
        if let Some(address) = address {
            open.by_address.insert(address, of_address + 1);
        }
        Some(Admitted {
            connections: self.clone(),
            address,
        })
    }
}

/// The limit changes while the process runs if its owner wants so.
fn clients_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current;
    let descriptors = descriptors.map_or(usize::MAX, |limit| limit as usize);
    let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    left.clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.total -= 1;
        let Some(address) = self.address else {
            return;
        };
        if let Some(count) = open.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_a_quarter_to_others() {
        let connections = Connections::within(|| 8);
        let [greedy, other] = [1, 2].map(|n| Some(IpAddr::from([127, 0, 0, n])));
        let admit = |address| connections.admit(address);
        let held: Vec<_> = std::iter::from_fn(|| admit(greedy)).collect();
        assert_eq!(held.len(), 6);
        let second = admit(other).unwrap();
        let _unix = admit(None).unwrap();
        assert!(admit(other).is_none(), "all are taken");
        drop((held, second));
        assert!(admit(greedy).is_some());
        assert_eq!(connections.open.lock().by_address.len(), 0);
    }
}
