//! Connections: those that say nothing, too many of them, slow ones, and those that speak something else.

use std::{convert::Infallible, net::Ipv4Addr, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use framework::wait_until;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::{Request, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    case::{Case, Stand, case},
    frames::{DATA, End, HEADERS, PREFACE, RST_STREAM, Raw, SETTINGS, call, frame},
};

/// A connection that must end does so by then: the member's own limits are 10 s and 30 s.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// Where a flood comes from; the bystander is at 127.0.0.1.
const FLOODER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(silent_connections_are_closed),
        case!(more_connections_than_descriptors),
        case!(other_protocols_on_the_port),
        case!(grpc_and_http_share_the_port),
        // As many unfinished requests as a member takes, and what the allocator makes of them.
        case!(requests_that_never_end).growth_mib(420),
        case!(requests_byte_by_byte),
        case!(connections_that_vanish),
    ]
}

/// Half-open: nothing is said, or half of a preface, as by a scanner.
async fn silent_connections_are_closed(stand: &Stand) -> Result<()> {
    let mut silent = Vec::new();
    for said in 0..200 {
        let mut raw = Raw::connect(&stand.address()).await?;
        raw.write(&PREFACE[..said % PREFACE.len()]).await?;
        silent.push(raw);
    }
    for mut raw in silent {
        ensure!(raw.end().await? == End::Closed);
    }
    Ok(())
}

/// One address cannot take all connections that the member has descriptors for, and the member keeps those that it needs itself.
async fn more_connections_than_descriptors(stand: &Stand) -> Result<()> {
    /// Above what the member keeps for itself, and small enough to be reached quickly.
    const DESCRIPTORS: u64 = 400;
    let limited = restarted_with_descriptors(stand, DESCRIPTORS).await?;
    let mut held = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        let Ok(mut raw) = Raw::connect_from(FLOODER, &limited.address).await else {
            continue;
        };
        // Greeted: silence is not why these end.
        let greeting = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let _refused = raw.write(&greeting).await;
        held.push(raw);
    }
    let client = framework::Client::new(&format!("http://{}", limited.address))?;
    for round in 0..20 {
        client.put("others", round.to_string()).await?;
    }
    let log = limited.member.log();
    ensure!(log.contains("connection refused: too many"), "not said");
    ensure!(!log.contains("failed to accept"), "descriptors ran out");
    drop(held);
    Ok(())
}

/// A second member, alone, with few descriptors.
struct Limited {
    member: framework::Member,
    address: String,
    _cluster_dir: framework::Cluster,
}

async fn restarted_with_descriptors(_stand: &Stand, descriptors: u64) -> Result<Limited> {
    use framework::{Cluster, Setup, Target};
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let mut cluster = Cluster::prepare(Setup::new(Target::Catena, 1))?;
    let mut member = cluster.members.remove(0);
    member.start()?;
    let pid = Pid::from_raw(member.pid().context("it runs")?.try_into()?).context("a pid")?;
    let limit = Rlimit {
        current: Some(descriptors),
        maximum: Some(descriptors),
    };
    prlimit(Some(pid), Resource::Nofile, limit)?;
    member.ready().await?;
    Ok(Limited {
        address: member.address(),
        member,
        _cluster_dir: cluster,
    })
}

/// The first bytes of other protocols, TLS first of all.
async fn other_protocols_on_the_port(stand: &Stand) -> Result<()> {
    let client_hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 502]].concat();
    let greetings: [&[u8]; 5] = [
        &client_hello,
        b"\0\0\0\x2f\xffSMBr\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x16\x03\x01",
        b"*1\r\n$4\r\nPING\r\n",
    ];
    for greeting in greetings {
        let mut stream = TcpStream::connect(stand.address()).await?;
        stream.write_all(greeting).await?;
        let mut said = Vec::new();
        let ended = timeout(ENDS_WITHIN, stream.read_to_end(&mut said)).await;
        // Reset or closed, perhaps after a 400.
        let _reset = ended.with_context(|| format!("{greeting:?} is left open"))?;
        ensure!(
            said.is_empty() || said.starts_with(b"HTTP/1.1 400"),
            "{said:?}"
        );
    }
    stand.logs("not HTTP").await
}

/// HTTP/1 and gRPC side by side on one port, and mixed on one connection.
async fn grpc_and_http_share_the_port(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    for round in 0..20 {
        client.put("mixed", round.to_string()).await?;
        let answer = framework::get(&stand.address(), "/version").await?;
        ensure!(answer.status == 200, "{answer:?}");
        let path = "/etcdserverpb.KV/Range";
        let answer = framework::request(&stand.address(), "POST", path, "\0\0\0\0\0").await?;
        ensure!(answer.status == 404, "{answer:?}");
    }
    // A head of HTTP/1 where frames are due, and frames behind one.
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    raw.write(b"GET /health HTTP/1.1\r\nhost: member\r\n\r\n")
        .await?;
    ensure!(matches!(raw.end().await?, End::GoAway(..) | End::Closed));
    let mut stream = TcpStream::connect(stand.address()).await?;
    let mixed = [
        b"GET /health HTTP/1.1\r\nhost: member\r\n\r\n",
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
    ]
    .concat();
    stream.write_all(&mixed).await?;
    let mut said = Vec::new();
    let ended = timeout(ENDS_WITHIN, stream.read_to_end(&mut said)).await;
    let _reset = ended.context("left open")?;
    ensure!(said.starts_with(b"HTTP/1.1 200"), "{said:?}");
    Ok(())
}

/// Requests of two megabytes, each without its last byte, on a thousand streams of several connections: the member holds some of
/// them, refuses the others, and gives those that it holds up.
async fn requests_that_never_end(stand: &Stand) -> Result<()> {
    const CONNECTIONS: usize = 4;
    let mut floods = Vec::new();
    for _ in 0..CONNECTIONS {
        floods.push(tokio::spawn(unfinished(stand.address())));
    }
    wait_until("refusals are counted", ENDS_WITHIN, async || {
        let metrics = framework::get(&stand.address(), "/metrics").await.ok()?;
        let refused =
            "grpc_server_handled_total{grpc_code=\"ResourceExhausted\",grpc_method=\"Put\"";
        let line = metrics
            .body
            .lines()
            .find(|line| line.starts_with(refused))?;
        (!line.ends_with(" 0")).then_some(())
    })
    .await?;
    for flood in floods {
        flood.abort();
    }
    Ok(())
}

/// Begins as many large puts as a connection takes, and sends all of each but its end.
async fn unfinished(address: String) -> Result<()> {
    const PIECE: usize = 16 << 10;
    const PIECES: usize = 80;
    const PUTS: usize = 900;
    let claimed = u32::try_from(PIECE * PIECES + 1)?.to_be_bytes();
    let head = [&[0][..], &claimed].concat();
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let puts = (0..PUTS).map(|_| {
        let pieces = std::iter::repeat_n(Bytes::from(vec![7; PIECE]), PIECES);
        let pieces = std::iter::once(Bytes::from(head.clone())).chain(pieces);
        let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        let body = StreamBody::new(stream::iter(frames).chain(stream::pending()));
        let request = Request::post("http://member/etcdserverpb.KV/Put").body(BodyExt::boxed(body));
        let mut sender = sender.clone();
        async move { anyhow::Ok(sender.send_request(request?).await?) }
    });
    let puts: Vec<_> = puts.collect();
    let (_ended, _answers) = tokio::join!(connection, futures_util::future::join_all(puts));
    Ok(())
}

/// A slow sender: a request that comes byte by byte is served, however long it takes, as long as it is not begun for ever.
async fn requests_byte_by_byte(stand: &Stand) -> Result<()> {
    use catena_api::etcd::etcdserverpb as pb;
    use prost::Message;
    let mut raw = Raw::open(&stand.address(), &[]).await?;
    let request = pb::RangeRequest {
        key: "slowly".into(),
        ..Default::default()
    };
    let mut bytes = call(1, "/etcdserverpb.KV/Range");
    bytes.extend(crate::frames::message(1, &request.encode_to_vec()));
    for byte in bytes {
        raw.write(&[byte]).await?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = raw.until(DATA).await?;
    ensure!(answer.stream == 1);
    // One that is begun and never ended is given up.
    raw.write(&call(3, "/etcdserverpb.KV/Range")).await?;
    raw.write(&frame(DATA, 0, 3, &[0, 0, 0, 0, 90, 1])).await?;
    loop {
        let next = timeout(ENDS_WITHIN, raw.patiently()).await?;
        let frame = next?.context("the connection is closed")?;
        if frame.stream == 3 && [HEADERS, RST_STREAM].contains(&frame.kind) {
            return Ok(());
        }
    }
}

/// Connections with calls under way that go without a word, again and again: what they held is given back.
async fn connections_that_vanish(stand: &Stand) -> Result<()> {
    for _ in 0..300 {
        let mut raw = Raw::open(&stand.address(), &[]).await?;
        for number in 0..20 {
            raw.write(&call(2 * number + 1, "/etcdserverpb.Watch/Watch"))
                .await?;
        }
    }
    wait_until("their streams are gone", ENDS_WITHIN, async || {
        let metrics = framework::get(&stand.address(), "/metrics").await.ok()?;
        let gauge = "etcd_debugging_mvcc_watch_stream_total 0";
        metrics.body.contains(gauge).then_some(())
    })
    .await
}
