//! The table of requests: what a stranger may send, and what is answered, the same over HTTP/1.1 and HTTP/2.

use catena_middleware::admit::body::BodyLimits;

use crate::{
    stand::{Stand, Wish},
    wire::{Client, VERSIONS, Version},
};

type Headers = &'static [(&'static str, &'static str)];

/// One row: method, path, headers, body, and the status and reason that answer it.
type Row = (
    &'static str,
    &'static str,
    Headers,
    &'static str,
    u16,
    &'static str,
);

const JSON: Headers = &[("content-type", "application/json")];

const ROWS: &[Row] = &[
    ("GET", "/nowhere", &[], "", 404, "ROUTE_NOT_FOUND"),
    ("GET", "/", &[], "", 404, "ROUTE_NOT_FOUND"),
    ("POST", "/ping", JSON, "{}", 405, "METHOD_NOT_ALLOWED"),
    ("GET", "/users/..", &[], "", 400, "INVALID_PATH"),
    ("GET", "/users/%2e%2E", &[], "", 400, "INVALID_PATH"),
    ("GET", "/users/%zz", &[], "", 400, "INVALID_PATH"),
    ("GET", "/users/%00", &[], "", 400, "INVALID_PATH"),
    ("GET", "/users/%ff", &[], "", 400, "INVALID_PATH"),
    ("GET", "/users/a%2Fb", &[], "", 400, "INVALID_PARAM"),
    ("GET", "/users/abc", &[], "", 400, "INVALID_PARAM"),
    ("GET", "/user/abc", &[], "", 400, "INVALID_PARAM"),
    (
        "GET",
        "/users/9223372036854775808",
        &[],
        "",
        400,
        "INVALID_PARAM",
    ),
    (
        "GET",
        "/users/9223372036854775807",
        &[],
        "",
        404,
        "USER_NOT_FOUND",
    ),
    (
        "GET",
        "/user/9223372036854775807",
        &[],
        "",
        404,
        "USER_NOT_FOUND",
    ),
    ("GET", "/user/%20", &[], "", 400, "VALIDATION_FAILED"),
    ("GET", "/users?limit=x", &[], "", 400, "VALIDATION_FAILED"),
    ("GET", "/users?limit=0", &[], "", 400, "VALIDATION_FAILED"),
    ("GET", "/users?limit=101", &[], "", 400, "VALIDATION_FAILED"),
    (
        "GET",
        "/users?limit=1&limit=2",
        &[],
        "",
        400,
        "DUPLICATE_PARAM",
    ),
    (
        "GET",
        "/users?cursor=nonsense",
        &[],
        "",
        400,
        "INVALID_CURSOR",
    ),
    ("POST", "/users", JSON, "", 400, "BODY_REQUIRED"),
    ("POST", "/users", JSON, "  \n", 400, "BODY_REQUIRED"),
    ("POST", "/users", &[], "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
    (
        "POST",
        "/users",
        &[("content-type", "text/plain")],
        "{}",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    ),
    (
        "POST",
        "/users",
        &[("content-type", "application/x-www-form-urlencoded")],
        "a=1",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    ),
    (
        "POST",
        "/users",
        &[("content-type", "application/json; charset=gbk")],
        "{}",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    ),
    (
        "POST",
        "/users",
        &[
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ],
        "{}",
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    ),
    (
        "POST",
        "/users",
        &[("content-type", "application/grpc")],
        "{}",
        415,
        "",
    ),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\": tru}",
        400,
        "MALFORMED_JSON",
    ),
    ("POST", "/users", JSON, "{} {}", 400, "MALFORMED_JSON"),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":\"a\",\"name\":\"b\"}",
        400,
        "DUPLICATE_FIELD",
    ),
    ("POST", "/users", JSON, "[]", 400, "VALIDATION_FAILED"),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":1,\"email\":2,\"age\":\"x\"}",
        400,
        "VALIDATION_FAILED",
    ),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":\"a\",\"email\":\"a@b.c\",\"age\":1e400}",
        400,
        "VALIDATION_FAILED",
    ),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":\"a\",\"email\":\"a@b.c\",\"age\":18.5}",
        400,
        "VALIDATION_FAILED",
    ),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":\"a\",\"email\":\"a@b.c\",\"age\":-1}",
        400,
        "VALIDATION_FAILED",
    ),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":\"a\",\"email\":\"a@b.c\",\"age\":151}",
        400,
        "VALIDATION_FAILED",
    ),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":\"  \",\"email\":\"a@b.c\"}",
        400,
        "VALIDATION_FAILED",
    ),
    (
        "POST",
        "/users",
        JSON,
        "{\"name\":\"a\",\"email\":\"a@b\"}",
        400,
        "VALIDATION_FAILED",
    ),
    (
        "GET",
        "/ping",
        &[("host", "evil.example")],
        "",
        421,
        "HOST_NOT_ALLOWED",
    ),
    (
        "POST",
        "/users",
        &[
            ("host", "evil.example"),
            ("content-type", "application/json"),
        ],
        "{}",
        421,
        "HOST_NOT_ALLOWED",
    ),
    (
        "GET",
        "/ping",
        &[("x-request-timeout-ms", "soon")],
        "",
        400,
        "DEADLINE_MALFORMED",
    ),
    (
        "GET",
        "/ping",
        &[("x-request-timeout-ms", "0")],
        "",
        504,
        "DEADLINE_EXCEEDED",
    ),
    (
        "GET",
        "/trouble/slow",
        &[("x-request-timeout-ms", "30")],
        "",
        504,
        "DEADLINE_EXCEEDED",
    ),
    ("GET", "/trouble/panic", &[], "", 500, "INTERNAL"),
];

#[tokio::test]
async fn every_row_is_answered_as_it_says() {
    let stand = Stand::start(Wish::default()).await;
    for version in VERSIONS {
        let mut client = Client::connect(version, stand.address()).await;
        for (method, path, headers, body, status, reason) in ROWS {
            let answer = client.ask_with(method, path, headers, body).await;
            let row = format!("{version:?} {method} {path} {headers:?} {body}: {answer:?}");
            assert_eq!(answer.headers["x-trace-id"].len(), 32, "{row}");
            if reason.is_empty() {
                // gRPC is refused as gRPC: with a status of its own under HTTP's 200.
                assert_eq!(answer.headers["grpc-status"], "3", "{row}");
                continue;
            }
            assert_eq!(
                (answer.status, answer.reason().as_str()),
                (*status, *reason),
                "{row}"
            );
            let json = answer.json();
            assert_eq!(json["code"], *status, "{row}");
            assert!(json["data"].is_null(), "{row}");
            assert_eq!(
                json["trace_id"],
                answer.headers["x-trace-id"].to_str().unwrap(),
                "{row}"
            );
            assert!(!answer.body.contains("secret"), "{row}");
        }
        // The same connection has lived through all of it.
        assert_eq!(client.ask("GET", "/ping", None).await.status, 200);
    }
}

#[tokio::test]
async fn methods_are_told_and_heads_have_no_body() {
    let stand = Stand::start(Wish::default()).await;
    for version in VERSIONS {
        let mut client = Client::connect(version, stand.address()).await;
        let refused = client.ask("PUT", "/users", Some("{}")).await;
        let allowed = refused.headers["allow"].to_str().unwrap().to_owned();
        assert!(
            allowed.contains("GET") && allowed.contains("POST"),
            "{allowed}"
        );
        let options = client.ask("OPTIONS", "/users", None).await;
        assert_eq!((options.status, options.body.as_str()), (204, ""));
        assert!(options.headers.contains_key("allow"));
        assert!(
            !options
                .headers
                .keys()
                .any(|name| name.as_str().starts_with("access-control"))
        );
        let head = client.ask("HEAD", "/ping", None).await;
        assert_eq!((head.status, head.body.as_str()), (200, ""));
    }
}

#[tokio::test]
async fn a_wrong_last_slash_is_a_redirect() {
    let stand = Stand::start(Wish::default()).await;
    for version in VERSIONS {
        let mut client = Client::connect(version, stand.address()).await;
        let read = client.ask("GET", "/users/?limit=5", None).await;
        assert_eq!(
            (read.status, read.headers["location"].to_str().unwrap()),
            (301, "/users?limit=5")
        );
        let write = client.ask("POST", "/users/", Some("{}")).await;
        assert_eq!(
            (write.status, write.headers["location"].to_str().unwrap()),
            (307, "/users")
        );
    }
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    const BODY_BYTES_MAX: u64 = 1000;
    let body = BodyLimits {
        bytes_max: BODY_BYTES_MAX,
        ..BodyLimits::default()
    };
    let stand = Stand::start(Wish {
        body,
        ..Wish::default()
    })
    .await;
    for version in VERSIONS {
        let mut client = Client::connect(version, stand.address()).await;
        let path = format!("/{}", "a".repeat(8 << 10));
        assert_eq!(
            client.ask("GET", &path, None).await.reason(),
            "URI_TOO_LONG"
        );

        let mut client = Client::connect(version, stand.address()).await;
        let long = "a".repeat(17 << 10);
        let answer = client
            .ask_with("GET", "/ping", &[("x-long", &long)], "")
            .await;
        assert_eq!(answer.status, 431);

        // Small enough to be there before the answer: what is longer may meet a closed door.
        let body = format!("{{\"name\":\"{}\"}}", "a".repeat(BODY_BYTES_MAX as usize));
        let mut client = Client::connect(version, stand.address()).await;
        let answer = client.ask("POST", "/users", Some(&body)).await;
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (413, "BODY_TOO_LARGE")
        );
    }
}

#[tokio::test]
async fn every_field_that_fails_is_named_in_the_language_asked_for() {
    let stand = Stand::start(Wish::default()).await;
    for version in VERSIONS {
        let mut client = Client::connect(version, stand.address()).await;
        let body = r#"{"name":"  ","email":"nobody","age":151}"#;
        let zh = client.ask("POST", "/users", Some(body)).await;
        let pairs = [("name", "not_blank"), ("email", "email"), ("age", "lte")];
        let pairs = pairs.map(|(field, rule)| (field.to_owned(), rule.to_owned()));
        assert_eq!(zh.details(), pairs);
        assert_eq!(zh.json()["details"][0]["message"], "用户名不能为空");
        assert_eq!(zh.json()["message"], "参数校验失败");
        let headers = [
            ("content-type", "application/json"),
            ("accept-language", "en-GB,zh;q=0.5"),
        ];
        let en = client.ask_with("POST", "/users", &headers, body).await;
        assert_eq!(en.details(), pairs);
        assert_eq!(en.json()["details"][0]["message"], "name must not be blank");
        assert_eq!(en.json()["message"], "validation failed");
        let mixed = client.ask("POST", "/users", Some(r#"{"age":"x"}"#)).await;
        let rules: Vec<_> = mixed
            .details()
            .into_iter()
            .map(|(field, rule)| field + ":" + &rule)
            .collect();
        assert_eq!(rules, ["name:required", "email:required", "age:integer"]);
    }
}

#[tokio::test]
async fn a_trace_goes_through() {
    let stand = Stand::start(Wish::default()).await;
    let id = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{id}-b7ad6b7169203331-01");
    for version in VERSIONS {
        let mut client = Client::connect(version, stand.address()).await;
        for path in ["/ping", "/user/1", "/nowhere"] {
            let answer = client
                .ask_with("GET", path, &[("traceparent", &parent)], "")
                .await;
            assert_eq!(answer.headers["x-trace-id"], id, "{path}");
        }
    }
}

#[tokio::test]
async fn operations_tell_what_was_done() {
    let stand = Stand::start(Wish::default()).await;
    let mut client = Client::connect(crate::wire::Version::Http1, stand.address()).await;
    assert_eq!(client.ask("GET", "/healthz", None).await.status, 200);
    let ready = client.ask("GET", "/readyz", None).await;
    assert_eq!(
        (ready.status, ready.json()["checks"]["database"].as_str()),
        (200, Some("ok"))
    );
    client.ask("GET", "/trouble/panic", None).await;
    client.ask("GET", "/nowhere", None).await;
    client.ask("GET", "/user/7", None).await;
    stand
        .health
        .set("registration", Err("lease lost".to_owned()));
    assert_eq!(client.ask("GET", "/readyz", None).await.status, 503);
    let metrics = client.ask("GET", "/metrics", None).await.body;
    for line in [
        r#"catena_requests_total{method="GET",protocol="http",route="/trouble/panic",status="500"} 1"#,
        r#"catena_requests_total{method="GET",protocol="http",route="unmatched",status="404"} 1"#,
        // The gateway's, and the service's in the same process.
        r#"catena_requests_total{method="GET",protocol="http",route="/user/{id}",status="404"} 1"#,
        r#"catena_requests_total{method="POST",protocol="grpc",route="example.UserService/GetUser",status="404"} 1"#,
        r#"catena_requests_in_flight{protocol="grpc"} 0"#,
        "catena_request_panics_total 1",
        r#"catena_requests_in_flight{protocol="http"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in {metrics}"
        );
    }
}

/// A stream runs when its handler has long returned: its panic breaks its own answer, and the process serves on.
#[tokio::test]
async fn a_stream_that_panics_breaks_its_own_answer() {
    for version in VERSIONS {
        let stand = Stand::start(Wish::default()).await;
        let mut client = Client::connect(version, stand.address()).await;
        let request = client.request("GET", "/trouble/stream", &[], "");
        assert!(client.try_send(request).await.is_err(), "{version:?}");
        let mut other = Client::connect(version, stand.address()).await;
        let metrics = other.ask("GET", "/metrics", None).await.body;
        assert!(
            metrics.contains("catena_request_panics_total 1\n"),
            "{metrics}"
        );
    }
}

/// Who asks a plain route for another protocol gets what the route has, on a connection that goes on; a page of another origin does not.
#[tokio::test]
async fn an_upgrade_that_nobody_offers_is_passed_over() {
    let stand = Stand::start(Wish::default()).await;
    let mut client = Client::connect(Version::Http1, stand.address()).await;
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for _ in 0..2 {
        let answer = client.ask_with("GET", "/ping", &handshake, "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let foreign = [&handshake[..], &[("origin", "http://evil.example")]].concat();
    let refused = client.ask_with("GET", "/ping", &foreign, "").await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (403, "ORIGIN_NOT_ALLOWED")
    );
    assert_eq!(client.ask("GET", "/ping", None).await.status, 200);
}
