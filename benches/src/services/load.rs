//! Clients that ask, each again when it is answered.

use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use catena_api::example::{UserRequest, user_service_client::UserServiceClient};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    runtime,
    task::{JoinSet, LocalSet},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::Subject;
use crate::{histogram::Histogram, load::connections};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// `GET /user/1`.
    RestUser,
    /// `example.UserService/GetUser`.
    GrpcUser,
    /// `GET /ping`.
    Ping,
    /// `grpc.health.v1.Health/Check`.
    Health,
}

impl Asked {
    /// All, those with the database first.
    pub(crate) const ALL: [Asked; 4] =
        [Asked::RestUser, Asked::GrpcUser, Asked::Ping, Asked::Health];

    /// The share of a bare server's requests that is wanted.
    pub(crate) fn wanted(self) -> f64 {
        match self {
            Asked::RestUser | Asked::GrpcUser => 0.8,
            Asked::Ping | Asked::Health => 0.6,
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Asked::RestUser => "GET /user/{id}",
            Asked::GrpcUser => "GetUser",
            Asked::Ping => "GET /ping",
            Asked::Health => "gRPC health",
        })
    }
}

/// How many ask, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Clients, each with one request in flight.
    pub(crate) clients: usize,
    /// For how long.
    pub(crate) length: Duration,
}

impl Load {
    /// Asks a subject, and gives the latencies. An answer that is an error fails it.
    pub(crate) fn run(self, asked: Asked, subject: &Subject) -> Result<Histogram> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Its clients stay on this thread.
        let local = LocalSet::new();
        runtime.block_on(local.run_until(async {
            let mut clients = JoinSet::new();
            let channels = self.channels(subject.grpc).await?;
            let end = Instant::now() + self.length;
            for number in 0..self.clients {
                let channel = channels[number % channels.len()].clone();
                match asked {
                    Asked::RestUser => clients.spawn_local(rest(subject.rest, "/user/1", end)),
                    Asked::Ping => clients.spawn_local(rest(subject.rest, "/ping", end)),
                    Asked::GrpcUser => clients.spawn_local(users(channel, end)),
                    Asked::Health => clients.spawn_local(health(channel, end)),
                };
            }
            let mut latencies = Histogram::default();
            while let Some(ended) = clients.join_next().await {
                for latency in ended?? {
                    latencies.record(latency);
                }
            }
            ensure!(latencies.len() > 0, "nothing was answered");
            Ok(latencies)
        }))
    }

    /// Connections that clients of gRPC share.
    async fn channels(self, address: SocketAddr) -> Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..connections(self.clients) {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            channels.push(endpoint.connect().await?);
        }
        Ok(channels)
    }
}

/// Asks until the end.
async fn again(end: Instant, mut ask: impl AsyncFnMut() -> Result<()>) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    loop {
        let began = Instant::now();
        if began >= end {
            return Ok(latencies);
        }
        ask().await?;
        latencies.push(began.elapsed());
    }
}

async fn rest(address: SocketAddr, path: &'static str, end: Instant) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = async {
        connection.await?;
        // It ends with its sender, which the other branch holds.
        std::future::pending::<Result<Vec<Duration>>>().await
    };
    let asking = again(end, async || {
        sender.ready().await?;
        let request = Request::get(path)
            .header("host", "localhost")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        ensure!(status == 200, "{path} is answered {status}");
        Ok(())
    });
    tokio::select! {
        ended = connection => ended,
        latencies = asking => latencies,
    }
}

async fn users(channel: Channel, end: Instant) -> Result<Vec<Duration>> {
    let mut client = UserServiceClient::new(channel);
    again(end, async || {
        let user_id = "1".to_owned();
        client.get_user(UserRequest { user_id }).await?;
        Ok(())
    })
    .await
}

async fn health(channel: Channel, end: Instant) -> Result<Vec<Duration>> {
    let mut client = HealthClient::new(channel);
    again(end, async || {
        let service = "example.UserService".to_owned();
        client.check(HealthCheckRequest { service }).await?;
        Ok(())
    })
    .await
}
