//! Service `grpc.health.v1.Health`.

use std::sync::Arc;

use catena_api::etcd::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};
use futures_util::{StreamExt, stream, stream::BoxStream};
use tonic::{Request, Response, Status};

use crate::server::Server;

/// Handlers of the service.
#[derive(Clone)]
pub(crate) struct HealthService(pub(crate) Arc<Server>);

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if request.into_inner().service.is_empty() {
            Ok(Response::new(answer(ServingStatus::Serving)))
        } else {
            Err(Status::not_found("unknown service"))
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = request.into_inner().service.is_empty();
        let now = if known {
            ServingStatus::Serving
        } else {
            ServingStatus::ServiceUnknown
        };
        let stopping = self.0.stopping.clone();
        let end = async move {
            stopping.cancelled().await;
            Ok(answer(ServingStatus::NotServing))
        };
        let first = stream::iter([Ok(answer(now))]);
        Ok(Response::new(first.chain(stream::once(end)).boxed()))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}
