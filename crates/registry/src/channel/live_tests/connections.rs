//! A second connection to an instance that takes few calls on one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{Client, List, PATIENCE, Server, instance, options, wait_until};
use crate::channel::{Channel, ChannelOptions};

/// Calls that the instance takes at once on a connection.
const STREAMS: u32 = 10;

/// Makes calls that wait for their server.
async fn wait(channel: &Channel, calls: usize) -> JoinSet<String> {
    let mut tasks = JoinSet::new();
    for number in 1..=calls {
        let client = Client::new(channel.clone());
        tasks.spawn(async move { client.call("Wait").await.unwrap() });
        // One after the other, so that each finds those before.
        wait_until("the call is under way", || {
            let slots = channel.instances();
            slots.iter().any(|slot| slot.in_flight as usize == number)
        })
        .await;
    }
    tasks
}

#[tokio::test]
async fn second_is_made_above_four_fifths_and_goes_when_it_is_idle() {
    let server = Server::start_with_streams("a", STREAMS).await;
    let list = List::of(&[server.instance()]);
    let channel = list.channel(ChannelOptions {
        idle: Duration::from_millis(400),
        ..options()
    });
    let client = Client::new(channel.clone());
    client.call("Id").await.unwrap();
    let first = wait(&channel, 9).await;
    assert_eq!(channel.connections(), 1, "eight of ten are four fifths");
    // Calls beyond what two connections take wait for one another, and make no third.
    let more = wait_all(&channel, 21);
    wait_until("both are full", || server.running() == 20).await;
    assert_eq!(channel.connections(), 2);
    for _ in 0..30 {
        server.release();
    }
    let answers = [first.join_all().await, more.join_all().await].concat();
    assert_eq!(answers, ["a"; 30]);
    let started = Instant::now();
    while channel.connections() > 1 {
        assert!(started.elapsed() < PATIENCE);
        client.call("Id").await.unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    assert!(channel.instances()[0].in_flight == 0);
}

fn wait_all(channel: &Channel, calls: usize) -> JoinSet<String> {
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let client = Client::new(channel.clone());
        tasks.spawn(async move { client.call("Wait").await.unwrap() });
    }
    tasks
}

/// Serves the first connection, and leaves no second one a place to go.
async fn serve_one(listener: TcpListener, released: Arc<Semaphore>) {
    let (stream, _) = listener.accept().await.unwrap();
    drop(listener);
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(STREAMS);
    let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
    let mut calls = JoinSet::new();
    while let Some(Ok((_request, mut respond))) = connection.accept().await {
        let released = Arc::clone(&released);
        calls.spawn(async move {
            released.acquire().await.unwrap().forget();
            let head = http::Response::builder().header("content-type", "application/grpc");
            let mut stream = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            stream
                .send_data(Bytes::from_static(b"\0\0\0\0\x01a"), false)
                .unwrap();
            let ok = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
            stream.send_trailers([ok].into_iter().collect()).unwrap();
        });
    }
}

#[tokio::test]
async fn first_carries_on_where_a_second_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("grpc://{}", listener.local_addr().unwrap());
    let released = Arc::new(Semaphore::new(0));
    let server = tokio::spawn(serve_one(listener, Arc::clone(&released)));
    let list = List::of(&[instance("a", &endpoint)]);
    let channel = list.channel(options());
    let calls = wait(&channel, 15).await;
    released.add_permits(15);
    assert_eq!(calls.join_all().await, ["a"; 15]);
    assert_eq!(channel.connections(), 1);
    assert!(!channel.instances()[0].ejected, "it takes calls");
    assert_eq!(channel.totals().repeats, 0);
    server.abort();
}
