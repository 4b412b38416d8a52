//! Calls with one message each way, without tonic between the frames and the handler.
//!
//! tonic makes a stream of every request and every response: a buffer of eight kilobytes for each, into which the message is copied,
//! and a box around it. A request that came in one frame is decoded where it lies, and an answer is encoded into a buffer of its
//! length. What is refused, is refused with tonic's texts, as in the services that it serves.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use catena_api::etcd::etcdserverpb::{self as pb, kv_server::Kv as _};
use catena_store::check;
use http::{HeaderMap, HeaderValue, Response, Version, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use prost::Message;
use tonic::{
    Status,
    body::Body as GrpcBody,
    metadata::{GRPC_CONTENT_TYPE, MetadataValue},
};

use super::{
    frames,
    gathered::Gather,
    interceptor::Received,
    kv::KvService,
    table::{Kind, Rpc, Service},
    taken::{COUNTED_BYTES_MIN, Taken},
};
use crate::server::Server;

/// The body of a response.
pub(super) enum Answer {
    /// One message, with its head.
    Message(Bytes),
    /// The status that follows it.
    Status,
    /// Nothing any more.
    End,
    /// A message that is taken piece by piece.
    Large(Taken),
    /// Of a service that tonic serves, or of no call at all.
    Tonic(GrpcBody),
}

/// Whether the method has one message each way.
pub(super) fn serves(rpc: &Rpc) -> bool {
    rpc.service == Service::Kv && rpc.kind == Kind::Unary
}

/// Calls a method that [`serves`] says yes to. The future of a call is moved until it is polled, so it holds little.
pub(super) async fn call(service: &KvService, rpc: &Rpc, body: Received) -> Response<Answer> {
    respond(answer(service, rpc, body).await)
}

async fn answer(service: &KvService, rpc: &Rpc, body: Received) -> Result<Answer, Status> {
    let received = receive(body).await?;
    match rpc.method {
        "Range" => {
            let response = service.range(decode(received)?).await?.into_inner();
            Answer::read(&service.0, response)
        }
        "Put" => Answer::message(service.put(decode(received)?).await?.get_ref()),
        "DeleteRange" => {
            let response = service.delete_range(decode(received)?).await?;
            Answer::message(response.get_ref())
        }
        "Txn" => {
            let request: tonic::Request<pb::TxnRequest> = decode(received)?;
            let only_reads = check::is_read_only(request.get_ref());
            let response = service.txn(request).await?.into_inner();
            match only_reads {
                true => Answer::read(&service.0, response),
                // What has been written is told, however much there is to tell.
                false => Answer::message(&response),
            }
        }
        "Compact" => Answer::message(service.compact(decode(received)?).await?.get_ref()),
        method => Err(Status::unimplemented(format!("unknown method {method}"))),
    }
}

/// Receives the message of a request, to the end of the stream. Messages behind the first are not looked at.
async fn receive(mut body: Received) -> Result<Bytes, Status> {
    let mut received = Parts::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            received.push(data);
        }
    }
    Ok(received.whole())
}

/// Refuses a request whose messages are compressed.
pub(super) fn refuse_compression(headers: &HeaderMap) -> Result<(), Status> {
    let Some(encoding) = headers.get("grpc-encoding") else {
        return Ok(());
    };
    if encoding == "identity" {
        return Ok(());
    }
    let encoding = String::from_utf8_lossy(encoding.as_bytes());
    let text = format!("Content is compressed with `{encoding}` which isn't supported");
    let mut status = Status::unimplemented(text);
    let spoken = MetadataValue::from_static("identity");
    let metadata = status.metadata_mut();
    metadata.insert("grpc-accept-encoding", spoken);
    Err(status)
}

/// The first message of a body, as it comes.
#[derive(Default)]
struct Parts {
    /// All of it, if it came as one.
    first: Bytes,
    /// All of it, if it did not.
    joined: BytesMut,
}

impl Parts {
    fn push(&mut self, mut data: Bytes) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return;
        }
        let mut missing = self.missing();
        while missing > 0 && !data.is_empty() {
            self.joined.reserve(self.first.len() + missing);
            self.joined.put_slice(&mem::take(&mut self.first));
            self.joined
                .put_slice(&data.split_to(missing.min(data.len())));
            // The head may be complete now, and tell of more.
            missing = self.missing();
        }
    }

    /// Bytes until the message is complete, or at least its head.
    fn missing(&self) -> usize {
        let begun = match self.joined.is_empty() {
            true => &self.first[..],
            false => &self.joined[..],
        };
        let needed = match begun {
            [_, a, b, c, d, ..] => frames::HEAD_LEN + u32::from_be_bytes([*a, *b, *c, *d]) as usize,
            _ => frames::HEAD_LEN,
        };
        needed.saturating_sub(begun.len())
    }

    fn whole(self) -> Bytes {
        match self.joined.is_empty() {
            true => self.first,
            false => self.joined.freeze(),
        }
    }
}

fn decode<M: Message + Default>(mut received: Bytes) -> Result<tonic::Request<M>, Status> {
    if received.is_empty() {
        return Err(Status::internal("Missing request message."));
    }
    let cut_short = || Status::internal("Unexpected EOF decoding stream.");
    let flag = received.try_get_u8().map_err(|_| cut_short())?;
    let length = received.try_get_u32().map_err(|_| cut_short())? as usize;
    match flag {
        0 => {}
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 and 1), while sending request"
            )));
        }
    }
    if received.len() < length {
        return Err(cut_short());
    }
    received.truncate(length);
    match M::decode(received) {
        Ok(message) => Ok(tonic::Request::new(message)),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

fn respond(answer: Result<Answer, Status>) -> Response<Answer> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(status) => return status.into_http().map(Answer::Tonic),
    };
    let mut response = Response::new(answer);
    *response.version_mut() = Version::HTTP_2;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// What ends an answer that went well.
pub(super) fn ok() -> Frame<Bytes> {
    let ok = HeaderValue::from_static("0");
    Frame::trailers(HeaderMap::from_iter([(Status::GRPC_STATUS, ok)]))
}

impl Answer {
    fn message(message: &impl Message) -> Result<Self, Status> {
        let length = message.encoded_len();
        let head = frames::head(length)?;
        let mut encoded = BytesMut::with_capacity(head.len() + length);
        encoded.put_slice(&head);
        message.encode_raw(&mut encoded);
        Ok(Self::Message(encoded.freeze()))
    }

    /// The answer to a read: refused if clients have not taken too many, and it is large.
    fn read(server: &Arc<Server>, message: impl Gather) -> Result<Self, Status> {
        match message.encoded_len() {
            ..COUNTED_BYTES_MIN => Self::message(&message),
            _ => Taken::of(server, message).map(Self::Large),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let (frame, next) = match &mut *self {
            Self::Large(taken) => return Pin::new(taken).poll_frame(cx),
            Self::Tonic(body) => return Pin::new(body).poll_frame(cx),
            Self::Message(message) => (Frame::data(mem::take(message)), Self::Status),
            Self::Status => (ok(), Self::End),
            Self::End => return Poll::Ready(None),
        };
        *self = next;
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Large(taken) => taken.is_end_stream(),
            Self::Tonic(body) => body.is_end_stream(),
            Self::Message(_) | Self::Status => false,
            Self::End => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Large(taken) => taken.size_hint(),
            Self::Tonic(body) => body.size_hint(),
            Self::Message(message) => SizeHint::with_exact(message.len() as u64),
            Self::Status | Self::End => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn put() -> pb::PutRequest {
        pb::PutRequest {
            key: "key".into(),
            value: vec![b'v'; 300].into(),
            ..Default::default()
        }
    }

    fn framed() -> Vec<u8> {
        let message = put().encode_to_vec();
        [&frames::head(message.len()).unwrap()[..], &message].concat()
    }

    fn received(body: &[u8], step: usize) -> Result<pb::PutRequest, Status> {
        let mut parts = Parts::default();
        for piece in body.chunks(step) {
            parts.push(Bytes::copy_from_slice(piece));
        }
        decode(parts.whole()).map(tonic::Request::into_inner)
    }

    #[test]
    fn message_is_received_however_it_is_cut() {
        let body = framed();
        let twice = [&body[..], &body].concat();
        for step in 1..=twice.len() {
            assert_eq!(received(&body, step).unwrap(), put(), "cut every {step}");
            assert_eq!(received(&twice, step).unwrap(), put(), "twice, {step}");
        }
    }

    #[test]
    fn messages_behind_the_first_take_no_memory() {
        let mut parts = Parts::default();
        for _ in 0..1000 {
            parts.push(Bytes::from(framed()));
        }
        assert_eq!(parts.whole().len(), framed().len());
    }

    #[test]
    fn value_of_a_request_in_one_frame_is_not_copied() {
        let frame = Bytes::from(framed());
        let mut parts = Parts::default();
        parts.push(frame.clone());
        let put: tonic::Request<pb::PutRequest> = decode(parts.whole()).unwrap();
        let value = put.get_ref().value.as_ptr();
        assert!(frame.as_ptr_range().contains(&value));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let body = framed();
        let mut claims_more = body.clone();
        claims_more[1] = 1;
        let with_flag = |flag| [&[flag][..], &body[1..]].concat();
        let bodies = [
            (Vec::new(), "Missing request message."),
            (body[..3].to_vec(), "Unexpected EOF decoding stream."),
            (body[..20].to_vec(), "Unexpected EOF decoding stream."),
            (claims_more, "Unexpected EOF decoding stream."),
            (with_flag(1), "compressed-flag"),
            (with_flag(9), "invalid compression flag: 9"),
            (
                vec![0, 0, 0, 0, 2, 0xff, 0xff],
                "failed to decode Protobuf message",
            ),
        ];
        for (body, text) in bodies {
            let status = received(&body, 4).unwrap_err();
            assert_eq!(status.code(), Code::Internal);
            assert!(status.message().contains(text), "{status}");
        }
    }

    #[tokio::test]
    async fn answer_is_a_message_and_then_its_status() {
        let collected = Answer::message(&put()).unwrap().collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap();
        assert_eq!(trailers[Status::GRPC_STATUS], "0");
        assert!(collected.to_bytes() == framed());
    }
}
