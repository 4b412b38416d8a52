//! One gRPC call with a body that no stub would send.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::timeout};
use tonic::Status;

/// A member answers by then, if only with a refusal.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A connection for calls one after another.
pub(crate) struct Caller {
    sender: http2::SendRequest<Full<Bytes>>,
}

/// What a member answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Of HTTP.
    pub(crate) http: u16,
    /// Of gRPC; absent if there was none.
    pub(crate) status: Option<Status>,
}

impl Caller {
    /// Connects.
    pub(crate) async fn new(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // Head and body are two packets: the second would wait for the member to acknowledge the first.
        stream.set_nodelay(true)?;
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        // It ends when the sender is dropped.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Calls a path such as `/etcdserverpb.KV/Range` with one body.
    pub(crate) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &[u8])],
        body: Vec<u8>,
    ) -> Result<Answer> {
        let mut request = Request::post(format!("http://member{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()))?;
        self.sender.ready().await?;
        let answered = timeout(ANSWER_WITHIN, async {
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().unwrap_or(&head.headers);
            Ok(Answer {
                http: head.status.as_u16(),
                status: status(trailers).or_else(|| status(&head.headers)),
            })
        });
        answered.await.context("no answer")?
    }
}

fn status(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers)
}
