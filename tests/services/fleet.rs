//! Several user services on one database, each with what a process of its own would have, and a gateway that finds them through the
//! registry on an embedded store.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use catena_client::Kv;
use catena_gateway::{Gateway, GatewayOptions, UserCalls, balanced};
use catena_middleware::{
    Health, Outbound, RouteLimits,
    admit::{body::BodyLimits, host::Hosts},
    lifecycle,
    observe::RequestMetrics,
    serve::{ConnectionLimits, Serving, serve},
};
use catena_registry::{
    Endpoint, Instance, RegisterOptions, Registrar, Registration, Registry, RegistryOptions,
    Scheme, ServiceName, Status,
    channel::{self, Channel, ChannelOptions},
};
use catena_services::user::{UserOptions, UserService};
use catena_telemetry::metrics;
use framework::{Cluster, Setup, Target, wait_until};
use tempfile::TempDir;
use tokio::{
    runtime::{self, Runtime},
    sync::oneshot,
};

use crate::stand::loopback;

/// Longer than any pause of a busy machine: what these tests judge is who answers, not how fast.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a registration outlives its instance: the least that a store grants is about this.
const TTL: Duration = Duration::from_secs(2);

/// The store, the gateway, and where the instances' users are.
pub(crate) struct Fleet {
    store: Cluster,
    directory: TempDir,
    registry: Registry,
    channel: Channel,
    gateway: Serving,
}

impl Fleet {
    /// A store and a gateway, and no instance yet.
    pub(crate) async fn start() -> Self {
        let setup = Setup::new(Target::InProcess, 1);
        let store = Cluster::start(setup).await.unwrap();
        let kv = store.members[0].embedded().unwrap();
        let registry = Registry::new(kv, RegistryOptions::default()).unwrap();
        let options = ChannelOptions {
            timeout: Some(PATIENCE),
            connect_timeout: PATIENCE,
            ..ChannelOptions::default()
        };
        let channel = Channel::connect(&registry, &service(), None, options)
            .await
            .unwrap();
        let series = Arc::new(metrics::Registry::new().unwrap());
        let (registered, called) = (registry.clone(), [channel.clone()]);
        series.add_writer(move |text| {
            registered.write_metrics(text);
            channel::write_metrics(&called, text);
        });
        let gateway = Gateway::new(GatewayOptions {
            users: UserCalls::over(balanced(channel.clone(), &Outbound::new(PATIENCE))),
            more: axum::Router::new(),
            hosts: Hosts::Loopback(Vec::new()),
            body: BodyLimits::default(),
            limits: RouteLimits {
                default: Some(PATIENCE),
                prefixes: Vec::new(),
            },
            health: Health::new(),
            metrics: Arc::new(RequestMetrics::register(&series).unwrap()),
            registry: series,
        });
        let gateway = serve(loopback().await, gateway.app(), ConnectionLimits::HTTP).unwrap();
        Self {
            store,
            directory: tempfile::tempdir().unwrap(),
            registry,
            channel,
            gateway,
        }
    }

    /// The gateway's address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// What the gateway knows of the instances.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Starts one more, and waits until the gateway knows it.
    pub(crate) async fn instance(&self, id: &str) -> Running {
        let kv = self.store.members[0].embedded().unwrap();
        let users = self.directory.path().join("users.db");
        let running = Running::start(kv, format!("sqlite:{}", users.display()), id).await;
        self.known(running.address).await;
        running
    }

    /// Registers a service that runs elsewhere, and waits until the gateway knows it.
    pub(crate) async fn register(&self, id: &str, address: SocketAddr) -> Registration {
        let instance = Instance::new(service(), id, vec![endpoint(address)]);
        let options = RegisterOptions::default();
        let registration = self.registry.register(instance, options).await.unwrap();
        self.known(address).await;
        registration
    }

    async fn known(&self, address: SocketAddr) {
        let endpoint = endpoint(address);
        wait_until("the gateway knows the instance", PATIENCE, async || {
            let slots = self.channel.instances();
            let known = |at: &Endpoint| *at == endpoint;
            let mut endpoints = slots.iter().filter_map(|slot| slot.endpoint.as_deref());
            endpoints.any(known).then_some(())
        })
        .await
        .unwrap();
    }

    /// Ends all that is left, in order.
    pub(crate) async fn stop(self) {
        self.gateway.stop_accepting();
        self.gateway.finished().await;
        self.registry.close().await;
    }
}

fn service() -> ServiceName {
    ServiceName::new("user").unwrap()
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::at(Scheme::Grpc, &address.to_string()).unwrap()
}

/// One instance, on a runtime of its own, so that it can be cut off with all that it does.
pub(crate) struct Running {
    runtime: Runtime,
    address: SocketAddr,
    parts: Parts,
}

/// What runs on that runtime.
struct Parts {
    registry: Registry,
    registration: Registration,
    user: UserService,
    health: Health,
    serving: Serving,
}

impl Running {
    async fn start(kv: Arc<dyn Kv>, database: String, id: &str) -> Self {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let id = id.to_owned();
        let starting = runtime.spawn(async move { Parts::start(kv, database, &id).await });
        let parts = starting.await.unwrap();
        Self {
            address: parts.serving.address(),
            runtime,
            parts,
        }
    }

    /// Cuts it off where it stands: nobody tells the registry, and connections end without a word.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_background();
    }

    /// Lets it leave in order.
    pub(crate) async fn leave(self) {
        let leaving = self.runtime.spawn(self.parts.leave());
        leaving.await.unwrap();
        self.runtime.shutdown_background();
    }
}

impl Parts {
    async fn start(kv: Arc<dyn Kv>, database: String, id: &str) -> Self {
        let series = Arc::new(metrics::Registry::new().unwrap());
        let health = Health::new();
        let user = UserService::open(UserOptions {
            database,
            age_min: 0,
            hosts: Hosts::Loopback(Vec::new()),
            health: health.clone(),
            metrics: Arc::new(RequestMetrics::register(&series).unwrap()),
            registry: series,
        });
        let user = user.await.unwrap();
        let serving = serve(loopback().await, user.app(), ConnectionLimits::GRPC).unwrap();
        let registry = Registry::new(kv, RegistryOptions::default()).unwrap();
        let options = RegisterOptions {
            ttl: TTL,
            ..RegisterOptions::default()
        };
        let instance = Instance::new(service(), id, vec![endpoint(serving.address())]);
        let registration = registry.register(instance, options).await.unwrap();
        Self {
            registry,
            registration,
            user,
            health,
            serving,
        }
    }

    async fn leave(self) {
        let registration = self.registration;
        // What is announced is revoked later, by another step of the same leave-taking.
        let (announced, to_revoke) = oneshot::channel();
        let draining = |instance: &mut Instance| instance.status = Status::Draining;
        let announce = async {
            registration.update(draining).await.unwrap();
            announced.send(registration).unwrap();
        };
        let revoke = async { to_revoke.await.unwrap().deregister().await.unwrap() };
        let listeners = vec![self.serving];
        let propagation = lifecycle::PROPAGATION;
        lifecycle::depart(&self.health, announce, propagation, revoke, listeners).await;
        self.user.close().await;
        self.registry.close().await;
    }
}
