//! How connections and processes end: grace for what is in flight, and for streams.

use std::time::Duration;

use catena_api::example::{UserRequest, user_service_client::UserServiceClient};
use catena_middleware::{lifecycle, serve::ConnectionLimits};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::{
    v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    },
    v1alpha::{
        self, server_reflection_request::MessageRequest as OldRequest,
        server_reflection_response::MessageResponse as OldResponse,
    },
};

use crate::{
    stand::{Stand, Wish},
    wire::{Client, VERSIONS},
};

/// What is in flight is answered, and nobody new is let in.
#[tokio::test]
async fn a_listener_that_is_stopped_finishes_what_it_has() {
    for version in VERSIONS {
        let stand = Stand::start(Wish::default()).await;
        let address = stand.address();
        let mut client = Client::connect(version, address).await;
        let request = client.request("GET", "/trouble/gate", &[], "");
        let answer = tokio::spawn(async move { client.try_send(request).await });
        framework::wait_until(
            "the request is there",
            Duration::from_secs(20),
            async || {
                let mut other = Client::connect(version, address).await;
                let metrics = other.ask("GET", "/metrics", None).await.body;
                metrics
                    .contains("catena_requests_in_flight{protocol=\"http\"} 2")
                    .then_some(())
            },
        )
        .await
        .unwrap();
        let gate = stand.gate.clone();
        let open_when_closed = async {
            framework::wait_until("nobody is let in", Duration::from_secs(20), async || {
                TcpStream::connect(address).await.err()
            })
            .await
            .unwrap();
            gate.notify_one();
        };
        let listeners = vec![stand.rest, stand.grpc];
        let leaving =
            lifecycle::depart(&stand.health, async {}, Duration::ZERO, async {}, listeners);
        tokio::join!(leaving, open_when_closed);
        assert_eq!(answer.await.unwrap().unwrap().status, 200, "{version:?}");
        stand.user.close().await;
    }
}

/// A13 of the article: a write timeout of 30 s ends every stream. Ours counts from the last byte taken, and a route may have no
/// deadline: a watch of gRPC's health outlives both limits many times.
#[tokio::test]
async fn a13_a_stream_outlives_the_limits_of_requests() {
    let mut wish = Wish::default();
    let idle = Duration::from_secs(1);
    wish.connections = ConnectionLimits {
        idle,
        write_idle: Duration::from_millis(50),
        ..ConnectionLimits::GRPC
    };
    let limits = wish.connections;
    let stand = Stand::start(wish).await;
    let listener = crate::stand::loopback().await;
    let grpc = catena_middleware::serve::serve(listener, stand.user.app(), limits).unwrap();
    let mut client = HealthClient::new(crate::stand::channel(grpc.address()));
    let mut watch = client
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        watch.next().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    tokio::time::sleep(3 * idle).await;
    stand
        .health
        .set("registration", Err("lease lost".to_owned()));
    assert_eq!(
        watch.next().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
}

/// A22 of the article: no shutdown, health, reflection or deadline. Shutdown and deadline are above and beside this.
#[tokio::test]
async fn a22_the_service_has_health_and_reflection() {
    let stand = Stand::start(Wish::default()).await;
    let mut health = HealthClient::new(stand.channel());
    for service in ["", "example.UserService", "catena.user.v1.Users"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        // Health follows readiness in a task of its own.
        framework::wait_until(service, Duration::from_secs(20), async || {
            let answer = health.check(request.clone()).await.ok()?.into_inner();
            (answer.status() == ServingStatus::Serving).then_some(())
        })
        .await
        .unwrap();
    }
    let mut reflection = ServerReflectionClient::new(stand.channel());
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut answers = reflection
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in [
        "example.UserService",
        "catena.user.v1.Users",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(
            names.iter().any(|found| found == name),
            "{name} in {names:?}"
        );
    }
    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(OldRequest::FileContainingSymbol(
            "example.UserService".to_owned(),
        )),
        ..v1alpha::ServerReflectionRequest::default()
    };
    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(stand.channel());
    let answers = old
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap();
    let answer = answers.into_inner().next().await.unwrap().unwrap();
    assert!(matches!(
        answer.message_response,
        Some(OldResponse::FileDescriptorResponse(_))
    ));
    let mut client = UserServiceClient::new(stand.channel());
    let missing = client
        .get_user(UserRequest {
            user_id: String::new(),
        })
        .await
        .unwrap_err();
    assert_eq!(missing.code(), tonic::Code::InvalidArgument);
}
