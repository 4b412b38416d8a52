//! A member from start to stop.
//!
//! ```text
//! bind sockets ─► identity ─► log, store, consensus ─► peers ─► clients ─► published: ready
//!
//! stop: leadership to another ─► no new connection, streams end ─► drained or 2 s ─► consensus, log, store
//! ```
//!
//! Sockets are bound first, so that a port which is taken is found before anything is written.

use std::{fmt, net::SocketAddr, sync::Arc};

use catena_client::Kv;
use catena_raft::{Config, Expected, Node, Remedy, Stop, transport::Transport};
use catena_runtime::{Runtime, Task, watch};

use crate::{
    bootstrap,
    config::ServerConfig,
    connections::Connections,
    handover, http,
    indoor::Indoor,
    listener::{self, Listener, Serving},
    metrics::Metrics,
    observer::Observed,
    server::{ETCD_VERSION, Server},
    threads::{ClientThreads, Threads},
    v3rpc::Services,
};

/// Why a member does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken, an address is not this machine's.
    #[error("cannot listen on {url}: {error}")]
    Listen {
        /// The URL.
        url: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// A new member is not one of the founders.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotInCluster(String),
    /// The running cluster remembers a data directory of this member that is not there any more.
    #[error("{0}")]
    LostData(String),
    /// No member of the running cluster answered.
    #[error("cannot fetch cluster info from peer urls: {0}")]
    Discover(String),
    /// The running cluster does not know this member.
    #[error(
        "no member of the running cluster has the peer URLs {0}; add it first: etcdctl member add NAME --peer-urls={0}"
    )]
    NotAdded(String),
    /// Log, store or consensus.
    #[error(transparent)]
    Raft(#[from] catena_raft::StartError),
    /// Two series of one name: a mistake in this program.
    #[error("metrics: {0}")]
    Metrics(String),
}

impl StartError {
    pub(crate) fn metrics(error: impl fmt::Display) -> Self {
        Self::Metrics(error.to_string())
    }

    /// What can be done about it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Raft(error) => error.remedy(),
            Self::LostData(_) => Remedy::Replace,
            Self::Listen { .. }
            | Self::NotInCluster(_)
            | Self::Discover(_)
            | Self::NotAdded(_)
            | Self::Metrics(_) => Remedy::AsSaid,
        }
    }
}

/// Why a member stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It was asked to.
    Asked,
    /// It was removed from the cluster.
    Removed,
    /// It cannot go on.
    Failed {
        /// Why.
        why: String,
        /// What can be done about it.
        remedy: Remedy,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked => f.write_str("stopped"),
            Self::Removed => {
                f.write_str("the member has been permanently removed from the cluster")
            }
            Self::Failed { why, .. } => f.write_str(why),
        }
    }
}

/// A running member. Dropping it cuts everything off where it stands, as a kill would; [`Member::stop`] stops it in order.
pub struct Member {
    server: Arc<Server>,
    kv: Arc<dyn Kv>,
    clients: Vec<SocketAddr>,
    peers: Vec<SocketAddr>,
    /// Accept loops of client URLs: they end by themselves when the server is stopping.
    doors: Vec<Task>,
    /// The rest, which is aborted at the end.
    background: Vec<Task>,
    reason: watch::Receiver<Option<StopReason>>,
    /// What all runs on but the doors. They end last.
    threads: Threads,
}

/// All sockets of a member.
struct Sockets {
    clients: Vec<Listener>,
    http_only: Vec<Listener>,
    metrics: Vec<Listener>,
    peers: Vec<Listener>,
}

impl Member {
    /// Starts a member, whose clients are served on the tokio runtime that this is called on. It may have no leader yet when this
    /// returns; see [`Member::ready`].
    pub async fn start(config: ServerConfig, runtime: Runtime) -> Result<Self, StartError> {
        tracing::info!(
            etcd_version = ETCD_VERSION,
            name = config.name,
            data_dir = %config.data_dir.display(),
            heartbeat_interval = ?config.heartbeat,
            election_timeout = ?config.election,
            initial_advertise_peer_urls = ?config.advertise_peer,
            advertise_client_urls = ?config.advertise_client,
            quota_backend_bytes = config.quota_bytes,
            max_request_bytes = config.max_request_bytes,
            auto_compaction = ?config.auto_compaction,
            "starting an etcd server"
        );
        let sockets = Sockets::bind(&config).await?;
        let metrics = Metrics::register(&config).map_err(StartError::metrics)?;
        let threads = Threads::start();
        let inner = threads.world(&runtime);
        let (node, transport) = start_node(&config, &threads, &inner, &metrics).await?;
        metrics
            .identify(node.member_id())
            .map_err(StartError::metrics)?;
        let server = Arc::new(Server::new(config, inner, node, metrics));
        Ok(Self::open(server, sockets, &transport, &runtime, threads))
    }

    /// Lets clients in, and starts what runs beside them.
    fn open(
        server: Arc<Server>,
        mut sockets: Sockets,
        transport: &Arc<Transport>,
        outer: &Runtime,
        threads: Threads,
    ) -> Self {
        let client_urls = client_urls(&server.config, &sockets.clients);
        let (server, kv, mut background) = Indoor::over(server, client_urls).into_parts();
        let clients = addresses(&sockets.clients);
        let peers = addresses(&sockets.peers);
        let (reason_sender, reason) = watch::channel(None);
        background.push(server.spawn("end", watch_end(server.clone(), reason_sender)));
        background.extend(open_to_peers(
            &server,
            transport,
            std::mem::take(&mut sockets.peers),
        ));
        let doors = open_doors(&server, &kv, sockets, outer);
        Self {
            server,
            kv,
            clients,
            peers,
            doors,
            background,
            reason,
            threads,
        }
    }

    /// The member's id.
    pub fn id(&self) -> u64 {
        self.server.node.member_id()
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> u64 {
        self.server.node.cluster_id()
    }

    /// Addresses on which clients are served, in the order of `listen_client`.
    pub fn client_addrs(&self) -> &[SocketAddr] {
        &self.clients
    }

    /// Addresses on which other members are served, in the order of `listen_peer`.
    pub fn peer_addrs(&self) -> &[SocketAddr] {
        &self.peers
    }

    /// The member as a store in this process.
    pub fn kv(&self) -> Arc<dyn Kv> {
        self.kv.clone()
    }

    /// Whether this member leads, as it believes.
    pub fn is_leader(&self) -> bool {
        self.server.leader() == Some(self.id())
    }

    /// Completes when the member serves clients: it is part of its cluster, and known there by name.
    pub async fn ready(&self) {
        self.server.ready().await;
    }

    /// Completes when the member cannot or must not go on, with the reason; [`Member::stop`] is due then.
    pub async fn stopped(&self) -> StopReason {
        let mut reason = self.reason.clone();
        match reason.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(StopReason::Asked),
            Err(_) => StopReason::Asked,
        }
    }

    /// Stops in order: hands leadership over, lets requests finish, closes log and store.
    pub async fn stop(self) {
        let Self {
            server,
            doors,
            background,
            threads,
            ..
        } = self;
        let (name, data_dir) = (&server.config.name, server.config.data_dir.display());
        tracing::info!(name, %data_dir, "closing etcd server");
        handover::hand_over(&server).await;
        server.stopping.cancel();
        for door in doors {
            door.join().await;
        }
        server.node.shutdown().await;
        drop(background);
        threads.stop().await;
        tracing::info!(name, %data_dir, "closed etcd server");
    }
}

impl Sockets {
    async fn bind(config: &ServerConfig) -> Result<Self, StartError> {
        Ok(Self {
            clients: bind_all(&config.listen_client).await?,
            http_only: bind_all(&config.listen_client_http).await?,
            metrics: bind_all(&config.listen_metrics).await?,
            peers: bind_all(&config.listen_peer).await?,
        })
    }
}

async fn bind_all(urls: &[crate::Url]) -> Result<Vec<Listener>, StartError> {
    let mut listeners = Vec::with_capacity(urls.len());
    for url in urls {
        let listener = Listener::bind(url)
            .await
            .map_err(|error| StartError::Listen {
                url: url.to_string(),
                error,
            })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

async fn start_node(
    config: &ServerConfig,
    threads: &Threads,
    runtime: &Runtime,
    metrics: &Metrics,
) -> Result<(Node, Arc<Transport>), StartError> {
    let origin = bootstrap::identify(config, runtime).await?;
    let mut raft = Config::new(&config.data_dir, origin.identity);
    raft.initial = origin.founders;
    raft.expected = Some(expected(config));
    raft.engine = config.engine;
    raft.log_proposals_max = config.proposals_max();
    raft.log_proposals_keep = config.proposals_keep();
    raft.heartbeat = config.heartbeat;
    raft.election = config.election;
    raft.pre_vote = config.pre_vote;
    raft.strict_reconfig = config.strict_reconfig;
    raft.max_learners = config.max_learners;
    raft.store.compaction_batch_limit = config.compaction_batch_limit;
    raft.compaction_pause = config.compaction_pause;
    raft.observer = Arc::new(Observed::new(metrics));
    let transport = Transport::new(runtime.clone(), &raft)?;
    let start = Node::start(runtime.clone(), transport.clone(), raft);
    let node = threads.run(start).await?;
    Ok((node, transport))
}

fn expected(config: &ServerConfig) -> Expected {
    let cluster_urls = config.initial_cluster.iter().map(|(_, url)| url.clone());
    Expected {
        name: config.name.clone(),
        peer_urls: config.advertise_peer.clone(),
        cluster_urls: cluster_urls.collect(),
    }
}

fn open_to_peers(
    server: &Arc<Server>,
    transport: &Arc<Transport>,
    listeners: Vec<Listener>,
) -> Vec<Task> {
    let allowed = Connections::of_peers();
    let serve = |listener: Listener| {
        tracing::info!(address = listener.url(), "serving peer traffic");
        let run =
            listener::run_for_peers(listener, transport.clone(), server.clone(), allowed.clone());
        server.spawn("peers", run)
    };
    listeners.into_iter().map(serve).collect()
}

fn open_doors(
    server: &Arc<Server>,
    kv: &Arc<dyn Kv>,
    sockets: Sockets,
    outer: &Runtime,
) -> Vec<Task> {
    let split = !sockets.http_only.is_empty();
    let services = Services::new(server, kv);
    let client = Serving {
        http: if split {
            axum::Router::new()
        } else {
            http::client(server)
        },
        grpc: Some(services),
    };
    let http_only = Serving {
        grpc: None,
        http: http::client(server),
    };
    let metrics = Serving {
        grpc: None,
        http: http::metrics(server),
    };
    let traffic = if split { "grpc" } else { "grpc+http" };
    let doors = [
        (sockets.clients, client, traffic),
        (sockets.http_only, http_only, "http"),
        (sockets.metrics, metrics, "metrics"),
    ];
    let mut tasks = Vec::new();
    let connections = Connections::of_clients();
    let threads = Arc::new(ClientThreads::start(&server.node));
    for (listeners, serving, traffic) in doors {
        let serving = Arc::new(serving);
        for listener in listeners {
            let address = listener.url();
            tracing::info!(
                traffic,
                address,
                "serving client traffic insecurely; this is strongly discouraged!"
            );
            let run = listener::run(
                listener,
                serving.clone(),
                server.clone(),
                connections.clone(),
                threads.clone(),
            );
            tasks.push(outer.tasks.spawn("clients", Box::pin(run)));
        }
    }
    tasks
}

/// Notes why the node stops, and ends the serving of clients with it.
async fn watch_end(server: Arc<Server>, reason: watch::Sender<Option<StopReason>>) {
    let why = match server.node.stopped().await {
        Stop::Asked => StopReason::Asked,
        Stop::Removed => {
            let local_member_id = format!("{:x}", server.node.member_id());
            tracing::warn!(
                local_member_id,
                "the member has been permanently removed from the cluster"
            );
            StopReason::Removed
        }
        failed => {
            tracing::error!(error = %failed, "the member cannot go on and stops");
            StopReason::Failed {
                why: failed.to_string(),
                remedy: failed.remedy(),
            }
        }
    };
    server.stopping.cancel();
    reason.send_replace(Some(why));
}

fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(Listener::address).collect()
}

fn client_urls(config: &ServerConfig, listeners: &[Listener]) -> Vec<String> {
    if config.advertise_client.is_empty() {
        listeners.iter().map(Listener::url).collect()
    } else {
        config.advertise_client.clone()
    }
}
