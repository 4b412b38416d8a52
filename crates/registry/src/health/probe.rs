//! One check of one instance.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use tokio::net::TcpStream;
use tonic::body::Body;

use super::{Check, Options};
use crate::{
    Endpoint,
    balance::{Class, Key},
    channel::{Peers, Pool},
};

/// The path of an HTTP instance that is asked by default: alive, not ready, for a process that drains says so in the registry.
const HTTP_PATH: &str = "/healthz";

const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";

/// What an answer to a check may take; it is a few bytes long.
const ANSWER_BYTES_MAX: usize = 4096;

/// Bytes before a gRPC message: a flag and the length.
const GRPC_HEAD: usize = 5;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    /// 1 is `SERVING`.
    #[prost(int32, tag = "1")]
    status: i32,
}

/// A way to check.
pub(crate) trait Probe: Send + Sync {
    /// Checks one instance. The error says what is wrong with it. Whoever calls sets the time limit.
    fn probe(
        &self,
        key: Key,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(), String>> + Send;
}

/// Asks over the connection that calls go over.
#[derive(Debug)]
pub(crate) struct GrpcProbe {
    peers: Arc<Peers>,
    check: Check,
}

impl GrpcProbe {
    pub(crate) fn new(peers: Arc<Peers>, options: &Options) -> Self {
        let check = options.check.clone();
        Self { peers, check }
    }

    async fn ask(&self, key: Key, endpoint: &Endpoint, service: &str) -> Result<(), String> {
        let body = Body::new(Full::new(message(service)));
        let scheme = endpoint.scheme.as_http();
        let uri = format!("{scheme}://{}{GRPC_PATH}", endpoint.address());
        let request = http::Request::post(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(body)
            .map_err(|error| error.to_string())?;
        let (head, body) = self
            .peers
            .send_once(key, endpoint, request)
            .await?
            .into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        let trailers = body.trailers().unwrap_or(&head.headers);
        let code = trailers
            .get("grpc-status")
            .or(head.headers.get("grpc-status"));
        let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
        verdict(code, &body.to_bytes())
    }
}

impl Probe for GrpcProbe {
    async fn probe(&self, key: Key, endpoint: &Endpoint) -> Result<(), String> {
        match &self.check {
            Check::Ask(service) => {
                let service = service.as_deref().unwrap_or_default();
                self.ask(key, endpoint, service).await
            }
            Check::Connect => accepts(endpoint).await,
        }
    }
}

/// Asks by GET.
#[derive(Debug)]
pub(crate) struct HttpProbe {
    pool: Pool,
    check: Check,
}

impl HttpProbe {
    pub(crate) fn new(pool: Pool, options: &Options) -> Self {
        let check = options.check.clone();
        Self { pool, check }
    }
}

impl Probe for HttpProbe {
    async fn probe(&self, _key: Key, endpoint: &Endpoint) -> Result<(), String> {
        let path = match &self.check {
            Check::Ask(path) => path.as_deref().unwrap_or(HTTP_PATH),
            Check::Connect => return accepts(endpoint).await,
        };
        let status = self.pool.get(endpoint, path).await?;
        match Class::of_http(status) {
            Class::Failure | Class::Unreachable => Err(format!("GET {path} answers {status}")),
            Class::Success | Class::Canceled => Ok(()),
        }
    }
}

async fn accepts(endpoint: &Endpoint) -> Result<(), String> {
    let connected = TcpStream::connect(endpoint.address()).await;
    connected.map(drop).map_err(|error| error.to_string())
}

/// The request as gRPC frames it.
fn message(service: &str) -> Bytes {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut bytes = BytesMut::with_capacity(GRPC_HEAD + request.encoded_len());
    bytes.put_u8(0);
    // A name of 4 GiB does not exist.
    bytes.put_u32(u32::try_from(request.encoded_len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&request.encode_to_vec());
    bytes.freeze()
}

/// What an answer means.
fn verdict(code: Option<i32>, body: &[u8]) -> Result<(), String> {
    match code {
        Some(0) => {
            let message = body.get(GRPC_HEAD..).unwrap_or_default();
            let answer = HealthCheckResponse::decode(message).map_err(|error| error.to_string())?;
            match answer.status {
                1 => Ok(()),
                status => Err(format!("not serving (status {status})")),
            }
        }
        // The service, or the whole question, is unknown to it.
        Some(5 | 12) => Ok(()),
        Some(code) => Err(format!("gRPC status {code}")),
        None => Err("an answer without gRPC status".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_is_framed() {
        assert_eq!(message(""), &[0, 0, 0, 0, 0][..]);
        assert_eq!(message("a"), &[0, 0, 0, 0, 3, 10, 1, b'a'][..]);
    }

    #[test]
    fn only_serving_or_not_knowing_is_well() {
        let serving = [0, 0, 0, 0, 2, 8, 1];
        let not_serving = [0, 0, 0, 0, 2, 8, 2];
        assert_eq!(verdict(Some(0), &serving), Ok(()));
        assert_eq!(verdict(Some(12), &[]), Ok(()));
        assert_eq!(verdict(Some(5), &[]), Ok(()));
        assert!(verdict(Some(0), &not_serving).is_err());
        assert!(verdict(Some(0), &[]).is_err(), "status 0 is unknown");
        assert!(verdict(Some(0), &[0, 0, 0, 0, 2, 0xff, 0xff]).is_err());
        assert!(verdict(Some(14), &[]).is_err());
        assert!(verdict(None, &serving).is_err());
    }
}
