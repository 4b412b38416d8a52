//! HTTP/1 on the port of gRPC.

use catena_api::etcd::etcdserverpb as pb;
use catena_server::Url;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::one::{One, in_time};

/// An answer: status, head and body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

async fn ask(one: &One, method: &str, path: &str) -> Answer {
    let address = one.member.client_addrs()[0];
    let stream = TcpStream::connect(address).await.unwrap();
    ask_over(stream, method, path).await
}

async fn ask_over(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    in_time(stream.read_to_string(&mut text)).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

pub(crate) async fn get(one: &One, path: &str) -> (u16, String) {
    let answer = ask(one, "GET", path).await;
    (answer.status, answer.body)
}

async fn alarm(one: &One, action: pb::alarm_request::AlarmAction, alarm: pb::AlarmType) {
    let request = pb::AlarmRequest {
        action: action.into(),
        member_id: one.member.id(),
        alarm: alarm.into(),
    };
    one.maintenance().alarm(request).await.unwrap();
}

#[tokio::test]
async fn health_follows_alarms() {
    use pb::alarm_request::AlarmAction::Activate;
    let one = One::start().await;
    let well = (200, r#"{"health":"true","reason":""}"#.to_owned());
    assert_eq!(get(&one, "/health").await, well);
    alarm(&one, Activate, pb::AlarmType::Nospace).await;
    let ill = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n".to_owned();
    assert_eq!(get(&one, "/health").await, (503, ill));
    assert_eq!(get(&one, "/health?exclude=NOSPACE").await, well);
    assert_eq!(
        get(
            &one,
            "/health?exclude=CORRUPT&exclude=NOSPACE&serializable=true"
        )
        .await,
        well
    );
    let post = ask(&one, "POST", "/health").await;
    assert_eq!(post.status, 405);
    assert!(post.head.contains("allow: get"));
}

#[tokio::test]
async fn probes_report_their_checks() {
    use pb::alarm_request::AlarmAction::Activate;
    let one = One::start().await;
    assert_eq!(get(&one, "/livez").await, (200, "ok\n".to_owned()));
    let verbose = ask(&one, "GET", "/readyz?verbose").await;
    assert_eq!(verbose.status, 200);
    assert!(verbose.head.contains("x-content-type-options: nosniff"));
    for check in [
        "data_corruption",
        "serializable_read",
        "linearizable_read",
        "non_learner",
    ] {
        assert!(
            verbose.body.contains(&format!("[+]{check} ok\n")),
            "{}",
            verbose.body
        );
        let single = get(&one, &format!("/readyz/{check}")).await;
        assert_eq!(single, (200, "ok\n".to_owned()));
    }
    assert_eq!(get(&one, "/readyz/other").await.0, 404);
    alarm(&one, Activate, pb::AlarmType::Corrupt).await;
    let (status, body) = get(&one, "/readyz").await;
    assert_eq!(status, 503);
    assert!(
        body.contains("[-]data_corruption failed: alarm activated: CORRUPT\n"),
        "{body}"
    );
    assert!(body.contains("[+]linearizable_read ok\n"), "{body}");
    assert_eq!(get(&one, "/readyz?exclude=data_corruption").await.0, 200);
    assert_eq!(get(&one, "/livez").await.0, 200);
}

#[tokio::test]
async fn version_is_announced_and_other_paths_are_not_found() {
    let one = One::start().await;
    let decided = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    in_time(async {
        while get(&one, "/version").await.1 != decided {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(get(&one, "/nothing").await.0, 404);
}

#[tokio::test]
async fn metrics_have_the_names_that_alerts_use() {
    let one = One::start().await;
    one.put("a", "1").await;
    let (status, text) = get(&one, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_pending 0",
        "etcd_server_proposals_failed_total 0",
        "etcd_server_quota_backend_bytes 2147483648",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "etcd_disk_backend_commit_duration_seconds_bucket",
        "etcd_mvcc_put_total 1",
        "etcd_mvcc_range_total 0",
        "etcd_mvcc_delete_total 0",
        "etcd_mvcc_txn_total 0",
        "process_resident_memory_bytes",
        r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
        r#"grpc_server_handled_total{grpc_code="Unavailable",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0"#,
        r#"grpc_server_msg_received_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
    ] {
        assert!(
            text.lines().any(|found| found.starts_with(line)),
            "{line} in {text}"
        );
    }
}

#[tokio::test]
async fn unix_socket_serves_and_goes_with_the_member() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    // What a killed member left.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let unix = Url::Unix {
        path: path.display().to_string(),
    };
    let one = One::start_with(|config| config.listen_client.push(unix)).await;
    let stream = UnixStream::connect(&path).await.unwrap();
    assert_eq!(ask_over(stream, "GET", "/health").await.status, 200);
    one.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn split_ports_serve_one_kind_each() {
    let one = One::start_with(|config| {
        config.listen_client_http = vec![Url::http("127.0.0.1", 0)];
        config.listen_client = vec![Url::http("127.0.0.1", 0)];
    })
    .await;
    one.put("a", "1").await;
    assert_eq!(get(&one, "/health").await.0, 404);
}
