//! What a user of the store sees.
//!
//! - [`Kv`] is the store as an interface: range, put, delete, txn, compaction, leases and watches. A service holds an
//!   `Arc<dyn Kv>` and does not know whether the store runs in its own process or behind a network.
//! - [`Remote`] is the form of `Kv` that speaks etcd's gRPC API, with a Catena cluster or with a real etcd. The other form, a member
//!   in the same process, is made by the crate `server`.
//! - [`KeepAlive`] renews a lease through outages and tells when it is lost; [`Session`] is a lease that is kept alive for its owner.
//! - [`Mutex`] and [`Election`] are etcd's recipes over any `Kv`. Their free functions in [`mutex`] and [`election`] take a
//!   lease instead of a session; etcd's Lock and Election services are made of them.
//!
//! Requests and responses are the messages of [`catena_api`]: plain structs, filled with `..Default::default()`;
//! [`request`] makes the usual ones.
//!
//! What is deliberately absent: a cache, retries of writes whose outcome is unknown ([`Error::is_unknown_outcome`] tells; only
//! the caller knows how to find out), and the calls of an operator (members, maintenance, auth).

pub mod election;
mod error;
mod keepalive;
mod kv;
pub mod mutex;
mod queue;
mod remote;
pub mod request;
mod session;
pub mod watch;

pub use election::{Election, Leadership, Observer};
pub use error::{Error, Result};
pub use keepalive::{KeepAlive, LeaseState};
pub use kv::Kv;
pub use mutex::{Lock, Mutex};
pub use remote::{Options, Remote};
pub use session::{Session, SessionOptions};
pub use watch::{WatchResponse, WatchSender, Watcher};

/// The messages that [`Kv`] takes and gives, under one roof.
pub mod pb {
    pub use catena_api::{
        Event, EventType, KeyValue, KeyValueView,
        etcd::{electionpb::LeaderKey, etcdserverpb::*},
    };
}
