//! Deadlines, from the edge to the database.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::body::Body;
use catena_api::example::{UserRequest, user_service_client::UserServiceClient};
use catena_gateway::{Gateway, GatewayOptions, UserCalls};
use catena_middleware::{
    Error, Health, Outbound, RouteLimits,
    admit::{body::BodyLimits, host::Hosts},
    observe::RequestMetrics,
};
use catena_telemetry::metrics::Registry;
use framework::wait_until;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Request, header::HeaderValue};
use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};

use crate::{
    stand::{Stand, Way, Wish},
    wire::{Client, Version},
};

/// What a client waits for.
const PATIENCE: Duration = Duration::from_millis(300);

/// A bound against hangs, and the time of requests that are not to be late.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// `CreateUserRequest{name: "a", email: "a@b.c"}` as gRPC frames it.
const ALICE: &str = "\0\0\0\0\n\n\u{1}a\u{12}\u{5}a@b.c";

/// Another program holds the database's only lock for writing.
async fn lock(stand: &Stand) -> SqliteConnection {
    let url = format!(
        "sqlite:{}",
        stand.directory.path().join("users.db").display()
    );
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    other
}

async fn unlock(mut other: SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
}

/// Asks until the answer is one of these. A busy disk may take longer than a request has: that is no failure of what is tested.
async fn settles(client: &mut Client, (method, body): (&str, Option<&str>), wanted: &[u16]) {
    let path = if method == "GET" { "/user/7" } else { "/users" };
    wait_until("the database answers in time", ENDS_WITHIN, async || {
        let answer = client.ask(method, path, body).await;
        let late = matches!(answer.status, 503 | 504);
        assert!(late || wanted.contains(&answer.status), "{answer:?}");
        (!late).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_write_that_waits_for_the_database_ends_with_its_request() {
    for way in [Way::Local, Way::Channel] {
        let stand = Stand::start(Wish {
            way,
            ..Wish::default()
        })
        .await;
        let other = lock(&stand).await;
        let mut client = Client::connect(Version::Http1, stand.address()).await;
        let body = json!({"name": "a", "email": "a@b.c"}).to_string();
        let timeout = PATIENCE.as_millis().to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-request-timeout-ms", timeout.as_str()),
        ];
        let began = Instant::now();
        let late = client.ask_with("POST", "/users", &headers, &body).await;
        assert_eq!(
            (late.status, late.reason().as_str()),
            (504, "DEADLINE_EXCEEDED")
        );
        assert!(began.elapsed() >= PATIENCE / 2);
        // Readers do not wait for a writer.
        settles(&mut client, ("GET", None), &[404]).await;
        unlock(other).await;
        // The writer is free. What has become of the late write is not known, only that it is over.
        settles(&mut client, ("POST", Some(&body)), &[201, 409]).await;
    }
}

#[tokio::test]
async fn over_grpc_it_is_deadline_exceeded_and_not_cancelled() {
    let stand = Stand::start(Wish::default()).await;
    let other = lock(&stand).await;
    // By hand: tonic's channel has a clock of its own, which answers `Cancelled`.
    let mut client = Client::connect(Version::Http2, stand.grpc.address()).await;
    let create = "/catena.user.v1.Users/Create";
    let headers = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "300m"),
    ];
    let late = client.ask_with("POST", create, &headers, ALICE).await;
    assert_eq!(
        (late.status, &late.headers["grpc-status"]),
        (200, &HeaderValue::from(4))
    );
    let headers = [
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "0m"),
    ];
    let spent = client.ask_with("POST", create, &headers, ALICE).await;
    assert_eq!(
        (spent.status, &spent.headers["grpc-status"]),
        (200, &HeaderValue::from(4))
    );
    unlock(other).await;
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let stand = Stand::start(Wish::default()).await;
    let mut client = UserServiceClient::new(stand.channel());
    for text in ["soon", "5", "123456789S", "-1S"] {
        let mut request = tonic::Request::new(UserRequest {
            user_id: "1".to_owned(),
        });
        request
            .metadata_mut()
            .insert("grpc-timeout", text.parse().unwrap());
        let status = client.get_user(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{text}");
        assert_eq!(Error::from(status).reason(), "DEADLINE_MALFORMED", "{text}");
    }
}

/// A gateway before a service that only notes how it is called.
fn noting(noted: Arc<Mutex<Option<HeaderMap>>>) -> Gateway {
    let service = service_fn(move |request: Request<tonic::body::Body>| {
        *noted.lock().unwrap() = Some(request.headers().clone());
        async {
            Ok::<_, std::convert::Infallible>(
                Status::not_found("nobody").into_http::<tonic::body::Body>(),
            )
        }
    });
    let registry = Arc::new(Registry::new().unwrap());
    Gateway::new(GatewayOptions {
        users: UserCalls::over(Outbound::new(ENDS_WITHIN).transport(service)),
        more: axum::Router::new(),
        hosts: Hosts::Any,
        body: BodyLimits::default(),
        limits: RouteLimits {
            default: Some(ENDS_WITHIN),
            prefixes: Vec::new(),
        },
        health: Health::new(),
        metrics: Arc::new(RequestMetrics::register(&registry).unwrap()),
        registry,
    })
}

#[tokio::test]
async fn what_is_left_goes_on_with_trace_and_language() {
    let noted = Arc::new(Mutex::new(None));
    let id = "0af7651916cd43dd8448eb211c80319c";
    let request = Request::get("http://localhost/user/1")
        .header("x-request-timeout-ms", "30000")
        .header("traceparent", format!("00-{id}-b7ad6b7169203331-01"))
        .header("accept-language", "en")
        .body(Body::empty());
    let response = noting(noted.clone())
        .app()
        .oneshot(request.unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), 404);
    response.into_body().collect().await.unwrap();
    let headers = noted.lock().unwrap().take().unwrap();
    let timeout = headers["grpc-timeout"].to_str().unwrap();
    let micros: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1..=29_995_000).contains(&micros), "{timeout}");
    let parent = headers["traceparent"].to_str().unwrap();
    assert!(
        parent.contains(id) && !parent.contains("b7ad6b7169203331"),
        "{parent}"
    );
    assert_eq!(headers["accept-language"], "en");
}
