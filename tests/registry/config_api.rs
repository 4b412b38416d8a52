//! The configuration centre over HTTP, in the whole gateway but without a socket.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use catena_client::{
    Kv,
    pb::TxnRequest,
    request::{self, Operation},
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
    switch::Switch,
};

pub(crate) const CASES: &[Case] = cases![
    documents_are_published_by_condition,
    documents_are_deleted_by_condition,
    versions_are_listed_compared_and_brought_back,
    a_long_poll_ends_with_a_publication_or_unchanged,
    gray_documents_are_set_promoted_and_taken_back,
    what_breaks_a_schema_is_named,
    what_is_no_id_of_an_event_is_refused,
    no_web_page_reaches_it,
];

/// Documents that are published in one transaction.
pub(crate) const TOGETHER: [&str; 2] = ["one.toml", "two.toml"];

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
        Self::over(ground, ground.kv.clone())
    }

    /// The API over another way to the case's store.
    fn over(ground: &Ground, kv: Arc<dyn Kv>) -> Result<Self> {
        let center = ConfigCenter::new(kv);
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

    /// Publishes two documents, and then both once more in one transaction as somebody's own program can; gives its revision.
    pub(crate) async fn publish_together(&self, ground: &Ground) -> Result<i64> {
        let mut success = Vec::new();
        for doc in TOGETHER {
            let name = self.name.app().document(doc)?;
            self.center.publish(&name, rate(1), Expect::Any).await?;
            for root in ["config", "config-meta"] {
                let key = format!("/{root}/v1/{}/user/{doc}", ground.namespace());
                let stands = ground.text(&key).await?;
                success.push(request::put(key, stands).op());
            }
        }
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let answer = ground.kv.txn(txn).await?;
        Ok(answer.header.context("a header")?.revision)
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

async fn documents_are_deleted_by_condition(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    let delete = async |condition: &[(&str, &str)]| {
        let (status, tag, body) = api.call("DELETE", "/main.toml", condition, None).await?;
        anyhow::Ok((status, tag, body["reason"].clone()))
    };
    for absent in [("if-match", "*"), ("if-match", "\"1\"")] {
        let (status, _, reason) = delete(&[absent]).await?;
        ensure!((status, &reason) == (404, &json!("CONFIG_NOT_FOUND")));
    }
    api.publish(1).await?;
    api.publish(2).await?;
    ensure!(delete(&[]).await?.0 == 428);
    for other in [("if-match", "\"1\""), ("if-none-match", "*")] {
        let (status, tag, reason) = delete(&[other]).await?;
        ensure!((status, &*tag, &reason) == (412, "\"2\"", &json!("CONFIG_CONFLICT")));
    }
    let (status, ..) = api.call("GET", "/main.toml", &[], None).await?;
    ensure!(status == 200, "it stands until somebody knows it");
    let (status, _, reason) = delete(&[("if-match", "\"2\"")]).await?;
    ensure!((status, &reason) == (204, &Value::Null));
    let (status, ..) = api.call("GET", "/main.toml", &[], None).await?;
    ensure!(status == 404);
    ensure!(delete(&[("if-match", "*")]).await?.0 == 404);
    let (_, _, body) = api.call("GET", "/main.toml/history", &[], None).await?;
    let versions = body["data"].as_array().context("a list")?;
    ensure!(versions.len() == 2, "{body}");
    let absent = [("if-none-match", "*")];
    let (status, tag, _) = api
        .call("PUT", "/main.toml", &absent, content("a = 1"))
        .await?;
    ensure!((status, &*tag) == (200, "\"3\""), "it goes on counting");
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
pub(crate) async fn events(body: &mut Body, wanted: usize) -> Result<Vec<(String, String, Value)>> {
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
                found.push((id, kind, serde_json::from_str(&data)?));
            }
            text = rest.to_owned();
        }
    }
    Ok(found)
}

/// A stream of events after one that was seen.
async fn follow_after(api: &Api, seen: &str) -> Result<Body> {
    let header = [("last-event-id", seen)];
    let response = api.send("GET", "/events", &header, None).await?;
    ensure!(response.status() == 200, "{response:?}");
    Ok(response.into_body())
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
    let last = &told[1].0;
    let mut body = follow_after(&api, last).await?;
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

/// The ids of events, and whose they are, up to the first of `main.toml`.
async fn until_main(body: &mut Body) -> Result<Vec<(String, String)>> {
    let mut told = Vec::new();
    loop {
        for (id, _, data) in events(body, 1).await? {
            let doc = data["doc"].as_str().context("a document")?;
            told.push((id, doc.to_owned()));
        }
        if told.iter().any(|(_, doc)| doc == "main.toml") {
            return Ok(told);
        }
    }
}

pub(crate) async fn a_revision_is_told_whole(ground: &Ground) -> Result<()> {
    let switch = Switch::new(ground.kv.clone());
    let api = Api::over(ground, switch.clone())?;
    let response = api.send("GET", "/events", &[], None).await?;
    let mut body = response.into_body();
    let known = events(&mut body, 1).await?;
    ensure!(known[0].1 == "documents", "{known:?}");
    let revision = api.publish_together(ground).await?;
    let (first, second) = (format!("{revision}.1"), format!("{revision}.2"));
    // Each was published alone before. Then the client leaves between the two.
    let told = events(&mut body, 3).await?;
    ensure!(told[2].0 == first, "{told:?}");
    drop(body);
    api.publish(1).await?;
    let [one, two] = TOGETHER;
    for (seen, expected) in [
        (format!("{revision}.0"), &[one, two, "main.toml"][..]),
        (first.clone(), &[two, "main.toml"]),
        (second.clone(), &["main.toml"]),
        (format!("{revision}.{}", u64::MAX), &["main.toml"]),
        (revision.to_string(), &["main.toml"]),
    ] {
        let told = until_main(&mut follow_after(&api, &seen).await?).await?;
        let docs: Vec<_> = told.iter().map(|(_, doc)| doc).collect();
        ensure!(docs == expected, "after {seen}: {told:?}");
        let second_told = told.iter().find(|(_, doc)| doc == two);
        ensure!(second_told.is_none_or(|(id, _)| *id == second), "{told:?}");
    }

    // What is watched anew behind the client's back is not told again.
    let mut body = follow_after(&api, &first).await?;
    let told = events(&mut body, 1).await?;
    ensure!(told[0].0 == second, "{told:?}");
    switch.cut();
    switch.join(ground.kv.clone());
    for version in 1..=2 {
        let told = events(&mut body, 1).await?;
        ensure!(
            told[0].2["doc"] == "main.toml" && told[0].2["version"] == version,
            "{told:?}"
        );
        api.publish(version + 1).await?;
    }
    Ok(())
}

async fn what_is_no_id_of_an_event_is_refused(ground: &Ground) -> Result<()> {
    let api = Api::new(ground)?;
    for wrong in [
        "",
        ".",
        "7.",
        ".2",
        "-1.2",
        "7.2.1",
        "%2B7",
        "9223372036854775808",
        "7.18446744073709551616",
        "99999999999999999999999999999999.99999999999999999999999999999999",
    ] {
        let path = format!("/events?last-event-id={wrong}");
        let (status, _, body) = api.call("GET", &path, &[], None).await?;
        ensure!(
            (status, &body["details"][0]["field"]) == (400, &json!("last-event-id")),
            "{wrong}: {body}"
        );
        // The same in a header counts as none.
        let mut body = follow_after(&api, wrong).await?;
        ensure!(events(&mut body, 1).await?[0].1 == "documents", "{wrong}");
    }
    // What will not come for long is waited for.
    for late in [
        "9223372036854775807",
        "9223372036854775806.1",
        "9223372036854775807.18446744073709551615",
    ] {
        let path = format!("/events?last-event-id={late}");
        let response = api.send("GET", &path, &[], None).await?;
        ensure!(response.status() == 200, "{late}: {response:?}");
    }
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
    no_web_page_deletes(&api).await?;
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

/// Forms cannot say `DELETE`, and scripts only once the browser has asked: with a body or without, this is how it asks.
async fn no_web_page_deletes(api: &Api) -> Result<()> {
    let any = ("if-match", "*");
    api.publish(1).await?;
    for origin in ["http://evil.example", "http://127.0.0.1:3000", "null"] {
        let asks = [
            ("origin", origin),
            ("access-control-request-method", "DELETE"),
            ("access-control-request-headers", "if-match"),
        ];
        let answer = api.send("OPTIONS", "/main.toml", &asks, None).await?;
        let mut names = answer.headers().keys();
        ensure!(
            !names.any(|name| name.as_str().starts_with("access-control-")),
            "{origin}: {answer:?}"
        );
    }
    let (status, ..) = api
        .call(
            "DELETE",
            "/main.toml",
            &[any, ("host", "evil.example")],
            None,
        )
        .await?;
    ensure!(status == 421, "{status}");
    let headers = [any, ("content-type", "text/plain")];
    let (status, ..) = api
        .call("DELETE", "/main.toml", &headers, content("a = 1"))
        .await?;
    ensure!(status == 415, "{status}");
    // What forms send is not taken for another method.
    for tells in ["x-http-method-override", "x-method-override"] {
        let headers = [any, (tells, "DELETE")];
        let (status, ..) = api
            .call("POST", "/main.toml?_method=DELETE", &headers, content(""))
            .await?;
        ensure!(status == 405, "{tells}: {status}");
    }
    let (status, ..) = api.call("GET", "/main.toml", &[], None).await?;
    ensure!(status == 200, "it stands still");
    Ok(())
}
