//! The configuration centre over HTTP, in the whole gateway but without a socket.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use catena_gateway::{Gateway, GatewayOptions, UserCalls, config_api, nacos};
use catena_middleware::{
    Health, Outbound, RouteLimits,
    admit::{body::BodyLimits, host::Hosts},
    chain::Chained,
    observe::RequestMetrics,
};
use catena_registry::config::{ConfigCenter, DocumentName, Expect};
use catena_telemetry::metrics::Registry;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tower::ServiceExt;

use crate::{
    cases,
    config::rate,
    ground::{Case, Ground, PATIENCE},
};

pub(crate) const CASES: &[Case] = cases![
    documents_are_published_by_condition,
    versions_are_listed_compared_and_brought_back,
    a_long_poll_ends_with_a_publication_or_unchanged,
    gray_documents_are_set_promoted_and_taken_back,
    what_breaks_a_schema_is_named,
    no_web_page_reaches_it,
];

/// The API over a case's store.
pub(crate) struct Api {
    pub(crate) gateway: Chained<Router>,
    pub(crate) center: ConfigCenter,
    pub(crate) closing: CancellationToken,
    /// `/v1/config/{ns}/user`.
    pub(crate) app: String,
    pub(crate) name: DocumentName,
}

/// The gateway around the API. Nobody here calls the service behind it.
pub(crate) fn gateway(more: Router) -> Result<Chained<Router>> {
    let registry = Arc::new(Registry::new()?);
    let metrics = Arc::new(RequestMetrics::register(&registry)?);
    let nobody = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
    let gateway = Gateway::new(GatewayOptions {
        users: UserCalls::over(Outbound::default().transport(nobody)),
        more,
        hosts: Hosts::Loopback(Vec::new()),
        body: BodyLimits::default(),
        limits: RouteLimits {
            prefixes: vec![(config_api::PREFIX, None), (nacos::PREFIX, None)],
            ..RouteLimits::default()
        },
        health: Health::new(),
        registry,
        metrics,
    });
    Ok(gateway.app())
}

impl Api {
    pub(crate) fn new(ground: &Ground) -> Result<Self> {
        let center = ConfigCenter::new(ground.kv.clone());
        let closing = CancellationToken::new();
        Ok(Self {
            gateway: gateway(config_api::router(center.clone(), closing.clone()))?,
            center,
            closing,
            app: format!("/v1/config/{}/user", ground.namespace()),
            name: DocumentName::new(ground.namespace(), "user", "main.toml")?,
        })
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.app));
        let given = |name: &str| headers.iter().any(|(given, _)| *given == name);
        if !given("host") {
            request = request.header("host", "127.0.0.1:8080");
        }
        if body.is_some() && !given("content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        let answered = self.gateway.clone().oneshot(request.body(body)?);
        Ok(timeout(PATIENCE, answered).await??)
    }

    /// Status, entity tag and the envelope, or null where there is no body.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<(u16, String, Value)> {
        let response = self.send(method, path, headers, body).await?;
        let status = response.status().as_u16();
        let tag = response.headers().get("etag");
        let tag = tag.map(|tag| tag.to_str().map(str::to_owned));
        let tag = tag.transpose()?.unwrap_or_default();
        let bytes = response.into_body().collect().await?.to_bytes();
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes)?,
        };
        Ok((status, tag, body))
    }

    pub(crate) async fn publish(&self, n: u64) -> Result<()> {
        self.center
            .publish(&self.name, rate(n), Expect::Any)
            .await?;
        Ok(())
    }
}

fn content(text: &str) -> Option<Value> {
    Some(json!({"content": text, "author": "ops", "comment": "why"}))
}

async fn documents_are_published_by_condition(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    let (status, _, body) = api.call("GET", "/main.toml", &[], None).await?;
    ensure!(
        (status, &body["reason"]) == (404, &json!("CONFIG_NOT_FOUND")),
        "{body}"
    );
    let (status, ..) = api.call("PUT", "/main.toml", &[], content("a = 1")).await?;
    ensure!(status == 428);
    let absent = [("if-none-match", "*")];
    let (status, tag, body) = api
        .call("PUT", "/main.toml", &absent, content("a = 1"))
        .await?;
    ensure!((status, &*tag) == (200, "\"1\""), "{body}");
    let (status, tag, body) = api
        .call("PUT", "/main.toml", &absent, content("a = 2"))
        .await?;
    ensure!((status, &*tag) == (412, "\"1\""), "{body}");
    ensure!(
        body["reason"] == "CONFIG_CONFLICT" && body["data"].is_null(),
        "{body}"
    );
    let first = [("if-match", "\"1\"")];
    let (status, tag, _) = api
        .call("PUT", "/main.toml", &first, content("a = 2"))
        .await?;
    ensure!((status, &*tag) == (200, "\"2\""));
    let (status, tag, _) = api
        .call("PUT", "/main.toml", &first, content("a = 3"))
        .await?;
    ensure!((status, &*tag) == (412, "\"2\""));
    let (status, tag, body) = api.call("GET", "/main.toml", &[], None).await?;
    ensure!((status, &*tag) == (200, "\"2\""));
    ensure!(
        body["code"] == 200 && body["message"] == "success",
        "{body}"
    );
    let data = &body["data"];
    ensure!(
        data["content"] == "a = 2" && data["version"] == 2 && data["format"] == "toml",
        "{data}"
    );
    ensure!(
        data["author"] == "ops" && data["comment"] == "why",
        "{data}"
    );
    let second = [("if-none-match", "\"2\"")];
    let (status, tag, body) = api.call("GET", "/main.toml", &second, None).await?;
    ensure!((status, &*tag, body) == (304, "\"2\"", Value::Null));
    let (status, _, body) = api.call("GET", "", &[], None).await?;
    ensure!(
        status == 200 && body["data"]["main.toml"]["version"] == 2,
        "{body}"
    );
    let (status, _, body) = api.call("GET", "/Main", &[], None).await?;
    ensure!(
        (status, &body["reason"]) == (400, &json!("BAD_NAME")),
        "{body}"
    );
    let extra = Some(json!({"content": "a = 1", "colour": "red"}));
    let (status, _, body) = api.call("PUT", "/main.toml", &first, extra).await?;
    ensure!(status == 400, "{body}");
    Ok(())
}

async fn versions_are_listed_compared_and_brought_back(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    for n in 1..=3 {
        api.publish(n).await?;
    }
    let (_, _, body) = api.call("GET", "/main.toml/history", &[], None).await?;
    let versions: Vec<_> = body["data"].as_array().context("a list")?.iter().collect();
    ensure!(versions.len() == 3 && versions[0]["version"] == 3, "{body}");
    let (_, _, body) = api.call("GET", "/main.toml/history/1", &[], None).await?;
    ensure!(body["data"]["content"] == "[limits]\nrate = 1\n", "{body}");
    let (_, _, body) = api
        .call("GET", "/main.toml/diff?from=1&to=3", &[], None)
        .await?;
    let expected = json!([{"path": "limits.rate", "before": 1, "after": 3}]);
    ensure!(body["data"] == expected, "{body}");
    let back = |to: u64| Some(json!({ "to": to }));
    let stale = [("if-match", "\"2\"")];
    let (status, ..) = api
        .call("POST", "/main.toml/rollback", &stale, back(1))
        .await?;
    ensure!(status == 412);
    let (status, tag, _) = api
        .call("POST", "/main.toml/rollback", &[], back(1))
        .await?;
    ensure!((status, &*tag) == (200, "\"4\""));
    let (status, ..) = api
        .call("POST", "/main.toml/rollback", &[], back(99))
        .await?;
    ensure!(status == 404);
    let (_, _, body) = api.call("GET", "/listeners", &[], None).await?;
    ensure!(body["data"] == json!({}), "{body}");
    Ok(())
}

async fn a_long_poll_ends_with_a_publication_or_unchanged(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    api.publish(1).await?;
    let poll = |wait: &str, version: u64| format!("/main.toml?wait={wait}&version={version}");
    let (status, tag, _) = api.call("GET", &poll("20s", 9), &[], None).await?;
    ensure!(
        (status, &*tag) == (200, "\"1\""),
        "another version is answered at once"
    );
    let (status, tag, _) = api.call("GET", &poll("50ms", 1), &[], None).await?;
    ensure!((status, &*tag) == (304, "\"1\""));
    let path = poll("60s", 1);
    let (waited, published) = tokio::join!(api.call("GET", &path, &[], None), api.publish(2));
    published?;
    let (status, tag, body) = waited?;
    ensure!((status, &*tag) == (200, "\"2\""), "{body}");
    let path = poll("60s", 2);
    let close = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        api.closing.cancel();
    };
    let (waited, ()) = tokio::join!(api.call("GET", &path, &[], None), close);
    ensure!(waited?.0 == 304, "who leaves lets nobody wait");
    let (status, ..) = api.call("GET", "/main.toml?wait=1s", &[], None).await?;
    ensure!(status == 400);
    Ok(())
}

/// Reads events until there are as many as wanted: id, event and data of each.
pub(crate) async fn events(body: &mut Body, wanted: usize) -> Result<Vec<(i64, String, Value)>> {
    let mut text = String::new();
    let mut found = Vec::new();
    while found.len() < wanted {
        let frame = timeout(PATIENCE, body.frame())
            .await?
            .context("the stream goes on")??;
        text.push_str(std::str::from_utf8(frame.data_ref().context("data")?)?);
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| {
                let mut lines = event.lines();
                lines.find_map(|line| {
                    line.strip_prefix(name)?
                        .strip_prefix(": ")
                        .map(str::to_owned)
                })
            };
            if let (Some(id), Some(kind), Some(data)) = (field("id"), field("event"), field("data"))
            {
                found.push((id.parse()?, kind, serde_json::from_str(&data)?));
            }
            text = rest.to_owned();
        }
    }
    Ok(found)
}

pub(crate) async fn events_go_on_where_the_client_left(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    api.publish(1).await?;
    let response = api.send("GET", "/events", &[], None).await?;
    ensure!(response.headers()["content-type"] == "text/event-stream");
    let mut body = response.into_body();
    let first = events(&mut body, 1).await?;
    ensure!(
        first[0].1 == "documents" && first[0].2["main.toml"]["version"] == 1,
        "{first:?}"
    );
    for n in 2..=4 {
        api.publish(n).await?;
    }
    let told = events(&mut body, 3).await?;
    let versions: Vec<_> = told
        .iter()
        .map(|(_, _, data)| data["version"].clone())
        .collect();
    ensure!(versions == [json!(2), json!(3), json!(4)], "{told:?}");
    ensure!(
        told[0].1 == "published" && told[0].2["doc"] == "main.toml",
        "{told:?}"
    );
    ensure!(told[0].2.get("content").is_none(), "values are not told");
    drop(body);
    api.publish(5).await?;
    let last = told[1].0.to_string();
    let response = api
        .send("GET", "/events", &[("last-event-id", &last)], None)
        .await?;
    let mut body = response.into_body();
    let told = events(&mut body, 2).await?;
    let versions: Vec<_> = told
        .iter()
        .map(|(_, _, data)| data["version"].clone())
        .collect();
    ensure!(versions == [json!(4), json!(5)], "{told:?}");
    api.closing.cancel();
    let end = timeout(PATIENCE, async { while body.frame().await.is_some() {} });
    end.await.context("who leaves ends streams")?;
    Ok(())
}

async fn gray_documents_are_set_promoted_and_taken_back(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    api.publish(1).await?;
    let rule = |name: &str, percent: u64| {
        Some(
            json!({"rule": name, "match": {"percent": percent}, "content": "[limits]\nrate = 9\n"}),
        )
    };
    let (status, _, body) = api
        .call("POST", "/main.toml/gray", &[], rule("tenth", 10))
        .await?;
    ensure!(status == 200, "{body}");
    let (status, _, body) = api
        .call("POST", "/main.toml/gray", &[], rule("tenth", 101))
        .await?;
    ensure!(
        (status, &body["details"][0]["field"]) == (422, &json!("match.percent")),
        "{body}"
    );
    let (_, _, body) = api.call("GET", "/main.toml/gray", &[], None).await?;
    ensure!(body["data"]["tenth"]["match"]["percent"] == 10.0, "{body}");
    let promoted = api.call(
        "POST",
        "/main.toml/gray/tenth/promote",
        &[],
        Some(json!({})),
    );
    let (status, tag, _) = promoted.await?;
    ensure!((status, &*tag) == (200, "\"2\""));
    let (status, ..) = api
        .call("DELETE", "/main.toml/gray/tenth", &[], None)
        .await?;
    ensure!(status == 404, "promoting takes the rule away");
    api.call("POST", "/main.toml/gray", &[], rule("half", 50))
        .await?;
    let (status, ..) = api
        .call("DELETE", "/main.toml/gray/half", &[], None)
        .await?;
    ensure!(status == 200);
    Ok(())
}

async fn what_breaks_a_schema_is_named(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    let schema = json!({"required": ["port"], "properties": {"port": {"type": "integer"}}});
    let (status, _, body) = api
        .call("PUT", "/main.toml/schema", &[], Some(schema))
        .await?;
    ensure!(status == 200, "{body}");
    let any = [("if-none-match", "*")];
    let (status, _, body) = api
        .call("PUT", "/main.toml", &any, content("port = 'hunter2'"))
        .await?;
    ensure!(
        (status, &body["details"][0]["field"]) == (422, &json!("port")),
        "{body}"
    );
    ensure!(!body.to_string().contains("hunter2"), "{body}");
    let (status, _, body) = api
        .call("PUT", "/main.toml", &any, content("port = ?"))
        .await?;
    ensure!(
        (status, &body["reason"]) == (422, &json!("CONFIG_UNREADABLE")),
        "{body}"
    );
    let (status, ..) = api.call("DELETE", "/main.toml/schema", &[], None).await?;
    ensure!(status == 200);
    let (status, ..) = api
        .call("PUT", "/main.toml", &any, content("port = 'a'"))
        .await?;
    ensure!(status == 200);
    Ok(())
}

async fn no_web_page_reaches_it(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    let any = ("if-match", "*");
    let headers = [any, ("host", "evil.example")];
    let (status, ..) = api
        .call("PUT", "/main.toml", &headers, content("a = 1"))
        .await?;
    ensure!(status == 421, "{status}");
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = [any, ("content-type", kind)];
        let (status, ..) = api
            .call("PUT", "/main.toml", &headers, content("a = 1"))
            .await?;
        ensure!(status == 415, "{kind}: {status}");
    }
    let (status, ..) = api.call("GET", "/main.toml", &[], None).await?;
    ensure!(status == 404, "nothing was published");
    // A browser would let such a page read what comes.
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (foreign, refused) in [
        (("origin", "http://evil.example"), 403),
        (("origin", "http://127.0.0.1:3000"), 403),
        (("origin", "null"), 403),
        (("host", "evil.example"), 421),
    ] {
        let headers = [&handshake[..], &[foreign]].concat();
        let (status, _, body) = api.call("GET", "/events", &headers, None).await?;
        ensure!(status == refused, "{foreign:?}: {body}");
    }
    let (status, _, body) = api.call("GET", "/events", &handshake[..2], None).await?;
    ensure!(status == 400, "half a handshake: {body}");
    Ok(())
}
