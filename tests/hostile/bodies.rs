//! Messages that are none, and metadata that is too much.
//!
//! The connection lives through each of them: all calls of a case go over one.

use anyhow::{Context, Result, ensure};
use catena_api::{errors, etcd::etcdserverpb as pb};
use framework::message::{between, put};
use prost::Message;
use tonic::Code;

use crate::{
    case::{Case, Stand, case},
    frames::envelope,
    grpc::Caller,
};

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(malformed_protobuf),
        case!(frames_that_lie),
        case!(compressed_bomb),
        case!(odd_metadata),
        case!(unknown_methods),
    ]
}

/// A key of protobuf: field and wire type.
fn key(field: u8, wire_type: u8) -> u8 {
    field << 3 | wire_type
}

/// What is no message, with a name each.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let group = |depth: usize| {
        let open = vec![key(15, 3); depth];
        [open, vec![key(15, 4); depth]].concat()
    };
    vec![
        ("a key of field 0", vec![0, 1]),
        ("a varint that never ends", vec![0xff; 64]),
        ("a length beyond the end", vec![key(1, 2), 200, b'x']),
        (
            "a length of 2^63",
            vec![
                key(1, 2),
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0xff,
                0x7f,
            ],
        ),
        ("a number where bytes are due", vec![key(1, 0), 5]),
        ("bytes where a number is due", vec![key(3, 2), 1, b'x']),
        ("a wire type that does not exist", vec![key(1, 6), 0]),
        ("a group that never ends", vec![key(15, 3)]),
        ("an end without a group", vec![key(15, 4)]),
        ("10,000 nested groups", group(10_000)),
        ("500,000 nested groups", group(500_000)),
    ]
}

async fn malformed_protobuf(stand: &Stand) -> Result<()> {
    let mut caller = Caller::new(&stand.address()).await?;
    for path in [RANGE, PUT, TXN, WATCH, "/etcdserverpb.Lease/LeaseKeepAlive"] {
        for (name, message) in malformed() {
            let answer = caller.call(path, &[], envelope(&message)).await?;
            let status = answer.status.with_context(|| format!("{path}: {name}"))?;
            let clear = match status.code() {
                Code::Internal | Code::InvalidArgument => true,
                // A watch stream that breaks is cancelled, as in etcd.
                Code::Cancelled => path == WATCH,
                // Field 3 of some requests is not a number, and what is unknown is skipped.
                Code::Ok => name == "bytes where a number is due" || path.contains("Lease"),
                _ => false,
            };
            ensure!(clear, "{path}: {name}: {status:?}");
        }
    }
    bad_utf8(&mut caller).await
}

/// Bytes that are no text where text is due: the URL of a member.
async fn bad_utf8(caller: &mut Caller) -> Result<()> {
    let message = [&[key(1, 2), 2][..], &[0xc3, 0x28]].concat();
    let answer = caller
        .call("/etcdserverpb.Cluster/MemberAdd", &[], envelope(&message))
        .await?;
    let status = answer.status.context("a status")?;
    ensure!(
        matches!(status.code(), Code::Internal | Code::InvalidArgument),
        "{status:?}"
    );
    Ok(())
}

/// gRPC's five bytes say something else than what follows.
async fn frames_that_lie(stand: &Stand) -> Result<()> {
    let mut caller = Caller::new(&stand.address()).await?;
    let request = between("a", "b").encode_to_vec();
    let mut claims_more = envelope(&request);
    claims_more[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    let cut_short = envelope(&request)[..6].to_vec();
    let odd_flag = [&[9][..], &envelope(&request)[1..]].concat();
    let twice = [envelope(&request), envelope(&request)].concat();
    let bodies = [
        ("4 GiB claimed", claims_more, Code::ResourceExhausted),
        ("cut short", cut_short, Code::Internal),
        ("an odd flag", odd_flag, Code::Internal),
        ("nothing at all", Vec::new(), Code::Internal),
        ("two requests", twice, Code::Internal),
    ];
    for (name, body, code) in bodies {
        let answer = caller.call(RANGE, &[], body).await?;
        let status = answer.status.with_context(|| name.to_owned())?;
        // A second request is not looked at by every server.
        let clear = status.code() == code || (name == "two requests" && status.code() == Code::Ok);
        ensure!(clear, "{name}: {status:?}");
    }
    Ok(())
}

/// Compression is not spoken, so nothing is inflated: the call is refused whatever it holds.
async fn compressed_bomb(stand: &Stand) -> Result<()> {
    let mut caller = Caller::new(&stand.address()).await?;
    let mut body = envelope(&vec![0; 1 << 20]);
    body[0] = 1;
    for encoding in ["gzip", "zstd", "deflate", "bomb"] {
        let headers = [("grpc-encoding", encoding.as_bytes())];
        let answer = caller.call(PUT, &headers, body.clone()).await?;
        let status = answer.status.context("a status")?;
        ensure!(
            status.code() == Code::Unimplemented,
            "{encoding}: {status:?}"
        );
    }
    // Compressed, and not said how.
    let answer = caller.call(PUT, &[], body).await?;
    let status = answer.status.context("a status")?;
    ensure!(status.code() == Code::Internal, "{status:?}");
    Ok(())
}

/// What clients say of themselves is no text, or names nobody knows: none becomes a label.
async fn odd_metadata(stand: &Stand) -> Result<()> {
    let mut caller = Caller::new(&stand.address()).await?;
    let body = envelope(&put("k", "v").encode_to_vec());
    let version = [("client-api-version", &[0xff, 0xfe][..])];
    let answer = caller.call(PUT, &version, body.clone()).await?;
    let status = answer.status.context("a status")?;
    let error = errors::INVALID_CLIENT_API_VERSION;
    ensure!(
        (status.code(), status.message()) == (error.code, error.text),
        "{status:?}"
    );
    for number in 0..2000 {
        let version = format!("made-up-{number}");
        let headers = [("client-api-version", version.as_bytes())];
        caller.call(PUT, &headers, body.clone()).await?;
    }
    let metrics = framework::get(&stand.address(), "/metrics").await?.body;
    let labels = metrics
        .matches("etcd_server_client_requests_total{")
        .count();
    ensure!(labels < 100, "{labels} series made by clients");
    for timeout in ["99999999999S", "-1S", "soon"] {
        let headers = [("grpc-timeout", timeout.as_bytes())];
        let answer = caller.call(PUT, &headers, body.clone()).await?;
        ensure!(answer.http == 200 || answer.http == 400, "{answer:?}");
    }
    Ok(())
}

async fn unknown_methods(stand: &Stand) -> Result<()> {
    let mut caller = Caller::new(&stand.address()).await?;
    let message = envelope(&pb::RangeRequest::default().encode_to_vec());
    for path in [
        "/",
        "/etcdserverpb.KV/Nothing",
        "/nobody.Nothing/Never",
        "/a/b/c",
    ] {
        let answer = caller.call(path, &[], message.clone()).await?;
        let status = answer.status.context("a status")?;
        ensure!(status.code() == Code::Unimplemented, "{path}: {status:?}");
    }
    Ok(())
}
