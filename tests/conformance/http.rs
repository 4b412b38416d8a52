//! HTTP on the client port, and gRPC's own health service.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use catena_api::etcd::{
    etcdserverpb::{AlarmRequest, MemberAddRequest},
    health::HealthCheckRequest,
};
use framework::{Answer, get, request, wait_until};
use serde_json::Value;
use tonic::Code;

use crate::session::{Case, Session, case};

/// etcd looks for the members' versions every 5 s.
const DECIDED_WITHIN: Duration = Duration::from_secs(15);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(health_is_true),
        case!(health_only_answers_get),
        case!(health_tells_alarms_unless_excluded),
        case!(livez_and_readyz),
        case!(checks_can_be_run_alone),
        case!(corruption_fails_readyz_only),
        case!(version_is_json),
        case!(metrics_have_the_names_that_alerts_need),
        case!(unknown_paths_are_not_found),
        case!(grpc_health_serves),
        case!(request_metadata_is_accepted),
        case!(learner_that_is_away_does_not_matter)
            .members(1)
            .fresh(&[]),
    ]
}

async fn ask(s: &Session<'_>, path: &str) -> Result<Answer> {
    get(&s.cluster.members[0].address(), path).await
}

async fn health_is_true(s: &Session<'_>) -> Result<()> {
    for path in [
        "/health",
        "/health?serializable=true",
        "/health?exclude=NOSPACE",
    ] {
        let answer = ask(s, path).await?;
        ensure!(
            answer.status == 200 && answer.body == r#"{"health":"true","reason":""}"#,
            "{path}: {answer:?}"
        );
    }
    Ok(())
}

async fn health_only_answers_get(s: &Session<'_>) -> Result<()> {
    let answer = request(&s.cluster.members[0].address(), "POST", "/health", "").await?;
    ensure!(answer.status == 405);
    ensure!(
        answer
            .headers
            .get("allow")
            .is_some_and(|allow| allow == "GET"),
        "{answer:?}"
    );
    Ok(())
}

async fn alarm(s: &Session<'_>, action: i32, alarm: i32) -> Result<()> {
    let request = AlarmRequest {
        action,
        member_id: 5,
        alarm,
    };
    let client = s.cluster.client(0)?;
    client.maintenance().alarm(request).await?;
    Ok(())
}

async fn health_tells_alarms_unless_excluded(s: &Session<'_>) -> Result<()> {
    for (kind, name) in [(1, "NOSPACE"), (2, "CORRUPT")] {
        alarm(s, 1, kind).await?;
        let answer = ask(s, "/health").await?;
        let body: Value = serde_json::from_str(&answer.body)?;
        ensure!(
            answer.status == 503 && body["health"] == "false",
            "{answer:?}"
        );
        ensure!(body["reason"] == format!("ALARM {name}"), "{answer:?}");
        ensure!(ask(s, &format!("/health?exclude={name}")).await?.status == 200);
        alarm(s, 2, kind).await?;
    }
    ensure!(ask(s, "/health").await?.status == 200);
    Ok(())
}

async fn livez_and_readyz(s: &Session<'_>) -> Result<()> {
    for (path, checks) in [
        ("/livez", vec!["serializable_read"]),
        (
            "/readyz",
            vec![
                "data_corruption",
                "serializable_read",
                "linearizable_read",
                "non_learner",
            ],
        ),
    ] {
        let answer = ask(s, path).await?;
        ensure!(answer.status == 200 && answer.body == "ok\n", "{answer:?}");
        let content = answer
            .headers
            .get("content-type")
            .context("a content type")?;
        ensure!(
            content == "text/plain; charset=utf-8"
                && answer.headers.contains_key("x-content-type-options")
        );
        let verbose = ask(s, &format!("{path}?verbose")).await?;
        ensure!(verbose.status == 200 && verbose.body.ends_with("ok\n"));
        for check in &checks {
            ensure!(
                verbose.body.contains(&format!("[+]{check} ok\n")),
                "{verbose:?}"
            );
        }
        ensure!(verbose.body.lines().count() == checks.len() + 1);
        let without = ask(
            s,
            &format!("{path}?verbose&exclude=serializable_read&exclude=nonsense"),
        )
        .await?;
        ensure!(
            without.status == 200 && !without.body.contains("serializable_read"),
            "{without:?}"
        );
        ensure!(
            request(&s.cluster.members[0].address(), "POST", path, "")
                .await?
                .status
                == 405
        );
    }
    Ok(())
}

async fn checks_can_be_run_alone(s: &Session<'_>) -> Result<()> {
    for path in [
        "/livez/serializable_read",
        "/readyz/linearizable_read",
        "/readyz/data_corruption",
        "/readyz/non_learner",
    ] {
        let answer = ask(s, path).await?;
        ensure!(
            answer.status == 200 && answer.body == "ok\n",
            "{path}: {answer:?}"
        );
    }
    ensure!(ask(s, "/readyz/nonsense").await?.status == 404);
    Ok(())
}

async fn corruption_fails_readyz_only(s: &Session<'_>) -> Result<()> {
    alarm(s, 1, 2).await?;
    let answer = ask(s, "/readyz").await?;
    ensure!(
        answer.status == 503 && answer.body.contains("[-]data_corruption failed: "),
        "{answer:?}"
    );
    ensure!(answer.body.contains("[+]serializable_read ok\n"));
    ensure!(ask(s, "/readyz?exclude=data_corruption").await?.status == 200);
    ensure!(ask(s, "/livez").await?.status == 200);
    alarm(s, 2, 2).await
}

async fn version_is_json(s: &Session<'_>) -> Result<()> {
    decided(s).await?;
    let answer = ask(s, "/version").await?;
    let body: Value = serde_json::from_str(&answer.body)?;
    ensure!(answer.status == 200);
    for (field, starts) in [
        ("etcdserver", "3.7."),
        ("etcdcluster", "3.7.0"),
        ("storage", "3.7.0"),
    ] {
        let value = body[field].as_str().unwrap_or_default();
        ensure!(value.starts_with(starts), "{field}: {}", answer.body);
    }
    Ok(())
}

/// The leader decides the version of a new cluster once it has seen all members; then each member brings its storage up to it.
async fn decided(s: &Session<'_>) -> Result<()> {
    wait_until(
        "the cluster version is decided",
        DECIDED_WITHIN,
        async || {
            let answer = ask(s, "/version").await.ok()?;
            let body: Value = serde_json::from_str(&answer.body).ok()?;
            let is_current = |field: &str| body[field] == "3.7.0";
            (is_current("etcdcluster") && is_current("storage")).then_some(())
        },
    )
    .await
}

/// The names that alerts, dashboards and common scripts depend on.
const METRICS: [&str; 26] = [
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_failed_total",
    "etcd_server_quota_backend_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_wal_fsync_duration_seconds_sum",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_disk_backend_commit_duration_seconds_sum",
    "etcd_disk_backend_commit_duration_seconds_count",
    "grpc_server_handled_total",
    "grpc_server_started_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "etcd_server_is_leader",
    "etcd_server_version",
    "etcd_cluster_version",
    "etcd_mvcc_put_total",
    "etcd_mvcc_range_total",
];

async fn metrics_have_the_names_that_alerts_need(s: &Session<'_>) -> Result<()> {
    decided(s).await?;
    s.puts(&[("k", "v")]).await?;
    s.cluster.client(0)?.get("k").await?;
    let answer = ask(s, "/metrics").await?;
    ensure!(answer.status == 200);
    let content = answer
        .headers
        .get("content-type")
        .context("a content type")?;
    ensure!(
        content.to_str()?.starts_with("text/plain; version=0.0.4"),
        "{content:?}"
    );
    let names: Vec<_> = answer
        .body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    for name in METRICS {
        let found = names.iter().any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        ensure!(found, "{name} is missing");
    }
    let line = |start: &str| names.iter().any(|line| line.starts_with(start));
    ensure!(line("etcd_server_has_leader 1"));
    ensure!(line(r#"etcd_cluster_version{cluster_version="3.7"} 1"#));
    let range = r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} "#;
    ensure!(line(range), "label names are in alphabetical order");
    Ok(())
}

async fn unknown_paths_are_not_found(s: &Session<'_>) -> Result<()> {
    ensure!(ask(s, "/nonsense").await?.status == 404);
    Ok(())
}

async fn grpc_health_serves(s: &Session<'_>) -> Result<()> {
    let check = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let response = s.client.health().check(check("")).await?.into_inner();
    ensure!(response.status == 1, "SERVING: {response:?}");
    let error = s
        .client
        .health()
        .check(check("nonsense"))
        .await
        .err()
        .context("an error")?;
    ensure!(error.code() == Code::NotFound && error.message() == "unknown service");
    let mut stream = s.client.health().watch(check("")).await?.into_inner();
    ensure!(stream.message().await?.context("a status")?.status == 1);
    Ok(())
}

async fn request_metadata_is_accepted(s: &Session<'_>) -> Result<()> {
    let mut request = tonic::Request::new(framework::message::one("k"));
    for (name, value) in [
        ("hasleader", "true"),
        ("client-api-version", "3.7"),
        ("x-unknown", "1"),
    ] {
        request.metadata_mut().insert(name, value.parse()?);
    }
    s.client.kv().range(request).await?;
    Ok(())
}

async fn learner_that_is_away_does_not_matter(s: &Session<'_>) -> Result<()> {
    let peer_urls = vec!["http://127.0.0.1:9".to_owned()];
    s.client
        .cluster()
        .member_add(MemberAddRequest {
            peer_urls,
            is_learner: true,
        })
        .await?;
    wait_until(
        "a learner away does not matter",
        Duration::from_secs(5),
        async || {
            ask(s, "/readyz")
                .await
                .ok()
                .filter(|answer| answer.status == 200)
        },
    )
    .await?;
    Ok(())
}
