//! What those who call a service notice while its store is down: nothing.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use catena_client::request;
use catena_registry::{
    Instance, RegState, RegisterOptions, Registrar,
    channel::{ChannelOptions, HttpClient},
};
use framework::wait_until;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    cases,
    ground::{BACK_WITHIN, Ground, PATIENCE, SHORT_TTL, standing, until},
    outage::Case,
    own_store::OwnStore,
};

pub(crate) const CASES: &[Case] = cases![two_hundred_are_called_while_the_store_is_down];

const INSTANCES: u16 = 200;

/// Who calls without a pause, all through the outage.
const CALLERS: usize = 4;

/// How long the store is down: well beyond the leases. `CATENA_OUTAGE_SECS` says another time; 60 is the one to look at.
const OUTAGE: Duration = Duration::from_secs(6);

fn outage() -> Duration {
    let asked = std::env::var("CATENA_OUTAGE_SECS").ok();
    let asked = asked.and_then(|secs| secs.parse().ok());
    asked.map_or(OUTAGE, Duration::from_secs)
}

/// An HTTP server on all of loopback that answers with the address that it was called at.
async fn serve(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let at = stream.local_addr().map(|at| at.to_string());
        let at = Bytes::from(at.unwrap_or_default());
        connections.spawn(async move {
            let service = service_fn(move |_: Request<Incoming>| {
                let answer = Response::new(Full::new(at.clone()));
                async move { Ok::<_, Infallible>(answer) }
            });
            // The caller closes it when it is done.
            let _closed = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// An instance that listens at `127.1.x.y`.
fn at(ground: &Ground, number: u16, port: u16) -> Instance {
    let (high, low) = (number >> 8, number & 255);
    let endpoint = format!("http://127.1.{high}.{low}:{port}");
    Instance {
        endpoints: vec![endpoint.parse().expect("an endpoint")],
        ..ground.instance(number)
    }
}

fn options() -> RegisterOptions {
    RegisterOptions {
        ttl: SHORT_TTL,
        ..RegisterOptions::default()
    }
}

/// One call; the address that answered.
async fn call(client: &HttpClient) -> Result<String> {
    let request = Request::get("/").body(Empty::<Bytes>::new())?;
    let answer = client.send(request).await?;
    let body = answer.into_body().collect().await?;
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

/// The calls of a load and their end.
#[derive(Debug, Default)]
struct Calls {
    answered: AtomicU64,
    over: AtomicBool,
}

async fn call_on(client: HttpClient, calls: Arc<Calls>) -> Result<()> {
    while !calls.over.load(Ordering::Relaxed) {
        call(&client).await?;
        calls.answered.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn two_hundred_are_called_while_the_store_is_down(store: &mut OwnStore) -> Result<()> {
    let ground = store.ground();
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let port = listener.local_addr()?.port();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener));
    let registry = ground.registry()?;
    let register = |number| registry.register(at(&ground, number, port), options());
    let all = join_all((1..=INSTANCES).map(register)).await;
    let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
    for registration in &all {
        standing(registration).await?;
    }
    let client =
        HttpClient::connect(&registry, &ground.service, None, ChannelOptions::default()).await?;
    wait_until("all can be called", PATIENCE, async || {
        (client.instances().len() == usize::from(INSTANCES)).then_some(())
    })
    .await?;

    let calls = Arc::new(Calls::default());
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call_on(client.clone(), calls.clone()));
    }
    store.kill()?;
    sleep(outage()).await;
    for registration in &all {
        let lost = |state: &RegState| matches!(state, RegState::Lost { .. });
        until(registration, "lost", lost).await?;
    }
    let meanwhile = calls.answered.load(Ordering::Relaxed);
    store.restart().await?;
    let began = Instant::now();
    for registration in &all {
        standing(registration).await?;
    }
    let back = began.elapsed();
    // Leases of before the outage run out meanwhile; nobody may go with them.
    sleep(2 * SHORT_TTL).await;
    calls.over.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller?.context("a call failed")?;
    }
    println!(
        "store down for {:?}: {meanwhile} calls answered meanwhile, none failed; {INSTANCES} registrations back after {back:?}",
        outage()
    );
    ensure!(meanwhile > 0);
    ensure!(back <= BACK_WITHIN, "back after {back:?}");
    let prefix = format!("/registry/v1/{}/", ground.namespace());
    let stand = ground.kv.range(request::get_prefix(prefix)).await?;
    ensure!(stand.count == i64::from(INSTANCES), "{} keys", stand.count);
    ensure!(client.instances().len() == usize::from(INSTANCES));
    Ok(())
}
