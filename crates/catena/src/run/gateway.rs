//! The gateway, which finds the user service through the registry, and serves the configuration centre on the same store.

use std::net::SocketAddr;

use anyhow::Result;
use catena_gateway::{Gateway, GatewayOptions, UserCalls, balanced, config_api, nacos};
use catena_middleware::{
    Health, Outbound, RouteLimits,
    admit::body::BodyLimits,
    serve::{ConnectionLimits, Serving, serve},
};
use catena_registry::{
    Discovery, Registry, ServiceName, Watcher,
    channel::{self, Channel, ChannelOptions},
    config::ConfigCenter,
};
use futures_util::{StreamExt, future::ready, stream};
use tokio_util::task::AbortOnDropHandle;

use super::{
    live::Following,
    process::{LOOK_EVERY, Process},
    settings::{Service, Settings},
    user::{SERVICE, User, id_of},
};
use crate::config;

/// The check of `/readyz`: a gateway that has never heard of an instance can serve nobody.
const DISCOVERY: &str = "discovery";

/// The gateway, running.
pub(crate) struct Front {
    address: SocketAddr,
    _looking: Option<AbortOnDropHandle<()>>,
}

impl Front {
    /// Listens. The user service is `local` if it is in this process, and found through the registry otherwise.
    pub(crate) async fn start(
        process: &Process,
        settings: &Settings,
        local: Option<&User>,
    ) -> Result<(Self, Serving, Following)> {
        let listener = process
            .bind("gateway-listen", &settings.gateway_listen)
            .await?;
        let outbound = Outbound::new(process.told.gateway.call_timeout);
        let (users, looking) = match local {
            Some(user) => (UserCalls::new(user.local(&outbound)), None),
            None => {
                let channel = follow(process.registry.clone())?;
                let counted = [channel.clone()];
                process
                    .series
                    .add_writer(move |text| channel::write_metrics(&counted, text));
                let looking = tokio::spawn(look(channel.clone(), process.health.clone()));
                let users = UserCalls::over(balanced(channel, &outbound));
                (users, Some(AbortOnDropHandle::new(looking)))
            }
        };
        let center = ConfigCenter::new(process.kv.clone());
        let mut more = config_api::router(center.clone(), process.closing.clone());
        if settings.gateway_nacos {
            let namespace = &settings.namespace;
            more = more.merge(nacos::router(center, namespace, process.closing.clone()));
        }
        let gateway = Gateway::new(GatewayOptions {
            users,
            more,
            hosts: process.hosts(),
            body: BodyLimits::default(),
            limits: RouteLimits {
                prefixes: vec![(config_api::PREFIX, None), (nacos::PREFIX, None)],
                ..RouteLimits::default()
            },
            health: process.health.clone(),
            registry: process.series.clone(),
            metrics: process.requests.clone(),
        });
        let app = gateway.app();
        app.adjust(process.told.gateway.limits());
        let serving = serve(listener, app.clone(), ConnectionLimits::HTTP)?;
        let following = Following::start(
            process,
            (Service::Gateway, &instance(serving.address())),
            move |told| {
                app.adjust(told.gateway.limits());
                outbound.adjust(told.gateway.call_timeout);
            },
        );
        let front = Self {
            address: serving.address(),
            _looking: looking,
        };
        Ok((front, serving, following))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What it is called among those that follow documents: gateways on several machines may each listen on their own loopback.
fn instance(listening: SocketAddr) -> String {
    let host = config::of_default_route().unwrap_or_else(|| listening.ip().to_string());
    id_of(&format!("{host}-{}", listening.port()))
}

/// A channel that does not wait for the store to begin: calls wait for it, each within its own time.
fn follow(registry: Registry) -> Result<Channel> {
    let service = ServiceName::new(SERVICE)?;
    let followed = service.clone();
    let changes = stream::once(async move { registry.watch(&followed).await })
        .filter_map(|watcher| {
            if let Err(error) = &watcher {
                tracing::error!(%error, "cannot follow the user service");
            }
            ready(watcher.ok())
        })
        .flat_map(Watcher::into_stream);
    Ok(Channel::new(
        service,
        changes,
        None,
        ChannelOptions::default(),
    ))
}

/// Red until the first instance is known. Later ones may all go: that is for the answers to say, not for the gateway's own readiness.
async fn look(channel: Channel, health: Health) {
    let unknown =
        format!("no instance of {SERVICE:?} is known yet: start one with `catena run {SERVICE}`");
    health.set(DISCOVERY, Err(unknown));
    while channel.instances().is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    health.set(DISCOVERY, Ok(()));
}
