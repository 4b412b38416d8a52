//! A member without sockets: what serves clients, over a node that somebody else has started.
//!
//! It is the same code as in [`Member`](crate::Member), reached through [`Kv`]; only the doors are missing. So a program that brings
//! its own network, or a simulation on virtual time, runs the reads, leases and watches that clients of a real member meet.

use std::sync::Arc;

use catena_client::Kv;
use catena_raft::{MoveError, Node};
use catena_runtime::{Runtime, Task};

use crate::{
    ServerConfig, StartError, announce, compactor, embed::Embedded, handover, lease_calls,
    lease_clock, metrics::Metrics, server::Server,
};

/// A running member without sockets. Dropping it cuts it off where it stands.
pub struct Indoor {
    server: Arc<Server>,
    kv: Arc<dyn Kv>,
    background: Vec<Task>,
}

impl Indoor {
    /// Serves over `node`. Of `config` only what concerns requests, leases and watches is used: the node has been told the rest.
    pub fn open(config: ServerConfig, runtime: Runtime, node: Node) -> Result<Self, StartError> {
        let metrics = Metrics::register(&config).map_err(StartError::metrics)?;
        metrics
            .identify(node.member_id())
            .map_err(StartError::metrics)?;
        let client_urls = config.advertise_client.clone();
        let server = Arc::new(Server::new(config, runtime, node, metrics));
        Ok(Self::over(server, client_urls))
    }

    /// Starts what runs beside the requests.
    pub(crate) fn over(server: Arc<Server>, client_urls: Vec<String>) -> Self {
        lease_calls::serve(&server, &server.node);
        let kv: Arc<dyn Kv> = Arc::new(Embedded::new(server.clone()));
        let watched = server.clone();
        let mut background = vec![
            server.spawn("lease-clock", lease_clock::run(server.clone())),
            server.spawn("publish", announce::publish(server.clone(), client_urls)),
            server.spawn("cluster-version", announce::decide_version(server.clone())),
            server.spawn("leader", async move { watched.watch_leader().await }),
        ];
        if let Some(mode) = server.config.auto_compaction {
            background.push(server.spawn("compactor", compactor::run(server.clone(), mode)));
        }
        Self {
            server,
            kv,
            background,
        }
    }

    /// What it is made of: for who adds doors.
    pub(crate) fn into_parts(self) -> (Arc<Server>, Arc<dyn Kv>, Vec<Task>) {
        (self.server, self.kv, self.background)
    }

    /// The member as a store.
    pub fn kv(&self) -> Arc<dyn Kv> {
        self.kv.clone()
    }

    /// The term in which this member lets the time of leases run, if it does.
    pub fn lease_term(&self) -> Option<u64> {
        self.server.lessor.term()
    }

    /// Completes when the member is known to its cluster by name, and so may answer clients.
    pub async fn ready(&self) {
        self.server.ready().await;
    }

    /// Hands leadership to another member, as a client may ask for.
    pub async fn move_leader(&self, to: u64) -> Result<(), MoveError> {
        handover::move_leader(&self.server, to).await
    }
}
