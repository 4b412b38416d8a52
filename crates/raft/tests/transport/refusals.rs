//! Who is refused, and in which words.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use catena_api::peer::{Frame, HelloRequest, door_client::DoorClient, peer_client::PeerClient};
use catena_raft::{Config, Stop, identity, transport::Transport};
use catena_runtime::{BoxFuture, NetError, Network, Runtime, SystemTasks, Task, Tasks};
use tokio::net::TcpListener;
use tonic::{Code, Request, Status, transport::Channel};

use crate::members::{Founders, Running, listen, put_surely, wait_until};

/// Longest wait for a member to stop by itself; a second is enough on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A greeting that would be accepted from the second of three founders.
fn greeting(founders: &Founders) -> HelloRequest {
    HelloRequest {
        protocol_version: 1,
        cluster_id: founders.cluster_id,
        from: founders.running[1].identity.member_id,
        to: founders.running[0].identity.member_id,
        incarnation: founders.running[1].identity.incarnation,
    }
}

async fn channel(founders: &Founders) -> Channel {
    let url = founders.running[0].url.clone();
    Channel::from_shared(url).unwrap().connect().await.unwrap()
}

async fn greet(founders: &Founders, hello: HelloRequest) -> Result<String, Status> {
    let mut door = DoorClient::new(channel(founders).await);
    Ok(door.hello(hello).await?.into_inner().session)
}

async fn refusal(founders: &Founders, hello: HelloRequest) -> String {
    let status = greet(founders, hello).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    status.message().to_owned()
}

#[tokio::test]
async fn greeting_is_checked() {
    let founders = Founders::new(3).await;
    let good = greeting(&founders);
    assert!(greet(&founders, good).await.is_ok());

    let wrong = HelloRequest {
        protocol_version: 2,
        ..good
    };
    assert!(
        refusal(&founders, wrong)
            .await
            .contains("protocol version mismatch")
    );
    let wrong = HelloRequest {
        cluster_id: 1,
        ..good
    };
    assert!(
        refusal(&founders, wrong)
            .await
            .contains("cluster ID mismatch")
    );
    let wrong = HelloRequest { to: 1, ..good };
    assert!(
        refusal(&founders, wrong)
            .await
            .contains("member ID mismatch")
    );
    let wrong = HelloRequest {
        from: good.to,
        ..good
    };
    assert!(
        refusal(&founders, wrong)
            .await
            .contains("member ID mismatch")
    );
    let wrong = HelloRequest {
        incarnation: good.incarnation ^ 1,
        ..good
    };
    let text = refusal(&founders, wrong).await;
    assert!(
        text.contains(&format!("etcdctl member remove {:x}", good.from)),
        "{text}"
    );
    founders.stop().await;
}

#[tokio::test]
async fn frames_without_a_session_are_refused() {
    let founders = Founders::new(1).await;
    let mut peer = PeerClient::new(channel(&founders).await);
    let frame = Frame {
        method: 1,
        body: Bytes::from_static(b"x"),
    };
    let status = peer.call(frame.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let mut request = Request::new(frame);
    let unknown = "0123".parse().unwrap();
    request.metadata_mut().insert("catena-session", unknown);
    let status = peer.call(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    founders.stop().await;
}

#[tokio::test]
async fn hostile_frames_are_answered_and_harm_nothing() {
    let founders = Founders::new(3).await;
    let session = greet(&founders, greeting(&founders)).await.unwrap();
    let mut peer = PeerClient::new(channel(&founders).await);
    let bodies = [
        Bytes::new(),
        Bytes::from_static(b"\x01"),
        Bytes::from(vec![0xff; 64]),
        Bytes::from(vec![0x01; 4096]),
    ];
    for method in 0..=20 {
        for body in &bodies {
            let mut request = Request::new(Frame {
                method,
                body: body.clone(),
            });
            let session = session.parse().unwrap();
            request.metadata_mut().insert("catena-session", session);
            // Answered by an error, or by an answer that says no; in any case answered.
            let _answer = peer.call(request).await;
        }
    }
    put_surely(&founders.running[0].node, "still there").await;
    founders.stop().await;
}

#[tokio::test]
async fn calls_in_anothers_name_are_refused() {
    let founders = Founders::new(3).await;
    let service = founders.running[0].node.service();
    // A vote request of the second founder, sent by the third.
    let body = {
        #[derive(serde::Serialize)]
        struct Vote {
            term: u64,
            candidate: u64,
            committed: bool,
        }
        let vote = Vote {
            term: 1000,
            candidate: founders.running[1].identity.member_id,
            committed: false,
        };
        catena_store::codec::encode(&(vote, None::<(u64, u64)>, false))
    };
    let from = founders.running[2].identity.member_id;
    let answer = service.call(from, 1, body).await;
    let Err(NetError::Refused(text)) = answer else {
        panic!("answered: {answer:?}");
    };
    assert!(text.contains("another member's name"), "{text}");
    founders.stop().await;
}

#[tokio::test]
async fn wiped_member_is_told_to_be_removed_and_stops() {
    let mut founders = Founders::new(3).await;
    let wiped = founders.running.remove(2);
    wait_until("everybody to know it", || {
        wiped.node.reader().members().present.len() == 3 && wiped.node.status().leader.is_some()
    })
    .await;
    put_surely(&wiped.node, "last").await;
    wiped.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let (listener, _) = listen().await;
    let initial = Some(founders.members.clone());
    let member = founders.members[2].clone();
    let wiped = Running::start(dir.path(), listener, founders.cluster_id, &member, initial).await;
    let stopped = tokio::time::timeout(PATIENCE, wiped.node.stopped()).await;
    let Ok(Stop::Refused(text)) = stopped else {
        panic!("the wiped member goes on, or stopped for another reason: {stopped:?}");
    };
    assert!(text.contains("etcdctl member remove"), "{text}");
    wiped.stop().await;
    put_surely(&founders.running[0].node, "goes on").await;
    founders.stop().await;
}

#[tokio::test]
async fn removed_member_is_refused_when_it_comes_back() {
    let mut founders = Founders::new(3).await;
    let removed = founders.running.remove(2);
    let id = removed.identity.member_id;
    removed.stop().await;
    loop {
        if founders.running[0].node.remove_member(id).await.is_ok() {
            break;
        }
    }
    let hello = HelloRequest {
        from: id,
        ..greeting(&founders)
    };
    assert!(
        refusal(&founders, hello)
            .await
            .contains("was removed from the cluster")
    );
    let (listener, _) = listen().await;
    let member = founders.members[2].clone();
    let dir = founders.dirs[2].path();
    let back = Running::start(dir, listener, founders.cluster_id, &member, None).await;
    assert_eq!(back.node.stopped().await, Stop::Removed);
    back.stop().await;
    founders.stop().await;
}

#[tokio::test]
async fn unreachable_peer_is_called_so() {
    let founders = Founders::new(1).await;
    let call = founders.running[0]
        .transport
        .call(42, 1, Bytes::new(), Duration::from_secs(1));
    let Err(NetError::Unreachable(text)) = call.await else {
        panic!("reached a member that nobody knows");
    };
    assert!(text.contains("no peer URL of 2a is known"), "{text}");
    founders.stop().await;
}

#[tokio::test]
async fn peer_that_has_restarted_is_greeted_anew_within_the_call() {
    let mut founders = Founders::new(3).await;
    let of_two = founders.running.remove(2);
    let (from, to) = (&founders.running[0].transport, of_two.identity.member_id);
    // Looked at, and refused.
    let unknown = || from.call(to, 99, Bytes::new(), PATIENCE);
    assert!(matches!(unknown().await, Err(NetError::Refused(_))));
    let address = of_two.url.trim_start_matches("http://").to_owned();
    of_two.stop().await;
    let listener = wait_for_port(&address).await;
    let member = founders.members[2].clone();
    let dir = founders.dirs[2].path();
    let back = Running::start(dir, listener, founders.cluster_id, &member, None).await;
    // A leader has met it while it was away, and pauses.
    while let Err(NetError::Unreachable(text)) = unknown().await {
        assert!(text.contains("transport error"), "{text}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    back.stop().await;
    founders.stop().await;
}

/// Runs tasks elsewhere, as members do, and returns from the first `spawn` of an attempt to connect only when the next attempt has
/// begun, or could not.
struct SlowToReturn {
    tasks: SystemTasks,
    attempts: AtomicUsize,
}

impl Tasks for SlowToReturn {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let task = self.tasks.spawn(name, future);
        if name == "connect" && self.attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            let until = Instant::now() + Duration::from_secs(1);
            while self.attempts.load(Ordering::SeqCst) < 2 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Time for the other caller to keep its handle.
            std::thread::sleep(Duration::from_millis(50));
        }
        task
    }

    fn spawn_thread(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        self.tasks.spawn_thread(name, future);
    }

    fn blocking(
        &self,
        name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        self.tasks.blocking(name, work)
    }
}

/// Two callers, of whom one is slow: the second attempt to connect must not be given up when the first caller goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn attempt_to_connect_is_not_lost_between_callers() {
    let (closed, nobody) = listen().await;
    drop(closed);
    let (_never_accepts, silent) = listen().await;
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tokio::runtime::Runtime::new().unwrap();
    let runtime = Runtime {
        tasks: Arc::new(SlowToReturn {
            tasks: SystemTasks::on(elsewhere.handle().clone()),
            attempts: AtomicUsize::new(0),
        }),
        ..Runtime::system()
    };
    let config = Config::new(
        dir.path(),
        identity::open(&runtime, dir.path(), 1, 1).unwrap(),
    );
    let addresses = config.addresses.clone();
    addresses.replace([(2, vec![nobody.clone()])]);
    let transport = Transport::new(runtime, &config).unwrap();

    let first = tokio::spawn({
        let transport = transport.clone();
        async move { transport.call(2, 1, Bytes::new(), PATIENCE).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    addresses.replace([(2, vec![silent])]);
    while !first.is_finished() {
        let _fails = transport
            .call(2, 1, Bytes::new(), Duration::from_millis(20))
            .await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    addresses.replace([(2, vec![nobody])]);
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = transport.call(2, 1, Bytes::new(), PATIENCE).await;
        let Err(NetError::Unreachable(text)) = answer else {
            panic!("{answer:?} of a member that is not there");
        };
        assert!(!text.contains("still connecting"), "nobody connects");
        if text.contains("transport error") {
            break;
        }
        assert!(Instant::now() < until, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    elsewhere.shutdown_background();
}

async fn wait_for_port(address: &str) -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind(address).await {
            return listener;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
