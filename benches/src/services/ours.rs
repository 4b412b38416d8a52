//! The gateway and the user service, as one process has them.

use std::{io, sync::Arc};

use anyhow::Result;
use axum::Router;
use catena_gateway::{Gateway, GatewayOptions};
use catena_middleware::{
    Health, Outbound, RouteLimits,
    admit::{body::BodyLimits, host::Hosts},
    observe::RequestMetrics,
    serve::{ConnectionLimits, serve as listen},
};
use catena_services::user::{UserOptions, UserService};
use catena_telemetry::{
    log::{self, LogConfig},
    metrics::Registry,
};
use tokio::net::TcpListener;

/// Serves both until one of them ends.
pub(super) async fn serve(
    rest: TcpListener,
    grpc: TcpListener,
    database: &str,
    listening: impl FnOnce() -> io::Result<()>,
) -> Result<()> {
    log::init(&LogConfig::default())?;
    let registry = Arc::new(Registry::new()?);
    let metrics = Arc::new(RequestMetrics::register(&registry)?);
    let health = Health::new();
    let hosts = Hosts::Loopback(Vec::new());
    let user = UserService::open(UserOptions {
        database: database.to_owned(),
        age_min: 0,
        hosts: hosts.clone(),
        health: health.clone(),
        registry: registry.clone(),
        metrics: metrics.clone(),
    })
    .await?;
    let gateway = Gateway::new(GatewayOptions {
        users: user.transport(&Outbound::default()),
        more: Router::new(),
        hosts,
        body: BodyLimits::default(),
        limits: RouteLimits::default(),
        health,
        registry,
        metrics,
    });
    let grpc = listen(grpc, user.app(), ConnectionLimits::GRPC)?;
    let rest = listen(rest, gateway.app(), ConnectionLimits::HTTP)?;
    listening()?;
    tokio::join!(grpc.finished(), rest.finished());
    Ok(())
}
