//! etcd's gRPC services, one file each.
//!
//! Handlers are thin and alike: validate, call, map the error, fill the header, return. What is common to all calls stands in
//! [`interceptor`], driven by the [`table`] of RPCs; [`Services::call`] brings the two together. There is no router between: a
//! request finds its service by its place in the table. The calls that members answer most, those of one message each way on keys
//! and values, do without tonic too: see [`unary`].

mod auth;
mod cluster;
mod election;
mod frames;
mod gathered;
mod health;
mod interceptor;
pub(crate) mod kv;
pub(crate) mod lease;
mod lock;
pub(crate) mod maintenance;
pub(crate) mod metrics;
mod snapshot;
mod table;
mod taken;
mod unary;
pub(crate) mod watch;

use std::{convert::Infallible, sync::Arc, time::Duration};

use catena_api::etcd::{
    electionpb::election_server::ElectionServer,
    etcdserverpb::{
        auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer,
        lease_server::LeaseServer, maintenance_server::MaintenanceServer,
        watch_server::WatchServer,
    },
    health::health_server::HealthServer,
    lockpb::lock_server::LockServer,
};
use catena_client::Kv;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tonic::{Status, body::Body, metadata::MetadataMap};
use tower::Service as _;

use self::{
    auth::AuthService,
    cluster::ClusterService,
    election::ElectionService,
    health::HealthService,
    interceptor::{Call, CallHeaders, Place, Received},
    kv::KvService,
    lease::LeaseService,
    lock::LockService,
    maintenance::MaintenanceService,
    table::{RPCS, Rpc, Service},
    unary::Answer,
    watch::WatchService,
};
use crate::server::Server;

/// All services of a member.
#[derive(Clone)]
pub(crate) struct Services {
    server: Arc<Server>,
    unary: KvService,
    kv: KvServer<KvService>,
    watch: WatchServer<WatchService>,
    lease: LeaseServer<LeaseService>,
    cluster: ClusterServer<ClusterService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    auth: AuthServer<AuthService>,
    lock: LockServer<LockService>,
    election: ElectionServer<ElectionService>,
    health: HealthServer<HealthService>,
}

/// Makes a service of tonic refuse no message for its size: [`interceptor`] does, with etcd's text.
macro_rules! unlimited {
    ($server:ident, $service:expr) => {
        $server::new($service).max_decoding_message_size(usize::MAX)
    };
}

impl Services {
    /// The services of `server`; the recipes work on `kv`, which is the same member seen as a store.
    pub(crate) fn new(server: &Arc<Server>, kv: &Arc<dyn Kv>) -> Self {
        let shared = || server.clone();
        let lock = LockService {
            server: shared(),
            kv: kv.clone(),
        };
        let election = ElectionService {
            server: shared(),
            kv: kv.clone(),
        };
        Self {
            unary: KvService(shared()),
            kv: unlimited!(KvServer, KvService(shared())),
            watch: unlimited!(WatchServer, WatchService(shared())),
            lease: unlimited!(LeaseServer, LeaseService(shared())),
            cluster: unlimited!(ClusterServer, ClusterService(shared())),
            maintenance: unlimited!(MaintenanceServer, MaintenanceService(shared())),
            auth: unlimited!(AuthServer, AuthService(shared())),
            lock: unlimited!(LockServer, lock),
            election: unlimited!(ElectionServer, election),
            health: unlimited!(HealthServer, HealthService(shared())),
            server: shared(),
        }
    }

    /// Answers one call.
    pub(crate) async fn call(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(place) = table::find(request.uri().path()) else {
            return unknown_method(request.uri().path());
        };
        self.server.ready().await;
        let call = Call::begin(self.server.clone(), place);
        let headers = CallHeaders::of(request.headers());
        let rpc = &RPCS[place];
        let response = match self.admit(rpc, request.headers()).await {
            Ok(_place) => {
                let request = call.incoming(request);
                if unary::serves(rpc) {
                    unary::call(&self.unary, rpc, request.into_body()).await
                } else {
                    // Boxed: it is larger than what most calls need.
                    Box::pin(self.route(rpc.service, request)).await
                }
            }
            Err(refusal) => {
                interceptor::discard(request);
                refusal.into_http().map(Answer::Tonic)
            }
        };
        call.outgoing(response, &headers)
    }

    /// Lets a call pass to its handler, with a place if it needs one.
    async fn admit(&self, rpc: &Rpc, headers: &HeaderMap) -> Result<Option<Place<'_>>, Status> {
        interceptor::admit(&self.server, rpc, headers)?;
        if unary::serves(rpc) {
            unary::refuse_compression(headers)?;
        }
        interceptor::place(&self.server, rpc).await
    }

    async fn route(&self, service: Service, request: Request<Received>) -> Response<Answer> {
        let routed = match service {
            Service::Kv => self.kv.clone().call(request).await,
            Service::Watch => self.watch.clone().call(request).await,
            Service::Lease => self.lease.clone().call(request).await,
            Service::Cluster => self.cluster.clone().call(request).await,
            Service::Maintenance => self.maintenance.clone().call(request).await,
            Service::Auth => self.auth.clone().call(request).await,
            Service::Lock => self.lock.clone().call(request).await,
            Service::Election => self.election.clone().call(request).await,
            Service::Health => self.health.clone().call(request).await,
        };
        let Ok(response): Result<Response<Body>, Infallible> = routed;
        response.map(Answer::Tonic)
    }
}

/// What grpc-go answers where there is no such method or service.
fn unknown_method(path: &str) -> Response<Body> {
    let (service, method) = path
        .trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path, ""));
    let known = RPCS.iter().any(|rpc| rpc.service.name() == service);
    let text = if known {
        format!("unknown method {method} for service {service}")
    } else {
        format!("unknown service {service}")
    };
    Status::unimplemented(text).into_http()
}

/// The time that the caller gives a call, from `grpc-timeout`: up to eight digits and a unit.
fn deadline(metadata: &MetadataMap) -> Option<Duration> {
    let headers: &HeaderMap = metadata.as_ref();
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_in_every_unit() {
        let read = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            deadline(&metadata)
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        for wrong in ["", "S", "1", "1x", "999999999S", "-1S"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(deadline(&MetadataMap::new()), None);
    }
}
