//! Members that listen on loopback.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use catena_api::etcd::etcdserverpb as pb;
use catena_raft::{
    Config, Node, id,
    identity::{self, Identity},
    transport::Transport,
};
use catena_runtime::Runtime;
use catena_store::{Command, Member, Request, backend::Engine};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::transport::server::TcpIncoming;

/// Long enough for an election on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running member.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) identity: Identity,
    pub(crate) transport: Arc<Transport>,
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Running {
    /// Starts a member on a listener of its own.
    pub(crate) async fn start(
        dir: &Path,
        listener: TcpListener,
        cluster_id: u64,
        member: &Member,
        founders: Option<Vec<Member>>,
    ) -> Self {
        let runtime = Runtime::system();
        let identity = identity::open(&runtime, dir, cluster_id, member.id).unwrap();
        let mut config = Config::new(dir, identity);
        config.engine = Engine::Memory;
        config.heartbeat = Duration::from_millis(50);
        config.election = Duration::from_millis(500);
        config.wal.segment_bytes = 1 << 20;
        config.initial = founders;
        let transport = Transport::new(runtime.clone(), &config).unwrap();
        let node = Node::start(runtime, transport.clone(), config)
            .await
            .unwrap();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serve = transport.clone().serve(incoming, node.clone());
        let serving = tokio::spawn(async move { serve.await.unwrap() });
        Self {
            node,
            identity,
            transport,
            url: member.peer_urls[0].clone(),
            serving,
        }
    }

    pub(crate) async fn stop(self) {
        self.node.shutdown().await;
        self.serving.abort();
    }
}

/// Founders that listen, and where their files lie.
pub(crate) struct Founders {
    pub(crate) members: Vec<Member>,
    pub(crate) cluster_id: u64,
    pub(crate) dirs: Vec<TempDir>,
    pub(crate) running: Vec<Running>,
}

pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

impl Founders {
    /// Founds a cluster; returns when a write has gone through it.
    pub(crate) async fn new(count: usize) -> Self {
        let mut members = Vec::new();
        let mut listeners = Vec::new();
        for n in 0..count {
            let (listener, url) = listen().await;
            listeners.push(listener);
            members.push(Member {
                id: id::member_id(std::slice::from_ref(&url), "test", None),
                name: format!("m{n}"),
                peer_urls: vec![url],
                ..Member::default()
            });
        }
        let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
        let cluster_id = id::cluster_id(&ids);
        let mut founders = Self {
            members: members.clone(),
            cluster_id,
            dirs: Vec::new(),
            running: Vec::new(),
        };
        for (member, listener) in members.iter().zip(listeners) {
            let dir = tempfile::tempdir().unwrap();
            let initial = Some(members.clone());
            let running = Running::start(dir.path(), listener, cluster_id, member, initial).await;
            founders.dirs.push(dir);
            founders.running.push(running);
        }
        put_surely(&founders.running[0].node, "founded").await;
        founders
    }

    pub(crate) async fn stop(self) {
        for running in self.running {
            running.stop().await;
        }
    }
}

pub(crate) fn put(key: &str, value: impl Into<Bytes>) -> Command {
    Command::internal(Request::Put(pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ..Default::default()
    }))
}

pub(crate) async fn put_surely(node: &Node, key: &str) {
    let begin = Instant::now();
    while let Err(error) = node.propose(put(key, "v")).await {
        assert!(begin.elapsed() < PATIENCE, "{key}: {error}");
    }
}

pub(crate) async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
