//! Service Health.

use catena_api::etcd::health::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic::Code;

use crate::one::{One, assert_error, in_time};

fn service(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn the_member_is_serving_and_nothing_else_is_known() {
    let one = One::start().await;
    let healthy = one.health().check(service("")).await.unwrap().into_inner();
    assert_eq!(healthy.status(), ServingStatus::Serving);
    let unknown = one.health().check(service("other")).await;
    assert_error(unknown, Code::NotFound, "unknown service");
    let mut watched = one.health().watch(service("")).await.unwrap().into_inner();
    let first = in_time(watched.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
}
