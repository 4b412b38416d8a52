//! Requests that no honest client makes, and what the real etcd answers to them.
//!
//! The table is sent to etcd 3.7.1 and to a member of ours; code and text must be equal, line by line. Where ours differs on
//! purpose the line says so.

use anyhow::{Result, ensure};
use catena_api::etcd::etcdserverpb::{
    self as pb, compare::CompareTarget, watch_request::RequestUnion,
};
use framework::{
    Client, Cluster, Setup, Target, WatchStream,
    message::Op,
    message::{between, delete, one, put, txn},
    peers::{Missing, Release},
};
use tonic::Status;

use crate::case::{Case, Stand, case};

pub(crate) fn cases() -> Vec<Case> {
    vec![case!(answers_are_etcds)]
}

/// Every line of the table, on both.
async fn answers_are_etcds(stand: &Stand) -> Result<()> {
    let ours = table(&stand.client()?).await?;
    let etcd = match Cluster::start(Setup::new(Target::Etcd(Release::V37), 1)).await {
        Ok(etcd) => etcd,
        Err(error) => {
            let missing = error.downcast::<Missing>()?;
            framework::leave_out("hostile requests beside etcd", &missing)?;
            return Ok(());
        }
    };
    let theirs = table(&etcd.client(0)?).await?;
    let different: Vec<_> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .collect();
    ensure!(different.is_empty(), "ours and etcd's: {different:#?}");
    Ok(())
}

/// What a member says to each line, as `line: code text`.
async fn table(client: &Client) -> Result<Vec<String>> {
    client.put("there", "1").await?;
    client.put("there", "2").await?;
    client.compact(2).await?;
    let mut said = ranges(client).await;
    said.extend(writes(client).await);
    said.extend(transactions(client).await);
    said.extend(leases(client).await);
    said.extend(watches(client).await?);
    Ok(said)
}

fn line<T>(name: &str, answer: Result<T, Status>, told: impl Fn(T) -> String) -> String {
    match answer {
        Ok(answer) => format!("{name}: {}", told(answer)),
        Err(status) => format!("{name}: {:?} {}", status.code(), status.message()),
    }
}

async fn ranges(client: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    let requests = [
        ("empty key", one("")),
        ("end before key", between("z", "a")),
        ("end is key", between("a", "a")),
        (
            "negative limit",
            pb::RangeRequest {
                limit: -3,
                ..one("there")
            },
        ),
        (
            "negative revision",
            pb::RangeRequest {
                revision: -3,
                ..one("there")
            },
        ),
        (
            "future revision",
            pb::RangeRequest {
                revision: 1 << 40,
                ..one("there")
            },
        ),
        (
            "compacted revision",
            pb::RangeRequest {
                revision: 1,
                ..one("there")
            },
        ),
        (
            "odd order",
            pb::RangeRequest {
                sort_order: 77,
                ..one("there")
            },
        ),
        (
            "odd target",
            pb::RangeRequest {
                sort_target: -1,
                ..one("there")
            },
        ),
    ];
    for (name, request) in requests {
        let count = |answer: pb::RangeResponse| format!("{} of {}", answer.kvs.len(), answer.count);
        lines.push(line(name, client.range(request).await, count));
    }
    lines
}

async fn writes(client: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    let unknown_lease = pb::PutRequest {
        lease: 99,
        ..put("k", "v")
    };
    let value = pb::PutRequest {
        ignore_value: true,
        ..put("there", "v")
    };
    let lease = pb::PutRequest {
        ignore_lease: true,
        lease: 5,
        ..put("there", "v")
    };
    let missing = pb::PutRequest {
        ignore_value: true,
        ..put("missing", "")
    };
    let missing_lease = pb::PutRequest {
        ignore_lease: true,
        ..put("missing", "v")
    };
    let puts = [
        ("put of an empty key", put("", "v")),
        ("put with an unknown lease", unknown_lease),
        ("put with a value to ignore", value),
        ("put with a lease to ignore", lease),
        ("put that keeps the value of a missing key", missing),
        ("put that keeps the lease of a missing key", missing_lease),
    ];
    for (name, request) in puts {
        lines.push(line(name, client.put_with(request).await, |_| {
            "ok".to_owned()
        }));
    }
    for (name, request) in [
        ("delete of an empty key", delete("", "")),
        ("delete of nothing", delete("z", "a")),
    ] {
        let deleted = |answer: pb::DeleteRangeResponse| answer.deleted.to_string();
        lines.push(line(name, client.delete_with(request).await, deleted));
    }
    for revision in [-1, 0, 1, 1 << 40] {
        let answer = client.compact(revision).await;
        lines.push(line(&format!("compact {revision}"), answer, |_| {
            "ok".to_owned()
        }));
    }
    lines
}

fn odd_compare(change: impl FnOnce(&mut pb::Compare)) -> pb::TxnRequest {
    let mut compare = pb::Compare {
        key: "there".into(),
        ..Default::default()
    };
    change(&mut compare);
    txn(vec![compare], vec![], vec![])
}

async fn transactions(client: &Client) -> Vec<String> {
    let puts = |count: usize| (0..count).map(|n| put(format!("p{n}"), "v").op()).collect();
    let twice = vec![put("t", "1").op(), put("t", "2").op()];
    let inside = vec![delete("a", "z").op(), put("t", "2").op()];
    let future = pb::RangeRequest {
        revision: 1 << 40,
        ..one("there")
    };
    let nested = |ops: usize| {
        let mut inner = txn(vec![], vec![put("n", "v").op()], vec![]);
        for level in 1..ops {
            inner = txn(
                vec![],
                vec![inner.op(), put(format!("n{level}"), "v").op()],
                vec![],
            );
        }
        inner
    };
    let requests = [
        ("no operation", txn(vec![], vec![], vec![])),
        (
            "empty operation",
            txn(vec![], vec![pb::RequestOp { request: None }], vec![]),
        ),
        ("128 operations", txn(vec![], puts(128), vec![])),
        ("129 operations", txn(vec![], puts(129), vec![])),
        ("129 in the other branch", txn(vec![], vec![], puts(129))),
        ("nested within the budget", nested(20)),
        ("a key put twice", txn(vec![], twice, vec![])),
        ("a key put and deleted", txn(vec![], inside, vec![])),
        (
            "a put before a future read",
            txn(vec![], vec![put("w", "v").op(), future.op()], vec![]),
        ),
        (
            "compare without key",
            odd_compare(|compare| compare.key = "".into()),
        ),
        ("compare without value", odd_compare(|_| {})),
        (
            "compare of odd result",
            odd_compare(|compare| compare.result = 42),
        ),
        (
            "compare of odd target",
            odd_compare(|compare| compare.target = 42),
        ),
        (
            "compare of a value that is not there",
            odd_compare(|compare| compare.target = CompareTarget::Value.into()),
        ),
        (
            "put of an empty key inside",
            txn(vec![], vec![put("", "v").op()], vec![]),
        ),
    ];
    let mut lines = Vec::new();
    for (name, request) in requests {
        let told = |answer: pb::TxnResponse| format!("succeeded {}", answer.succeeded);
        lines.push(line(name, client.txn(request).await, told));
    }
    let told = |answer: pb::RangeResponse| format!("{} keys", answer.kvs.len());
    lines.push(line(
        "the put before a future read",
        client.get("w").await,
        told,
    ));
    lines
}

async fn leases(client: &Client) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, ttl, id) in [
        ("lease for too long", 9_000_000_001, 71),
        ("lease for as long as possible", 9_000_000_000, 72),
        ("lease for no time", 0, 73),
        ("lease for negative time", -5, 74),
        ("lease of a taken id", 10, 72),
        ("lease of a negative id", 10, -1),
    ] {
        let told = |answer: pb::LeaseGrantResponse| format!("{} {}", answer.id, answer.ttl);
        lines.push(line(name, client.grant(ttl, id).await, told));
    }
    lines.push(line("revoke of nothing", client.revoke(99).await, |_| {
        "ok".to_owned()
    }));
    let kept = client.keep_alive(99).await;
    lines.push(line("renewal of nothing", kept, |answer| {
        answer.map_or("end".to_owned(), |answer| answer.ttl.to_string())
    }));
    let left = client.time_to_live(99).await;
    lines.push(line("time of nothing", left, |answer| {
        answer.ttl.to_string()
    }));
    lines
}

async fn watches(client: &Client) -> Result<Vec<String>> {
    let create = |key: &str, end: &str| pb::WatchCreateRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..Default::default()
    };
    let requests = [
        ("watch of no key", create("", "")),
        ("watch of an empty range", create("z", "a")),
        (
            "watch from before the beginning",
            pb::WatchCreateRequest {
                start_revision: -1,
                ..create("a", "")
            },
        ),
        (
            "watch with an id",
            pb::WatchCreateRequest {
                watch_id: 7,
                ..create("a", "")
            },
        ),
        (
            "watch with the same id",
            pb::WatchCreateRequest {
                watch_id: 7,
                ..create("a", "")
            },
        ),
        (
            "watch with odd filters",
            pb::WatchCreateRequest {
                filters: vec![9, -1],
                ..create("a", "")
            },
        ),
    ];
    let mut stream = WatchStream::open(client);
    let mut lines = Vec::new();
    for (name, request) in requests {
        let answer = stream.create(request).await?;
        lines.push(format!(
            "{name}: id {} canceled {} {:?} compacted {}",
            answer.watch_id, answer.canceled, answer.cancel_reason, answer.compact_revision
        ));
    }
    // Silence: the next answer is that to the next creation.
    stream.cancel(12345).await?;
    stream
        .send_raw(pb::WatchRequest {
            request_union: None,
        })
        .await?;
    stream
        .send(RequestUnion::CreateRequest(create("b", "")))
        .await?;
    let answer = stream.next().await?;
    lines.push(format!(
        "after silence: id {} {}",
        answer.watch_id, answer.created
    ));
    Ok(lines)
}
