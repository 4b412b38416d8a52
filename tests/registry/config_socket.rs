//! Publications over a WebSocket: to a client of others, PyPI's `websockets`, and to one that takes nothing.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use catena_middleware::serve::{ConnectionLimits, Serving, serve};
use catena_registry::config::{Change, Expect};
use framework::{Running, Tool, leave_out, peers, wait_until};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    cases,
    config_api::{Api, TOGETHER, events},
    ground::{Case, Ground, PATIENCE},
};

pub(crate) const CASES: &[Case] = cases![
    own_pages_may_connect_and_others_may_not,
    who_takes_nothing_is_cut_off,
];

const PACKAGE: &str = "websockets==15.0.1";

/// What an HTTP connection may not exceed, and a WebSocket on it may.
const IDLE: Duration = Duration::from_millis(500);

/// How long a client may take nothing.
const WRITE_IDLE: Duration = Duration::from_millis(500);

/// The client's program; none, after saying so, where it may be left out.
fn program() -> Result<Option<Tool>> {
    match peers::python("websocket.py", PACKAGE) {
        Ok(program) => Ok(Some(program)),
        Err(missing) => {
            leave_out("publications over a WebSocket", &missing)?;
            Ok(None)
        }
    }
}

/// The API on a socket.
async fn listen(api: &Api) -> Result<Serving> {
    let limits = ConnectionLimits {
        head: IDLE,
        idle: IDLE,
        write_idle: WRITE_IDLE,
        ..ConnectionLimits::HTTP
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    Ok(serve(listener, api.gateway.clone(), limits)?)
}

/// A client that follows.
struct Client {
    running: Running,
}

impl Client {
    fn start(
        program: &Tool,
        api: &Api,
        at: SocketAddr,
        query: &str,
        headers: &[&str],
    ) -> Result<Self> {
        let url = format!("ws://{at}{}/events{query}", api.app);
        let running = program.follow(&[&[url.as_str()], headers].concat())?;
        Ok(Self { running })
    }

    /// What it has printed, once there are so many lines.
    async fn lines(&self, wanted: usize) -> Result<Vec<String>> {
        let lines = wait_until("the client prints", PATIENCE, async || {
            let printed = self.running.printed();
            let whole = printed.rfind('\n').map_or("", |end| &printed[..end]);
            let lines: Vec<_> = whole.lines().map(str::to_owned).collect();
            (lines.len() >= wanted).then_some(lines)
        });
        lines.await.with_context(|| self.running.printed())
    }

    /// The messages among those lines; there is one line `pong` after the first.
    async fn messages(&self, wanted: usize) -> Result<Vec<Value>> {
        let mut lines = self.lines(wanted + 1).await?;
        ensure!(lines.remove(1) == "pong", "{lines:?}");
        let parsed: Result<_, _> = lines
            .iter()
            .map(|line| serde_json::from_str(line))
            .collect();
        parsed.with_context(|| format!("{lines:?}"))
    }
}

fn versions(messages: &[Value]) -> Vec<u64> {
    let version = |message: &Value| message["data"]["version"].as_u64().unwrap_or_default();
    messages.iter().map(version).collect()
}

fn id(message: &Value) -> Result<&str> {
    let id = message["id"].as_str();
    id.with_context(|| format!("an id that is a text: {message}"))
}

pub(crate) async fn events_go_on_where_the_client_left(ground: &Ground) -> Result<()> {
    let Some(program) = program()? else {
        return Ok(());
    };
    let api = Api::new(ground)?;
    let serving = listen(&api).await?;
    let at = serving.address();
    api.publish(1).await?;
    let client = Client::start(&program, &api, at, "", &[])?;
    let first = client.messages(1).await?.remove(0);
    ensure!(
        first["event"] == "documents" && first["data"]["main.toml"]["version"] == 1,
        "{first}"
    );
    // Longer than what speaks HTTP may be silent.
    sleep(2 * IDLE).await;
    for n in 2..=4 {
        api.publish(n).await?;
    }
    let told = client.messages(4).await?.split_off(1);
    ensure!(versions(&told) == [2, 3, 4], "{told:?}");

    // The same as an event source is told.
    let header = [("last-event-id", id(&first)?)];
    let response = api.send("GET", "/events", &header, None).await?;
    let told_so = events(&mut response.into_body(), 3).await?;
    let told_so: Vec<_> = told_so
        .iter()
        .map(|(id, kind, data)| json!({"id": id, "event": kind, "data": data}))
        .collect();
    ensure!(told == told_so, "{told:?} and {told_so:?}");

    drop(client);
    api.publish(5).await?;
    let last = id(&told[1])?;
    let query = Client::start(&program, &api, at, &format!("?last-event-id={last}"), &[])?;
    let header = Client::start(&program, &api, at, "", &[&format!("Last-Event-ID={last}")])?;
    for client in [&query, &header] {
        let told = client.messages(2).await?;
        ensure!(versions(&told) == [4, 5], "{told:?}");
    }
    api.closing.cancel();
    for mut client in [query, header] {
        let (code, printed) = client.running.end().await?;
        ensure!(code == 0 && printed.ends_with("closed 1001\n"), "{printed}");
    }
    // No connection is left behind.
    serving.stop_accepting();
    timeout(PATIENCE, serving.finished()).await?;
    Ok(())
}

pub(crate) async fn a_revision_is_told_whole(ground: &Ground) -> Result<()> {
    let Some(program) = program()? else {
        return Ok(());
    };
    let api = Api::new(ground)?;
    let serving = listen(&api).await?;
    let at = serving.address();
    let revision = api.publish_together(ground).await?;
    let before = format!("?last-event-id={}", revision - 1);
    let client = Client::start(&program, &api, at, &before, &[])?;
    let told = client.messages(1).await?;
    ensure!(id(&told[0])? == format!("{revision}.1"), "{told:?}");
    // It leaves after the first.
    drop(client);
    api.publish(1).await?;
    let [one, two] = TOGETHER;
    ensure!(told[0]["data"]["doc"] == one, "{told:?}");
    let query = format!("?last-event-id={revision}.1");
    let header = format!("Last-Event-ID={revision}.1");
    for client in [
        Client::start(&program, &api, at, &query, &[])?,
        Client::start(&program, &api, at, "", &[&header])?,
    ] {
        let told = client.messages(1).await?;
        ensure!(
            id(&told[0])? == format!("{revision}.2") && told[0]["data"]["doc"] == two,
            "{told:?}"
        );
        let told = client.messages(2).await?;
        ensure!(told[1]["data"]["doc"] == "main.toml", "{told:?}");
    }
    Ok(())
}

async fn own_pages_may_connect_and_others_may_not(ground: &Ground) -> Result<()> {
    let Some(program) = program()? else {
        return Ok(());
    };
    let api = Api::new(ground)?;
    let serving = listen(&api).await?;
    let at = serving.address();
    let own = format!("Origin=http://{at}");
    let own = Client::start(&program, &api, at, "", &[&own])?;
    ensure!(own.messages(1).await?[0]["event"] == "documents");
    let other = Client::start(&program, &api, at, "", &["Origin=http://evil.example"])?;
    ensure!(other.lines(1).await? == ["refused 403"]);
    Ok(())
}

/// A handshake, and then silence; little is taken by the kernel in its stead.
async fn deaf(api: &Api, at: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(at).await?;
    let handshake = format!(
        "GET {}/events HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        api.app
    );
    stream.write_all(handshake.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await??);
    }
    let head = String::from_utf8_lossy(&head);
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // RFC 6455's own example.
    ensure!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    Ok(stream)
}

/// Whether the kernel holds the server's end of a connection for open.
fn is_open(server: SocketAddr, client: SocketAddr) -> Result<bool> {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(address) => Ok(format!(
            "{:08X}:{:04X}",
            u32::from_le_bytes(address.ip().octets()),
            address.port()
        )),
        SocketAddr::V6(_) => bail!("{address} is not on the loopback that is looked at"),
    };
    let ends = format!("{} {} 01 ", hex(server)?, hex(client)?);
    Ok(fs::read_to_string("/proc/net/tcp")?.contains(&ends))
}

async fn who_takes_nothing_is_cut_off(ground: &Ground) -> Result<()> {
    // The longest that is taken.
    const COMMENT_BYTES: usize = 4096;
    // More than kernels keep for one connection.
    const PUBLICATIONS_MAX: usize = 5000;
    let api = Api::new(ground)?;
    let serving = listen(&api).await?;
    let at = serving.address();
    let mut deaf = deaf(&api, at).await?;
    let response = api.send("GET", "/events", &[], None).await?;
    let mut others = response.into_body();
    events(&mut others, 1).await?;
    let end = deaf.local_addr()?;
    let mut told = 0;
    while is_open(at, end)? {
        ensure!(told < PUBLICATIONS_MAX, "it is told more and more");
        let change = Change {
            content: "a = 1".into(),
            comment: "x".repeat(COMMENT_BYTES),
            ..Change::default()
        };
        api.center.publish(&api.name, change, Expect::Any).await?;
        // Whoever takes what comes has all of it.
        events(&mut others, 1).await?;
        told += 1;
    }
    ensure!(told > 0);
    let mut taken = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match timeout(PATIENCE, deaf.read(&mut buffer)).await? {
            Ok(0) | Err(_) => break,
            Ok(bytes) => taken += bytes,
        }
    }
    println!("after {told} events, {taken} bytes were left for the one that takes nothing");
    ensure!(taken < told * COMMENT_BYTES, "all was kept for it");
    Ok(())
}
