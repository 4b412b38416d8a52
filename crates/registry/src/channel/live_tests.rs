//! The channel and the client against real servers in this process. What is asserted of time is that nothing hangs.

mod connections;
mod grpc_server;
mod http_server;
mod stubborn;
mod tls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt, Empty};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};
use tonic::Code;

use self::{
    grpc_server::{Client, Server},
    http_server::HttpServer,
    stubborn::{Conduct, Stubborn},
};
use super::{CallOptions, Channel, ChannelOptions, Error, HttpClient, Limit};
use crate::{
    Change, Instance, ServiceName, ServiceSettings, Status as InstanceStatus, Ulid,
    balance::{self, Algorithm},
    health,
};

/// A bound against hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// What tests change the list of instances through.
struct List {
    changes: watch::Sender<Change>,
}

impl List {
    fn new() -> Self {
        let change = Change {
            revision: 0,
            all: Arc::new([]),
            added: Vec::new(),
            updated: Vec::new(),
            removed: Vec::new(),
            settings: Arc::new(ServiceSettings::default()),
            synced: false,
            stale: true,
        };
        Self {
            changes: watch::Sender::new(change),
        }
    }

    fn of(instances: &[Instance]) -> Self {
        let list = Self::new();
        list.set(instances);
        list
    }

    fn set(&self, instances: &[Instance]) {
        let all: Arc<[Arc<Instance>]> = instances.iter().cloned().map(Arc::new).collect();
        self.changes.send_modify(|change| {
            change.all = all;
            change.synced = true;
            change.stale = false;
        });
    }

    fn follow(&self) -> impl Stream<Item = Change> + use<> {
        let mut changes = self.changes.subscribe();
        changes.mark_changed();
        stream::unfold(changes, |mut changes| async move {
            changes.changed().await.ok()?;
            let change = changes.borrow_and_update().clone();
            Some((change, changes))
        })
    }

    fn channel(&self, options: ChannelOptions) -> Channel {
        Channel::new(service(), self.follow(), None, options)
    }

    fn client(&self, options: ChannelOptions) -> HttpClient {
        HttpClient::new(service(), self.follow(), None, options)
    }
}

fn service() -> ServiceName {
    ServiceName::new("echo").unwrap()
}

fn instance(id: &str, endpoint: &str) -> Instance {
    let mut instance = Instance::new(service(), id, vec![endpoint.parse().unwrap()]);
    instance.epoch = Ulid::generate();
    instance
}

/// Turns by round robin, so that every instance is met; no checks; patient.
fn options() -> ChannelOptions {
    ChannelOptions {
        balance: balance::Options {
            algorithm: Algorithm::Rr,
            slow_start: Duration::ZERO,
            ..balance::Options::default()
        },
        health: None,
        timeout: Some(PATIENCE),
        connect_timeout: PATIENCE,
        ..ChannelOptions::default()
    }
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Calls from several tasks until told to stop.
struct Load {
    stop: watch::Sender<bool>,
    tasks: JoinSet<Vec<String>>,
    calls: Arc<AtomicUsize>,
}

impl Load {
    fn start(channel: &Channel) -> Self {
        let stop = watch::Sender::new(false);
        let calls = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let client = Client::new(channel.clone());
            let (stopped, calls) = (stop.subscribe(), Arc::clone(&calls));
            tasks.spawn(async move {
                let mut failures = Vec::new();
                while !*stopped.borrow() {
                    if let Err(status) = client.call("Id").await {
                        failures.push(format!("{status:?}"));
                    }
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        Self { stop, tasks, calls }
    }

    /// Waits for so many more calls.
    async fn more(&self, calls: usize) {
        let until = self.calls.load(Ordering::Relaxed) + calls;
        wait_until("calls go on", || {
            self.calls.load(Ordering::Relaxed) >= until
        })
        .await;
    }

    async fn finish(self) -> usize {
        self.stop.send_replace(true);
        let failures: Vec<String> = self.tasks.join_all().await.concat();
        let count = self.calls.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {count} failed: {:?}",
            failures.len(),
            failures[0]
        );
        count
    }
}

#[tokio::test]
async fn calls_reach_every_instance() {
    let servers = [
        Server::start("a").await,
        Server::start("b").await,
        Server::start("c").await,
    ];
    let list = List::of(&[
        servers[0].instance(),
        servers[1].instance(),
        servers[2].instance(),
    ]);
    let channel = list.channel(options());
    let client = Client::new(channel.clone());
    for _ in 0..30 {
        client.call("Id").await.unwrap();
    }
    assert!(servers.iter().all(|server| server.calls() == 10));
    assert_eq!(channel.connections(), 3, "one for each instance");
    let totals = channel.totals();
    assert_eq!((totals.calls, totals.repeats), (30, 0));
    let instances = channel.instances();
    assert!(
        instances
            .iter()
            .all(|slot| slot.in_flight == 0 && slot.rtt.is_some())
    );
}

#[tokio::test]
async fn rolling_restart_under_load_fails_no_call() {
    for announced in [true, false] {
        let mut servers = Vec::new();
        for id in ["a", "b", "c"] {
            servers.push(Server::start(id).await);
        }
        let instances = |servers: &[Server]| -> Vec<Instance> {
            servers.iter().map(Server::instance).collect()
        };
        let list = List::of(&instances(&servers));
        let balance = balance::Options {
            slow_start: Duration::ZERO,
            ..balance::Options::default()
        };
        let channel = list.channel(ChannelOptions {
            balance,
            ..options()
        });
        let load = Load::start(&channel);
        for place in 0..servers.len() {
            load.more(200).await;
            if announced {
                let mut draining = instances(&servers);
                draining[place].status = InstanceStatus::Draining;
                list.set(&draining);
                load.more(200).await;
            }
            let id = servers[place].id.clone();
            servers[place].stop().await;
            // Unannounced, the list still has the old address for a while.
            load.more(200).await;
            servers[place] = Server::start(&id).await;
            list.set(&instances(&servers));
        }
        wait_until("all are called", || {
            servers.iter().all(|server| server.calls() > 0)
        })
        .await;
        let calls = load.finish().await;
        println!(
            "announced {announced}: 0 of {calls} calls failed, {:?}",
            channel.totals()
        );
    }
}

#[tokio::test]
async fn connection_that_reaches_its_age_fails_no_call() {
    let server = Server::start_with_age("a", Duration::from_millis(30)).await;
    let list = List::of(&[server.instance()]);
    let channel = list.channel(options());
    let load = Load::start(&channel);
    load.more(2000).await;
    let calls = load.finish().await;
    println!("0 of {calls} calls failed, {:?}", channel.totals());
    assert_eq!(server.calls(), calls, "none is made twice");
}

#[tokio::test]
async fn instance_that_is_gone_is_passed_over() {
    let server = Server::start("a").await;
    let list = List::of(&[
        server.instance(),
        instance("dead1", &format!("grpc://{}", stubborn::dead_address(1))),
        instance("dead2", &format!("grpc://{}", stubborn::dead_address(2))),
    ]);
    let channel = list.channel(options());
    let client = Client::new(channel.clone());
    for _ in 0..50 {
        assert_eq!(client.call("Id").await.unwrap(), "a");
    }
    assert!(channel.totals().repeats > 0);
}

#[tokio::test]
async fn instance_that_only_its_kernel_accepts_is_passed_over() {
    let server = Server::start("a").await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("grpc://{}", listener.local_addr().unwrap());
    let list = List::of(&[server.instance(), instance("silent", &silent)]);
    let channel = list.channel(ChannelOptions {
        connect_timeout: Duration::from_secs(3),
        ..options()
    });
    let client = Client::new(channel.clone());
    for _ in 0..20 {
        assert_eq!(client.call("Id").await.unwrap(), "a");
    }
}

#[tokio::test]
async fn refused_stream_is_sent_to_another_instance() {
    let stubborn = Stubborn::start("r", Conduct::RefuseStream).await;
    let server = Server::start("a").await;
    let list = List::of(&[server.instance(), stubborn.instance()]);
    let client = Client::new(list.channel(options()));
    for _ in 0..10 {
        assert_eq!(client.call("Id").await.unwrap(), "a");
    }
    assert!(stubborn.requests() >= 5, "it was asked in its turns");
}

#[tokio::test]
async fn call_of_unknown_outcome_is_not_repeated() {
    let stubborn = Stubborn::start("x", Conduct::HangUp).await;
    let server = Server::start("a").await;
    let list = List::of(&[server.instance(), stubborn.instance()]);
    let client = Client::new(list.channel(options()));
    let mut lost = 0;
    for _ in 0..8 {
        if let Err(status) = client.call("Id").await {
            assert_eq!(status.code(), Code::Unavailable);
            let error = Error::of(&status).unwrap();
            assert!(matches!(error, Error::Lost { .. }), "{error}");
            assert!(error.is_unknown_outcome());
            lost += 1;
        }
    }
    assert!(lost > 0);
    assert_eq!(stubborn.requests(), lost, "each request was seen once");
    assert_eq!(server.calls(), 8 - lost, "and nowhere else");
}

#[tokio::test]
async fn deadline_covers_head_and_messages() {
    let server = Server::start("a").await;
    let list = List::of(&[server.instance()]);
    let channel = list.channel(options());
    let client = Client::new(channel.clone());
    for method in ["Hang", "HangInBody"] {
        let limit = CallOptions {
            limit: Limit::Within(Duration::from_millis(100)),
            ..CallOptions::default()
        };
        let status = client.call_with(method, limit).await.unwrap_err();
        assert_eq!(
            status.code(),
            Code::DeadlineExceeded,
            "{method}: {status:?}"
        );
    }
    // The server is told, and lets go of both.
    wait_until("the server lets go", || server.running() == 0).await;
    assert!(channel.instances().iter().all(|slot| slot.in_flight == 0));
    let left = client.call("Timeout").await.unwrap();
    assert!(
        left.ends_with('u') || left.ends_with('m'),
        "it hears how much is left: {left:?}"
    );
    let never = CallOptions {
        limit: Limit::Never,
        ..CallOptions::default()
    };
    assert_eq!(client.call_with("Timeout", never).await.unwrap(), "");
}

#[tokio::test]
async fn call_that_is_dropped_is_canceled_and_counted_out() {
    let server = Server::start("a").await;
    let list = List::of(&[server.instance()]);
    let channel = list.channel(options());
    let client = Client::new(channel.clone());
    let call = tokio::spawn(async move { client.call("Hang").await });
    wait_until("the call runs", || server.running() == 1).await;
    assert_eq!(channel.instances()[0].in_flight, 1);
    call.abort();
    wait_until("the server lets go", || server.running() == 0).await;
    wait_until("it is counted out", || {
        channel.instances()[0].in_flight == 0
    })
    .await;
    assert!(!channel.instances()[0].ejected);
}

#[tokio::test]
async fn failing_instance_is_ejected_by_its_outcomes() {
    let servers = [
        Server::start("a").await,
        Server::start("b").await,
        Server::start("c").await,
    ];
    servers[1].fail(true);
    let list = List::of(&[
        servers[0].instance(),
        servers[1].instance(),
        servers[2].instance(),
    ]);
    let channel = list.channel(options());
    let client = Client::new(channel.clone());
    for _ in 0..60 {
        // The channel passes the answer on; that it is bad is the instance's record, not a reason to ask again.
        let _unavailable_from_b = client.call("Id").await;
    }
    assert!(servers[1].calls() < 10, "{} calls", servers[1].calls());
    assert!(channel.totals().ejections > 0);
}

#[tokio::test]
async fn instance_that_leaves_finishes_what_it_has() {
    let servers = [Server::start("a").await, Server::start("b").await];
    let list = List::of(&[servers[0].instance()]);
    let channel = list.channel(options());
    let client = Client::new(channel.clone());
    let pending = tokio::spawn({
        let client = client.clone();
        async move { client.call("Wait").await }
    });
    wait_until("the call runs", || servers[0].running() == 1).await;
    list.set(&[servers[1].instance()]);
    wait_until("the list is taken", || {
        channel.instances()[0].instance.id == "b"
    })
    .await;
    assert_eq!(client.call("Id").await.unwrap(), "b");
    assert_eq!(channel.connections(), 1, "its connection is let go of");
    servers[0].release();
    assert_eq!(pending.await.unwrap().unwrap(), "a");
}

#[tokio::test]
async fn idle_connection_is_closed_and_made_again() {
    let server = Server::start("a").await;
    let list = List::of(&[server.instance()]);
    let channel = list.channel(ChannelOptions {
        idle: Duration::from_millis(200),
        ..options()
    });
    let client = Client::new(channel.clone());
    for _ in 0..2 {
        assert_eq!(client.call("Id").await.unwrap(), "a");
        wait_until("it is closed", || channel.connections() == 0).await;
    }
}

#[tokio::test]
async fn call_waits_for_discovery_and_then_says_why_there_is_nobody() {
    let server = Server::start("a").await;
    let list = List::new();
    let client = Client::new(list.channel(ChannelOptions {
        discovery_wait: PATIENCE,
        ..options()
    }));
    let early = tokio::spawn({
        let client = client.clone();
        async move { client.call("Id").await }
    });
    sleep(Duration::from_millis(20)).await;
    let mut draining = server.instance();
    list.set(&[draining.clone()]);
    assert_eq!(early.await.unwrap().unwrap(), "a");
    draining.status = InstanceStatus::Draining;
    list.set(&[draining]);
    let started = Instant::now();
    let status = loop {
        match client.call("Id").await {
            Ok(_) => assert!(started.elapsed() < PATIENCE),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable);
    let text = "service echo: NO_INSTANCE: of 1 known instances 1 not up";
    assert_eq!(status.message(), text);
}

#[tokio::test]
async fn instance_that_says_it_does_not_serve_gets_no_calls() {
    let servers = [Server::start("a").await, Server::start("b").await];
    let list = List::of(&[servers[0].instance(), servers[1].instance()]);
    let channel = list.channel(ChannelOptions {
        health: Some(health::Options {
            interval: Duration::from_millis(50),
            ..health::Options::default()
        }),
        ..options()
    });
    let alive = || -> Vec<bool> {
        let slots = channel.instances();
        slots.iter().map(|slot| slot.alive).collect()
    };
    servers[0].set_serving(false);
    wait_until("it is found", || alive() == [false, true]).await;
    let client = Client::new(channel.clone());
    for _ in 0..10 {
        assert_eq!(client.call("Id").await.unwrap(), "b");
    }
    servers[0].set_serving(true);
    wait_until("it is back", || alive() == [true, true]).await;
}

#[tokio::test]
async fn http_goes_the_same_ways() {
    let servers = [HttpServer::start("a").await, HttpServer::start("b").await];
    let dead = format!("http://{}", stubborn::dead_address(3));
    let list = List::of(&[
        servers[0].instance(),
        servers[1].instance(),
        instance("dead", &dead),
    ]);
    let client = list.client(ChannelOptions {
        health: Some(health::Options {
            interval: Duration::from_millis(50),
            ..health::Options::default()
        }),
        ..options()
    });
    let get = |path: &'static str| {
        let client = client.clone();
        async move {
            let request = http::Request::get(path)
                .body(Empty::<Bytes>::new())
                .unwrap();
            let answer = client.send(request).await?;
            let body = answer.into_body().collect().await?.to_bytes();
            Ok::<_, Error>(String::from_utf8_lossy(&body).into_owned())
        }
    };
    let mut seen = [0, 0];
    for _ in 0..20 {
        match get("/id").await.unwrap().as_str() {
            "a" => seen[0] += 1,
            "b" => seen[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    assert!(get("/timeout").await.unwrap().parse::<u64>().unwrap() > 0);
    wait_until("checks find the dead one", || {
        let slots = client.instances();
        slots
            .iter()
            .all(|slot| slot.alive == (slot.instance.id != "dead"))
    })
    .await;
}

#[tokio::test]
async fn http_repeats_only_what_has_no_effect() {
    let hangs_up = Stubborn::start("x", Conduct::HangUpHttp).await;
    let server = HttpServer::start("a").await;
    let mut stubborn = hangs_up.instance();
    stubborn.endpoints[0].scheme = crate::Scheme::Http;
    let list = List::of(&[server.instance(), stubborn]);
    // Without ejection, so that both take their turns to the end.
    let mut options = options();
    options.balance.ejection = None;
    let client = list.client(options);
    let send = |method: http::Method| {
        let client = client.clone();
        async move {
            let request = http::Request::builder().method(method).uri("/id");
            let request = request.body(Empty::<Bytes>::new()).unwrap();
            client.send(request).await.map(|answer| answer.status())
        }
    };
    for _ in 0..10 {
        assert_eq!(send(http::Method::GET).await.unwrap(), 200);
    }
    let before = hangs_up.requests();
    let mut lost = 0;
    for _ in 0..10 {
        if let Err(error) = send(http::Method::POST).await {
            assert!(error.is_unknown_outcome(), "{error}");
            lost += 1;
        }
    }
    assert_eq!(hangs_up.requests() - before, lost);
    assert!(lost > 0);
}
