//! Requests and transactions at each limit, and one step beyond it.

use anyhow::{Result, ensure};
use catena_api::{errors, etcd::etcdserverpb as pb};
use framework::message::{Op, one, put, txn};
use prost::Message;
use tonic::{Code, Status};

use crate::case::{Case, Stand, case};

/// `--max-request-bytes` where it is not given.
const REQUEST_BYTES_MAX: usize = 1_572_864;

/// What etcd adds to a request before it measures it.
const ENVELOPE_BYTES: usize = 18;

/// What a gRPC message may have beyond that.
const OVERHEAD_BYTES: usize = 512 << 10;

/// Deepest transaction, itself included, that can be decoded again everywhere.
const DEPTH_MAX: usize = 49;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!(request_bytes),
        case!(message_bytes),
        case!(flag_moves_the_limits).flags(&["--max-request-bytes", "1000"]),
        case!(depth),
        case!(depth_of_reads),
        case!(width_times_depth).flags(&["--max-txn-ops", "100000"]),
    ]
}

fn put_of(bytes: usize) -> pb::PutRequest {
    // What is around the value has as many bytes for any two lengths that we try next to each other, but not at 2^21.
    (bytes - 20..bytes)
        .map(|length| put("k", vec![7; length]))
        .find(|request| request.encoded_len() == bytes)
        .unwrap_or_else(|| put("k", vec![7; bytes]))
}

fn refused<T>(answer: Result<T, Status>, code: Code, text: &str) -> Result<()> {
    let Err(status) = answer else {
        anyhow::bail!("not refused");
    };
    ensure!(
        (status.code(), status.message()) == (code, text),
        "{status:?}"
    );
    Ok(())
}

async fn request_bytes(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    let most = REQUEST_BYTES_MAX - ENVELOPE_BYTES;
    client.put_with(put_of(most)).await?;
    let error = errors::REQUEST_TOO_LARGE;
    refused(
        client.put_with(put_of(most + 1)).await,
        error.code,
        error.text,
    )
}

async fn message_bytes(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    let most = REQUEST_BYTES_MAX + OVERHEAD_BYTES;
    let error = errors::REQUEST_TOO_LARGE;
    refused(client.put_with(put_of(most)).await, error.code, error.text)?;
    for beyond in [most + 8, 64 << 20] {
        let text = format!("grpc: received message larger than max ({beyond} vs. {most})");
        refused(
            client.put_with(put_of(beyond)).await,
            Code::ResourceExhausted,
            &text,
        )?;
    }
    Ok(())
}

async fn flag_moves_the_limits(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    client.put_with(put_of(1000 - ENVELOPE_BYTES)).await?;
    let error = errors::REQUEST_TOO_LARGE;
    refused(
        client.put_with(put_of(1001 - ENVELOPE_BYTES)).await,
        error.code,
        error.text,
    )
}

/// A transaction in a transaction, and so on: `depth` of them with `op` in the innermost.
fn nested(depth: usize, op: pb::RequestOp) -> pb::TxnRequest {
    let innermost = txn(vec![], vec![op], vec![]);
    (1..depth).fold(innermost, |inner, _| txn(vec![], vec![inner.op()], vec![]))
}

/// The deepest is applied, logged and answered; what is deeper is refused alike, whether it could be decoded or not.
async fn depth(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    client.txn(nested(DEPTH_MAX, put("deep", "v").op())).await?;
    ensure!(client.get("deep").await?.kvs.len() == 1);
    let error = errors::TOO_MANY_OPS;
    for depth in [DEPTH_MAX + 1, DEPTH_MAX + 2, 60, 128, 1000] {
        let answer = client.txn(nested(depth, put("deeper", "v").op())).await;
        refused(answer, error.code, error.text)?;
    }
    ensure!(client.get("deeper").await?.kvs.is_empty());
    Ok(())
}

/// The answer of a read is one message deeper than its request: it can be decoded as well.
async fn depth_of_reads(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    client.put("deep", "v").await?;
    client.txn(nested(DEPTH_MAX, one("deep").op())).await?;
    let error = errors::TOO_MANY_OPS;
    let answer = client.txn(nested(DEPTH_MAX + 1, one("deep").op())).await;
    refused(answer, error.code, error.text)
}

/// Deletions and puts by the ten thousand, to be compared with each other: not in the square of their number.
async fn width_times_depth(stand: &Stand) -> Result<()> {
    let client = stand.client()?;
    let deletions = (0..20_000).map(|n| framework::message::delete(format!("a{n}"), "").op());
    let puts = (0..20_000).map(|n| put(format!("b{n}"), "v").op());
    let mut ops: Vec<_> = deletions.chain(puts).collect();
    client.txn(txn(vec![], ops.clone(), vec![])).await?;
    ops.push(put("a7", "v").op());
    let error = errors::DUPLICATE_KEY;
    refused(
        client.txn(txn(vec![], ops, vec![])).await,
        error.code,
        error.text,
    )
}
