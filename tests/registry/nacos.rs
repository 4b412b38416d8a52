//! Clients of Nacos, with what its own library says and hears, on the configuration that all others share.

use std::{fmt::Display, time::Duration};

use anyhow::{Context, Result, ensure};
use axum::{Router, body::Body, http::Request};
use catena_gateway::nacos;
use catena_middleware::{
    chain::Chained,
    serve::{ConnectionLimits, serve},
};
use catena_registry::config::{ConfigCenter, DocumentName, Error, Expect};
use framework::{Running, leave_out, peers, wait_until};
use http_body_util::BodyExt;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    cases,
    config::rate,
    config_api::gateway,
    ground::{Case, Ground, PATIENCE},
};

pub(crate) const CASES: &[Case] = cases![
    a_document_is_deleted_and_counts_on,
    its_library_reads_writes_and_listens,
    requests_are_answered_as_nacos_does,
];

/// The last release that speaks HTTP.
const PACKAGE: &str = "nacos-sdk-python==1.0.0";

fn routes(ground: &Ground, closing: &CancellationToken) -> Result<Chained<Router>> {
    let center = ConfigCenter::new(ground.kv.clone());
    gateway(nacos::router(center, ground.namespace(), closing.clone()))
}

async fn a_document_is_deleted_and_counts_on(ground: &Ground) -> Result<()> {
    let center = ConfigCenter::new(ground.kv.clone());
    let name = DocumentName::new(ground.namespace(), "user", "main.toml")?;
    center.publish(&name, rate(1), Expect::Absent).await?;
    center.publish(&name, rate(2), Expect::Version(1)).await?;
    let refused = center.delete(&name, Expect::Version(1)).await;
    ensure!(
        matches!(refused, Err(Error::Conflict { current: 2, .. })),
        "{refused:?}"
    );
    let mut watch = center.watch_app(name.app(), 0).await?;
    center.delete(&name, Expect::Version(2)).await?;
    let told = timeout(PATIENCE, watch.next()).await??;
    ensure!(told.doc == "main.toml" && told.meta.is_none(), "{told:?}");
    for gone in [
        center.get(&name).await.err(),
        center.delete(&name, Expect::Any).await.err(),
    ] {
        ensure!(matches!(gone, Some(Error::Absent { .. })), "{gone:?}");
    }
    ensure!(center.documents(name.app()).await?.0.is_empty());
    ensure!(center.history(&name).await?.len() == 2);
    let again = center.publish(&name, rate(3), Expect::Absent).await?;
    ensure!(again.version == 3, "{again:?}");
    Ok(())
}

/// A program that is told what to do line by line.
struct Client(Running);

impl Client {
    /// What it has said, without what its library prints beside.
    fn said(&self) -> Vec<String> {
        let printed = self.0.printed();
        let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
        let said = whole.lines().filter_map(|line| line.strip_prefix("> "));
        said.map(str::to_owned).collect()
    }

    /// Waits until it has said so much, and demands that the last of it is as expected.
    async fn says(&self, lines: usize, expected: &str) -> Result<()> {
        let said = wait_until("it says something", PATIENCE, async || {
            Some(self.said()).filter(|said| said.len() >= lines)
        });
        let said = said.await.with_context(|| self.0.printed())?;
        ensure!(said.last().is_some_and(|last| last == expected), "{said:?}");
        Ok(())
    }

    /// Does as it is told in a line.
    async fn does(&self, line: impl Display, expected: &str) -> Result<()> {
        let next = self.said().len() + 1;
        self.0.type_in(&format!("{line}\n"))?;
        self.says(next, expected).await
    }
}

async fn its_library_reads_writes_and_listens(ground: &Ground) -> Result<()> {
    let program = match peers::python("nacos_config.py", PACKAGE) {
        Ok(program) => program,
        Err(missing) => {
            leave_out("clients of Nacos", &missing)?;
            return Ok(());
        }
    };
    let closing = CancellationToken::new();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let serving = serve(listener, routes(ground, &closing)?, ConnectionLimits::HTTP)?;
    let address = serving.address().to_string();
    let dir = tempfile::tempdir()?;
    let place = dir.path().to_str().context("the path is UTF-8")?;
    let start = |namespace: &str| -> Result<Client> {
        Ok(Client(program.follow(&[
            address.as_str(),
            namespace,
            place,
        ])?))
    };
    let (one, other) = (start("")?, start("")?);
    let doc = "DEFAULT_GROUP main.toml";
    one.does(format!("get {doc}"), "null").await?;
    one.does(format!("publish {doc} rate = 1"), "true").await?;
    other.does(format!("get {doc}"), "\"rate = 1\"").await?;
    // The same document as everybody else's.
    let center = ConfigCenter::new(ground.kv.clone());
    let name = DocumentName::new(ground.namespace(), "default_group", "main.toml")?;
    let current = center.get(&name).await?.revision;
    ensure!(
        current.meta.version == 1 && current.content == "rate = 1",
        "{current:?}"
    );

    other.does(format!("watch {doc}"), "\"watching\"").await?;
    one.does(format!("publish {doc} rate = 2"), "true").await?;
    other.says(3, r#"told "rate = 2""#).await?;
    center.publish(&name, rate(3), Expect::Version(2)).await?;
    other.says(4, r#"told "[limits]\nrate = 3\n""#).await?;
    one.does(format!("publish {doc} text = '用户 & more = %'"), "true")
        .await?;
    other.says(5, r#"told "text = '用户 & more = %'""#).await?;
    one.does(format!("remove {doc}"), "true").await?;
    other.says(6, "told null").await?;
    one.does(format!("get {doc}"), "null").await?;

    // Another namespace is another.
    let apart = start(&format!("{}-b", ground.namespace()))?;
    apart
        .does(format!("publish {doc} rate = 7"), "true")
        .await?;
    one.does(format!("get {doc}"), "null").await?;
    closing.cancel();
    Ok(())
}

async fn requests_are_answered_as_nacos_does(ground: &Ground) -> Result<()> {
    let closing = CancellationToken::new();
    let routes = routes(ground, &closing)?;
    let send = async |method: &str, path: &str, headers: &[(&str, &str)], form: &str| {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/nacos{path}"))
            .header("host", "127.0.0.1:8080");
        let given = headers.iter().any(|(name, _)| *name == "content-type");
        if !form.is_empty() && !given {
            request = request.header("content-type", "application/x-www-form-urlencoded");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Body::from(form.to_owned());
        let answer = routes.clone().oneshot(request.body(body)?);
        let answer = timeout(PATIENCE, answer).await??;
        let status = answer.status().as_u16();
        let md5 = answer.headers().get("content-md5").cloned();
        let bytes = answer.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, String::from_utf8(bytes.to_vec())?, md5))
    };
    let v1 = "/v1/cs/configs?dataId=a.toml&group=shop";
    let v2 = "/v2/cs/config?dataId=a.toml&group=shop&namespaceId=public";
    let (status, text, _) = send("GET", v1, &[], "").await?;
    ensure!((status, text.as_str()) == (404, "config data not exist"));
    let (status, text, _) = send("GET", v2, &[], "").await?;
    ensure!(status == 404 && text.contains("20004"), "{text}");
    // Names and content in a form, as other clients have it.
    let form = "dataId=a.toml&group=shop&tenant=public&type=toml&content=a+%3D+1";
    let (status, text, _) = send("POST", "/v1/cs/configs", &[], form).await?;
    ensure!((status, text.as_str()) == (200, "true"), "{text}");
    let (status, text, md5) = send("GET", v1, &[], "").await?;
    ensure!((status, text.as_str()) == (200, "a = 1"));
    let md5 = md5.context("its sum")?;
    let md5 = md5.to_str()?;
    // As md5sum has it.
    ensure!(md5 == "fd352b68bf83391284e044021cab0339", "{md5}");
    let (_, text, _) = send("GET", v2, &[], "").await?;
    ensure!(
        text == r#"{"code":0,"data":"a = 1","message":"success"}"#,
        "{text}"
    );

    let listen = |md5: &str| format!("Listening-Configs=a.toml%02shop%02{md5}%01");
    let path = "/v1/cs/configs/listener";
    let soon = [("long-pulling-timeout", "100")];
    let (_, text, _) = send("POST", path, &soon, &listen(md5)).await?;
    ensure!(text.is_empty(), "nothing has changed, but {text}");
    let long = [("long-pulling-timeout", "30000")];
    let (_, text, _) = send("POST", path, &long, &listen("other")).await?;
    ensure!(text == "a.toml%02shop%01", "{text}");
    let form = listen(md5);
    let waiting = send("POST", path, &long, &form);
    let publishing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        send("POST", &format!("{v2}&content=a%20%3D%202"), &[], "").await
    };
    let (told, published) = tokio::join!(waiting, publishing);
    ensure!(published?.1.contains("\"data\":true"));
    ensure!(told?.1 == "a.toml%02shop%01");
    let (status, _, _) = send("POST", path, &long, "Listening-Configs=a.toml%01").await?;
    ensure!(status == 400);

    // No web page, no other body, no name that nobody could have here.
    for header in ["origin", "referer", "sec-fetch-site"] {
        let told = [(header, "http://127.0.0.1:8080")];
        let (status, text, _) = send("POST", &format!("{v1}&content=b"), &told, "").await?;
        ensure!(status == 403, "{header}: {text}");
    }
    let json = [("content-type", "application/json")];
    let (status, _, _) = send("POST", v1, &json, "content=b").await?;
    ensure!(status == 415);
    let (status, text, _) = send("GET", "/v1/cs/configs?dataId=a&group=Shop", &[], "").await?;
    ensure!(status == 400 && text.contains("BAD_NAME"), "{text}");
    let (status, _, _) = send("DELETE", v1, &[], "").await?;
    ensure!(status == 200);
    ensure!(send("GET", v2, &[], "").await?.0 == 404);
    Ok(())
}
