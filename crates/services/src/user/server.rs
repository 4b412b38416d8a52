//! The user service as one process has it.

use std::{sync::Arc, time::Duration};

use axum::Router;
use catena_api::{
    example::user_service_server::UserServiceServer, user::users_server::UsersServer,
};
use catena_middleware::{
    Chain, Health, LocalCalls, Outbound, RouteLimits,
    admit::{body::BodyLimits, host::Hosts},
    chain::Chained,
    lifecycle,
    observe::RequestMetrics,
};
use catena_telemetry::metrics::Registry;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tonic_health::server::HealthReporter;
use tower::Layer;

use super::{Directory, LocalUsers};
use crate::database::OpenError;

/// How often the database is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The check of `/readyz` that follows it.
const DATABASE: &str = "database";

/// The most that a unary call may take, whatever its caller says.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// What a user service is made of.
#[derive(Clone)]
pub struct UserOptions {
    /// `sqlite:`, `mysql:`, `mariadb:` or `postgres:`.
    pub database: String,
    /// The least age that is taken.
    pub age_min: u8,
    /// Which hosts are served over HTTP: `/healthz`, `/readyz` and `/metrics`.
    pub hosts: Hosts,
    /// Where readiness is kept, by this service and by whoever registers it.
    pub health: Health,
    /// Where series are made.
    pub registry: Arc<Registry>,
    /// The series of requests: one for a process, however many services it has.
    pub metrics: Arc<RequestMetrics>,
}

/// The service, and the tasks that keep its health.
pub struct UserService {
    app: Chained<Router>,
    directory: Directory,
    metrics: Arc<RequestMetrics>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl UserService {
    /// Opens the database and builds the service.
    pub async fn open(options: UserOptions) -> Result<Self, OpenError> {
        let directory = Directory::open(&options.database, options.age_min).await?;
        options.health.set(DATABASE, Ok(()));
        let (reporter, health) = tonic_health::server::health_reporter();
        // That they can be read is a test.
        let compiled_in = "descriptors that the build has written are descriptors";
        let reflection = described().build_v1().expect(compiled_in);
        let reflection_of_old = described().build_v1alpha().expect(compiled_in);
        let mut routes = Routes::builder();
        routes
            .add_service(UserServiceServer::new(directory.clone()))
            .add_service(UsersServer::new(directory.clone()))
            .add_service(health)
            .add_service(reflection)
            .add_service(reflection_of_old);
        let operations = lifecycle::operations(options.health.clone(), options.registry);
        let metrics = options.metrics.clone();
        let chain = Chain {
            metrics: options.metrics,
            hosts: options.hosts,
            grpc: true,
            forms: None,
            body: BodyLimits::default(),
            limits: RouteLimits {
                default: Some(CALL_LIMIT),
                // Streams that last as long as their clients want.
                prefixes: vec![
                    ("/grpc.health.v1.Health/Watch", None),
                    ("/grpc.reflection.", None),
                ],
            },
        };
        let tasks = [
            tokio::spawn(ping(directory.clone(), options.health.clone())),
            tokio::spawn(mirror(options.health, reporter)),
        ];
        Ok(Self {
            app: chain.layer(routes.routes().into_axum_router().merge(operations)),
            directory,
            metrics,
            _tasks: tasks.map(AbortOnDropHandle::new),
        })
    }

    /// What a listener serves.
    pub fn app(&self) -> Chained<Router> {
        self.app.clone()
    }

    /// What callers in the same process call, for as long as `outbound` allows.
    pub fn local(&self, outbound: &Outbound) -> LocalUsers {
        LocalUsers {
            directory: self.directory.clone(),
            calls: LocalCalls::new(self.metrics.clone(), outbound.clone()),
        }
    }

    /// Lets go of the database, after the last request.
    pub async fn close(self) {
        self.directory.database().close().await;
    }
}

/// What reflection tells of. Clients of 2023 and before ask for `v1alpha`, newer ones for `v1`.
fn described() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(catena_api::SERVICES)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Keeps the check of the database.
async fn ping(directory: Directory, health: Health) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let state = directory.database().ping().await;
        // The causes stay in the log; what is ready is asked by anyone.
        health.set(DATABASE, state.map_err(|error| error.message().to_owned()));
    }
}

/// Tells gRPC's health what `/readyz` says.
async fn mirror(health: Health, reporter: HealthReporter) {
    let mut checks = health.subscribe();
    loop {
        let ready = checks.borrow_and_update().values().all(Option::is_none);
        if ready {
            reporter.set_serving::<UserServiceServer<Directory>>().await;
            reporter.set_serving::<UsersServer<Directory>>().await;
            reporter
                .set_service_status("", tonic_health::ServingStatus::Serving)
                .await;
        } else {
            reporter
                .set_not_serving::<UserServiceServer<Directory>>()
                .await;
            reporter.set_not_serving::<UsersServer<Directory>>().await;
            reporter
                .set_service_status("", tonic_health::ServingStatus::NotServing)
                .await;
        }
        if checks.changed().await.is_err() {
            return;
        }
    }
}
