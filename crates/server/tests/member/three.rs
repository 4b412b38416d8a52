//! Three members: what one passes on to another, and what survives a change of leader.

use std::time::{Duration, Instant};

use catena_api::etcd::etcdserverpb as pb;
use catena_runtime::Runtime;
use catena_server::{InitialState, Member, ServerConfig, Url};
use catena_store::backend::Engine;
use tempfile::TempDir;
use tokio_stream::{StreamExt, iter, wrappers::ReceiverStream};
use tonic::{Code, Request};

use crate::one::{One, assert_error, connect, get, in_time, put};

/// Members of one cluster, each as if it stood alone.
struct Cluster {
    members: Vec<One>,
    /// Names and peer URLs.
    initial: Vec<(String, String)>,
}

/// A port that is free now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn config(dir: &TempDir, name: &str, port: u16, initial: &[(String, String)]) -> ServerConfig {
    let mut config = crate::one::config(dir);
    config.name = name.to_owned();
    config.listen_peer = vec![Url::http("127.0.0.1", port)];
    config.advertise_peer = vec![format!("http://127.0.0.1:{port}")];
    config.initial_cluster = initial.to_vec();
    config.heartbeat = Duration::from_millis(50);
    config.election = Duration::from_millis(500);
    config.engine = Engine::Memory;
    config
}

async fn start(config: ServerConfig, dir: TempDir) -> One {
    let member = Member::start(config, Runtime::system()).await.unwrap();
    let channel = connect(&member).await;
    One {
        member,
        channel,
        dir,
    }
}

impl Cluster {
    async fn start() -> Self {
        let ports = [free_port(), free_port(), free_port()];
        let initial: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(number, port)| (format!("m{number}"), format!("http://127.0.0.1:{port}")))
            .collect();
        let mut members = Vec::new();
        for (number, port) in ports.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let config = config(&dir, &format!("m{number}"), port, &initial);
            members.push(start(config, dir).await);
        }
        for one in &members {
            in_time(one.member.ready()).await;
        }
        Self { members, initial }
    }

    /// Place of the member that leads; waits until one does.
    async fn leader(&self) -> usize {
        in_time(async {
            loop {
                if let Some(place) = self.members.iter().position(|one| one.member.is_leader()) {
                    return place;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    async fn follower(&self) -> usize {
        (self.leader().await + 1) % self.members.len()
    }

    /// Adds a member and starts it, not yet ready.
    async fn join(&mut self, learner: bool) -> usize {
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let add = pb::MemberAddRequest {
            peer_urls: vec![url.clone()],
            is_learner: learner,
        };
        in_time(async {
            // Members that have just met are not yet connected for as long as the check wants.
            while let Err(status) = self.members[0].cluster().member_add(add.clone()).await {
                assert_eq!(status.message(), "etcdserver: unhealthy cluster");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
        .await;
        self.initial.push(("joined".to_owned(), url));
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir, "joined", port, &self.initial);
        config.initial_state = InitialState::Existing;
        self.members.push(start(config, dir).await);
        self.members.len() - 1
    }
}

async fn remaining(one: &One, id: i64) -> i64 {
    let request = pb::LeaseTimeToLiveRequest { id, keys: false };
    let shown = in_time(one.lease().lease_time_to_live(request))
        .await
        .unwrap();
    shown.into_inner().ttl
}

async fn renew(one: &One, id: i64) -> i64 {
    let requests = iter([pb::LeaseKeepAliveRequest { id }]);
    let mut answers = one
        .lease()
        .lease_keep_alive(requests)
        .await
        .unwrap()
        .into_inner();
    in_time(answers.next()).await.unwrap().unwrap().ttl
}

async fn grant(one: &One, id: i64, ttl: i64) {
    let request = pb::LeaseGrantRequest { id, ttl };
    one.lease().lease_grant(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_answers_with_the_newest_state() {
    let cluster = Cluster::start().await;
    for (number, writer) in cluster.members.iter().enumerate() {
        let written = writer.put("a", &number.to_string()).await;
        assert_eq!(written.member_id, writer.member.id());
        for reader in &cluster.members {
            let read = reader.get("a").await;
            assert_eq!(read.kvs[0].value(), number.to_string());
            assert_eq!(read.header.unwrap().member_id, reader.member.id());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follower_asks_the_leader_about_leases() {
    let cluster = Cluster::start().await;
    let follower = &cluster.members[cluster.follower().await];
    grant(follower, 5, 60).await;
    assert!((58..=60).contains(&remaining(follower, 5).await));
    assert_eq!(renew(follower, 5).await, 60);
    assert_eq!(renew(follower, 6).await, 0);
    assert_eq!(remaining(follower, 6).await, -1);
    grant(follower, 7, 1).await;
    let attached = pb::PutRequest {
        lease: 7,
        ..put("a", "1")
    };
    follower.kv().put(attached).await.unwrap();
    in_time(async {
        while follower.get("a").await.count > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_leader_hands_over_at_once_and_leases_keep_their_time() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    grant(&cluster.members[leader], 5, 600).await;
    let granted = Instant::now();
    in_time(async {
        while granted.elapsed() < Duration::from_millis(2500) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let stopped = cluster.members.remove(leader);
    let began = Instant::now();
    let stopping = tokio::spawn(stopped.stop());
    let next = cluster.leader().await;
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    cluster.members[next].put("a", "1").await;
    // 600 s less what has passed, and an election timeout on top.
    let left = remaining(&cluster.members[next], 5).await;
    assert!((595..=598).contains(&left), "{left}");
    in_time(stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leader_leaves_the_time_of_leases_in_the_log() {
    let mut cluster = Cluster::start().await;
    let leader = cluster.leader().await;
    grant(&cluster.members[leader], 5, 20).await;
    in_time(async {
        while remaining(&cluster.members[leader], 5).await > 16 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    drop(cluster.members.remove(leader));
    // A note each second, and an election timeout on top: far from the 20 s of the grant.
    let left = remaining(&cluster.members[0], 5).await;
    assert!((12..=18).contains(&left), "{left}");
    assert_eq!(renew(&cluster.members[0], 5).await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_moved_by_the_leader_alone() {
    let cluster = Cluster::start().await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let target = pb::MoveLeaderRequest {
        target_id: cluster.members[follower].member.id(),
    };
    let refused = cluster.members[follower]
        .maintenance()
        .move_leader(target)
        .await;
    assert_error(refused, Code::FailedPrecondition, "etcdserver: not leader");
    cluster.members[leader]
        .maintenance()
        .move_leader(target)
        .await
        .unwrap();
    assert!(cluster.members[follower].member.is_leader());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_want_a_leader_are_refused_without_one() {
    let mut cluster = Cluster::start().await;
    let left = cluster.members.remove(0);
    let wants_leader = |mut request: Request<ReceiverStream<pb::WatchRequest>>| {
        request
            .metadata_mut()
            .insert("hasleader", "true".parse().unwrap());
        request
    };
    let (requests, received) = tokio::sync::mpsc::channel(1);
    let request = wants_leader(Request::new(ReceiverStream::new(received)));
    let mut stream = left.watch().watch(request).await.unwrap().into_inner();
    drop(cluster);
    let ended = in_time(stream.message()).await;
    assert_error(ended, Code::Unavailable, "etcdserver: no leader");
    drop(requests);
    let mut unary = Request::new(get("a"));
    unary
        .metadata_mut()
        .insert("hasleader", "true".parse().unwrap());
    assert_error(
        left.kv().range(unary).await,
        Code::Unavailable,
        "etcdserver: no leader",
    );
    let serializable = pb::RangeRequest {
        serializable: true,
        ..get("a")
    };
    left.kv().range(serializable).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fourth_member_joins_a_running_cluster() {
    let mut cluster = Cluster::start().await;
    cluster.members[0].put("a", "1").await;
    let joined = cluster.join(false).await;
    let joined = &cluster.members[joined];
    in_time(joined.member.ready()).await;
    assert_eq!(joined.get("a").await.kvs[0].value(), "1");
    assert_eq!(joined.put("a", "2").await.revision, 3);
    let list = pb::MemberListRequest { linearizable: true };
    let list = joined
        .cluster()
        .member_list(list)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(list.members.len(), 4);
    assert!(
        list.members
            .iter()
            .all(|member| !member.client_urls.is_empty())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn learner_answers_little_until_it_is_promoted() {
    let mut cluster = Cluster::start().await;
    cluster.members[0].put("a", "1").await;
    let joined = cluster.join(true).await;
    let learner = &cluster.members[joined];
    in_time(learner.member.ready()).await;
    let text = "etcdserver: rpc not supported for learner";
    assert_error(
        learner.kv().range(get("a")).await,
        Code::FailedPrecondition,
        text,
    );
    assert_error(
        learner.kv().put(put("a", "2")).await,
        Code::FailedPrecondition,
        text,
    );
    let list = pb::MemberListRequest {
        linearizable: false,
    };
    assert_error(
        learner.cluster().member_list(list).await,
        Code::FailedPrecondition,
        text,
    );
    let status = learner
        .maintenance()
        .status(pb::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.is_learner);
    let serializable = pb::RangeRequest {
        serializable: true,
        ..get("a")
    };
    in_time(async {
        while learner
            .kv()
            .range(serializable.clone())
            .await
            .unwrap()
            .into_inner()
            .count
            == 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let promote = pb::MemberPromoteRequest {
        id: learner.member.id(),
    };
    in_time(async {
        while cluster.members[1]
            .cluster()
            .member_promote(promote)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    in_time(async {
        while learner.kv().range(get("a")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_count_what_passes_between_them() {
    let cluster = Cluster::start().await;
    let leader = &cluster.members[cluster.leader().await];
    let peer = cluster.members[cluster.follower().await].member.id();
    in_time(async {
        loop {
            leader.put("a", "1").await;
            let (_, text) = crate::http::get(leader, "/metrics").await;
            let value = |name: &str| -> f64 {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.map_or(0.0, |value| value.trim().parse().unwrap())
            };
            let counted = [
                format!("etcd_network_peer_sent_bytes_total{{To=\"{peer:x}\"}}"),
                format!("etcd_network_peer_received_bytes_total{{From=\"{peer:x}\"}}"),
                format!("etcd_network_peer_round_trip_time_seconds_count{{To=\"{peer:x}\"}}"),
                "etcd_disk_wal_fsync_duration_seconds_count".to_owned(),
                "etcd_disk_backend_commit_duration_seconds_count".to_owned(),
            ];
            if counted.iter().all(|name| value(name) > 0.0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_that_stops_as_a_whole_does_not_wait_for_itself() {
    let cluster = Cluster::start().await;
    cluster.leader().await;
    let began = Instant::now();
    let stops = cluster.members.into_iter().map(One::stop);
    let stops: Vec<_> = stops.map(tokio::spawn).collect();
    for stop in stops {
        stop.await.unwrap();
    }
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}
