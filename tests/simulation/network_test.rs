//! The links carry, lose and break as they are told.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, Network, Service};
use parking_lot::Mutex;

use crate::{
    Case,
    network::Net,
    world::{self, Chance, with_seeds},
};

/// What is proven here.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        (
            "network::only_some_calls_arrive_twice",
            only_some_calls_arrive_twice,
        ),
        (
            "network::a_held_call_arrives_when_the_link_is_free",
            a_held_call_arrives_when_the_link_is_free,
        ),
        (
            "network::calls_are_answered_or_say_why_not",
            calls_are_answered_or_say_why_not,
        ),
        (
            "network::a_crash_ends_the_calls_it_serves",
            a_crash_ends_the_calls_it_serves,
        ),
        (
            "network::a_stream_keeps_order_over_losses_and_short_cuts",
            a_stream_keeps_order_over_losses_and_short_cuts,
        ),
        (
            "network::a_stream_breaks_over_a_long_cut_and_a_crash",
            a_stream_breaks_over_a_long_cut_and_a_crash,
        ),
        (
            "network::a_frozen_stream_holds_what_it_carries",
            a_frozen_stream_holds_what_it_carries,
        ),
    ]
}

const TIMEOUT: Duration = Duration::from_secs(2);

/// Answers a call with its body, after as many seconds as the method says; sends back each frame of a stream.
struct Echo;

impl Service for Echo {
    fn call(&self, _: u64, method: u32, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(async move {
            world::sleep(Duration::from_secs(method.into())).await;
            Ok(body)
        })
    }

    fn stream(&self, _: u64, _: u32, mut stream: Duplex) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Some(Ok(frame)) = stream.rx.recv().await {
                if stream.tx.send(frame).await.is_err() {
                    return;
                }
            }
        })
    }
}

fn pair(chance: &Chance) -> (Net, Arc<dyn Network>) {
    let net = Net::new(chance);
    let port = net.port(1);
    net.port(2);
    net.attach(2, Arc::new(Echo));
    (net, port)
}

fn calls_are_answered_or_say_why_not() {
    with_seeds(
        "network::calls_are_answered_or_say_why_not",
        20,
        async |chance| {
            let (net, port) = pair(&chance);
            let call = || port.call(2, 0, Bytes::from_static(b"hello"), TIMEOUT);
            assert_eq!(call().await, Ok(Bytes::from_static(b"hello")));
            assert!(matches!(
                port.call(3, 0, Bytes::new(), TIMEOUT).await,
                Err(NetError::Unreachable(_))
            ));
            net.set(2, 1, |link| link.cut = true);
            assert_eq!(call().await, Err(NetError::Timeout));
            net.heal();
            assert_eq!(call().await, Ok(Bytes::from_static(b"hello")));
        },
    );
}

fn a_crash_ends_the_calls_it_serves() {
    with_seeds(
        "network::a_crash_ends_the_calls_it_serves",
        20,
        async |chance| {
            let (net, port) = pair(&chance);
            let crash = net.clone();
            world::spawn(async move {
                world::sleep(Duration::from_millis(500)).await;
                crash.crash(2);
            });
            let answer = port.call(2, 1, Bytes::new(), TIMEOUT).await;
            assert!(matches!(answer, Err(NetError::Lost(_))), "{answer:?}");
            let answer = port.call(2, 0, Bytes::new(), TIMEOUT).await;
            assert!(
                matches!(answer, Err(NetError::Unreachable(_))),
                "{answer:?}"
            );
        },
    );
}

fn a_stream_keeps_order_over_losses_and_short_cuts() {
    with_seeds(
        "network::a_stream_keeps_order_over_losses_and_short_cuts",
        20,
        async |chance| {
            let (net, port) = pair(&chance);
            let Duplex { tx, mut rx } = port.stream(2, 0).await.unwrap();
            net.set(1, 2, |link| link.lost_once_in = 5);
            let cut = net.clone();
            world::spawn(async move {
                for number in 0..100_u8 {
                    tx.send(Bytes::from(vec![number])).await.unwrap();
                    if number == 50 {
                        cut.partition(&[1], &[2], true);
                        world::sleep(Duration::from_millis(500)).await;
                        cut.heal();
                    }
                }
            });
            for number in 0..100_u8 {
                assert_eq!(rx.recv().await, Some(Ok(Bytes::from(vec![number]))));
            }
            assert_eq!(rx.recv().await, None);
        },
    );
}

fn a_stream_breaks_over_a_long_cut_and_a_crash() {
    with_seeds(
        "network::a_stream_breaks_over_a_long_cut_and_a_crash",
        20,
        async |chance| {
            let (net, port) = pair(&chance);
            let mut stream = port.stream(2, 0).await.unwrap();
            net.partition(&[1], &[2], true);
            stream.tx.send(Bytes::new()).await.unwrap();
            assert!(matches!(
                stream.rx.recv().await,
                Some(Err(NetError::Lost(_)))
            ));
            net.heal();
            let mut stream = port.stream(2, 0).await.unwrap();
            net.crash(2);
            assert!(matches!(
                stream.rx.recv().await,
                Some(Err(NetError::Lost(_)))
            ));
            assert_eq!(stream.rx.recv().await, None);
        },
    );
}

fn a_frozen_stream_holds_what_it_carries() {
    with_seeds(
        "network::a_frozen_stream_holds_what_it_carries",
        5,
        async |chance| {
            let (net, port) = pair(&chance);
            let mut stream = port.stream(2, 0).await.unwrap();
            net.set(1, 2, |link| link.frozen = true);
            stream.tx.send(Bytes::from_static(b"held")).await.unwrap();
            world::sleep(Duration::from_secs(60)).await;
            assert!(stream.rx.try_recv().is_err());
            net.heal();
            assert_eq!(
                stream.rx.recv().await,
                Some(Ok(Bytes::from_static(b"held")))
            );
        },
    );
}

/// Counts the calls that arrive.
#[derive(Default)]
struct Counting(Mutex<u64>);

impl Service for Counting {
    fn call(&self, _: u64, _: u32, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>> {
        *self.0.lock() += 1;
        Box::pin(std::future::ready(Ok(body)))
    }

    fn stream(&self, _: u64, _: u32, _: Duplex) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

fn only_some_calls_arrive_twice() {
    let name = "network::only_some_calls_arrive_twice";
    with_seeds(name, 5, async |chance| {
        const VOTE: u32 = 1;
        const PROPOSE: u32 = 7;
        let (net, port) = pair(&chance);
        let counting = Arc::new(Counting::default());
        net.attach(2, counting.clone());
        net.set(1, 2, |link| link.doubled_once_in = 1);
        for method in [VOTE, PROPOSE] {
            let answer = port.call(2, method, Bytes::new(), TIMEOUT).await;
            assert_eq!(answer, Ok(Bytes::new()));
        }
        world::sleep(Duration::from_secs(10)).await;
        assert_eq!(*counting.0.lock(), 3, "the vote twice, the proposal once");
    });
}

fn a_held_call_arrives_when_the_link_is_free() {
    let name = "network::a_held_call_arrives_when_the_link_is_free";
    with_seeds(name, 5, async |chance| {
        let (net, port) = pair(&chance);
        net.set(1, 2, |link| link.frozen = true);
        let free = net.clone();
        world::spawn(async move {
            world::sleep(Duration::from_millis(700)).await;
            free.heal();
        });
        let answer = port.call(2, 0, Bytes::new(), TIMEOUT).await;
        assert_eq!(answer, Ok(Bytes::new()));
        assert!(world::now() >= Duration::from_millis(700));
    });
}
