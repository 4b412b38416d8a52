//! The way between members: gRPC on the peer port.
//!
//! - [`Transport`] is a [`catena_runtime::Network`] to the other members, and serves their calls;
//! - [`AddressBook`] says where they are;
//! - [`discover`] asks a running cluster who is in it, before one has an identity.
//!
//! Every connection begins with a greeting, which checks protocol version, cluster, both members and the *incarnation* of the data
//! directory. What it returns, a session, goes with every call, so a connection that ends up at another process is noticed. A
//! member that was removed, and one that comes back without its data, are refused in words that say what to run; they stop when
//! they read that.
//!
//! A peer is reached over three connections, so that entries never delay a heartbeat and a snapshot delays neither: see `lane`.

mod address;
mod door;
mod incarnation;
mod lane;
mod serve;
mod status;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, Network, Runtime};
use parking_lot::Mutex;

pub use address::AddressBook;
pub use door::{Cluster, discover};

use crate::{
    Config, Observer, StartError,
    identity::{Identity, Layout},
};
use incarnation::Incarnations;
use lane::{Lane, Purpose};

/// What members of this version speak.
const PROTOCOL_VERSION: u32 = 1;

/// Largest frame: the largest entry and what is around it.
const FRAME_BYTES_MAX: usize = 36 << 20;

/// Bytes of a stream that may be on the way: the window of entries that are not answered, so that HTTP/2 never binds first.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Bytes of a connection that may be on the way.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A connection that is silent for so long is asked whether it is alive, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Metadata that carries the session.
const SESSION_KEY: &str = "catena-session";

/// Metadata that carries the method of a stream.
const METHOD_KEY: &str = "catena-method";

/// The way to the other members. Connects when somebody is called.
pub struct Transport {
    shared: Arc<Shared>,
    lanes: Mutex<BTreeMap<(u64, Purpose), Lane>>,
}

/// What the parts of a transport share.
struct Shared {
    runtime: Runtime,
    identity: Identity,
    addresses: AddressBook,
    incarnations: Incarnations,
    greetings: Greetings,
    observer: Arc<dyn Observer>,
}

/// How often each member was greeted or has greeted: one more says that it can be reached again.
#[derive(Default)]
struct Greetings(Mutex<BTreeMap<u64, u64>>);

impl Greetings {
    fn of(&self, id: u64) -> u64 {
        self.0.lock().get(&id).copied().unwrap_or(0)
    }

    fn count(&self, id: u64) {
        *self.0.lock().entry(id).or_default() += 1;
    }
}

impl Transport {
    /// For the member with these settings.
    pub fn new(runtime: Runtime, config: &Config) -> Result<Arc<Self>, StartError> {
        let file = Layout::new(&config.data_dir).peers();
        let incarnations = Incarnations::open(runtime.disk.clone(), file)?;
        Ok(Arc::new(Self {
            shared: Arc::new(Shared {
                runtime,
                identity: config.identity,
                addresses: config.addresses.clone(),
                incarnations,
                greetings: Greetings::default(),
                observer: config.observer.clone(),
            }),
            lanes: Mutex::default(),
        }))
    }

    fn lane(&self, to: u64, purpose: Purpose) -> Lane {
        let mut lanes = self.lanes.lock();
        let lane = lanes
            .entry((to, purpose))
            .or_insert_with(|| Lane::new(self.shared.clone(), to));
        lane.clone()
    }
}

impl Network for Transport {
    fn call(
        &self,
        to: u64,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, NetError>> {
        let lane = self.lane(to, Purpose::of(method));
        Box::pin(async move { lane.call(method, body, timeout).await })
    }

    fn stream(&self, to: u64, method: u32) -> BoxFuture<'_, Result<Duplex, NetError>> {
        let lane = self.lane(to, Purpose::of(method));
        Box::pin(async move { lane.stream(method).await })
    }
}
