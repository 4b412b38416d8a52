//! Requests that only bytes can say, over HTTP/1.1.

use std::{net::SocketAddr, time::Duration};

use catena_middleware::{admit::body::BodyLimits, serve::ConnectionLimits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::stand::{Stand, Wish};

/// A hang takes longer.
const WITHIN: Duration = Duration::from_secs(30);

/// All that is answered to some bytes, until the connection is closed.
async fn answered(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is a way to close.
    let _reset = timeout(WITHIN, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn what_could_be_read_in_two_ways_is_refused_and_ends_the_connection() {
    let stand = Stand::start(Wish::default()).await;
    for bytes in [
        "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "GET /ping HTTP/1.1\r\nhost : localhost\r\n\r\n",
        "GET /ping HTTP/1.1\r\nhost: localhost\r\nx-folded: a\r\n b\r\n\r\n",
        "POST /users HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let answer = answered(stand.address(), bytes).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"),
            "{bytes:?}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_request_without_one_host_is_refused() {
    let stand = Stand::start(Wish::default()).await;
    for head in ["", "host: localhost\r\nhost: localhost\r\n", "host: \r\n"] {
        let bytes = format!("GET /ping HTTP/1.1\r\n{head}connection: close\r\n\r\n");
        let answer = answered(stand.address(), &bytes).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("HOST_REQUIRED"),
            "{head:?}: {answer}"
        );
    }
}

/// The length is of no account, and the bytes behind the last chunk are another request.
#[tokio::test]
async fn chunks_count_where_there_is_a_length_as_well() {
    let stand = Stand::start(Wish::default()).await;
    let bytes = "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\
        transfer-encoding: chunked\r\nconnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let answer = answered(stand.address(), bytes).await;
    let refused = answer.starts_with("HTTP/1.1 400");
    assert!(
        refused && answer.matches("HTTP/1.1").count() == 1,
        "{answer}"
    );
}

#[tokio::test]
async fn a_hundred_headers_are_enough() {
    let stand = Stand::start(Wish::default()).await;
    let headers: String = (0..101)
        .map(|number| format!("x-{number}: a\r\n"))
        .collect();
    let bytes =
        format!("GET /ping HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    let answer = answered(stand.address(), &bytes).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn who_is_slow_is_told_and_closed() {
    let soon = Duration::from_millis(200);
    let stand = Stand::start(Wish {
        connections: ConnectionLimits {
            head: soon,
            idle: soon,
            ..ConnectionLimits::HTTP
        },
        body: BodyLimits {
            idle: soon,
            ..BodyLimits::default()
        },
        ..Wish::default()
    })
    .await;
    // A head, not a byte of it, and part of it.
    for bytes in ["", "GET /ping HTTP/1.1\r\nho"] {
        let answer = answered(stand.address(), bytes).await;
        assert!(
            answer.starts_with("HTTP/1.1 408") && answer.contains("REQUEST_TIMEOUT"),
            "{bytes:?}: {answer:?}"
        );
    }
    // A body.
    let head = "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    let answer = answered(stand.address(), head).await;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("REQUEST_TIMEOUT"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let stand = Stand::start(Wish {
        connections: ConnectionLimits {
            idle: Duration::from_millis(200),
            ..ConnectionLimits::HTTP
        },
        ..Wish::default()
    })
    .await;
    let answer = answered(
        stand.address(),
        "GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.matches("HTTP/1.1").count() == 1,
        "{answer}"
    );
}

#[tokio::test]
async fn chunks_are_counted() {
    let stand = Stand::start(Wish {
        body: BodyLimits {
            bytes_max: 10,
            ..BodyLimits::default()
        },
        ..Wish::default()
    })
    .await;
    let bytes = "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        transfer-encoding: chunked\r\nconnection: close\r\n\r\nb\r\n{         }\r\n0\r\n\r\n";
    let answer = answered(stand.address(), bytes).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("BODY_TOO_LARGE"),
        "{answer}"
    );
}

/// 100-continue would ask for a body that is refused anyway.
#[tokio::test]
async fn a_body_that_is_too_long_is_not_asked_for() {
    let stand = Stand::start(Wish::default()).await;
    let bytes = "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1048577\r\n\
        expect: 100-continue\r\nconnection: close\r\n\r\n";
    let answer = answered(stand.address(), bytes).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}
