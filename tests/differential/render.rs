//! Answers as text that can be compared.
//!
//! Left out: cluster and member ids and the raft term, which belong to a cluster and not to its behaviour. What etcd leaves
//! unspecified is brought into one form, at the place where it happens.

use std::fmt::Write;

use bytes::Bytes;
use catena_api::{
    KeyValue,
    etcd::etcdserverpb::{
        RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
        request_op::Request, response_op::Response,
    },
};
use tonic::Status;

/// One side's answer to one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// What is compared.
    pub(crate) text: String,
    /// The revision of the header, if there was one.
    pub(crate) revision: Option<i64>,
}

impl Rendered {
    pub(crate) fn new(header: Option<ResponseHeader>, text: impl Into<String>) -> Self {
        let revision = header.map(|header| header.revision);
        let mut rendered = Self {
            text: text.into(),
            revision,
        };
        // The result of formatting into a string is always Ok.
        let _ = write!(rendered.text, " at {revision:?}");
        rendered
    }

    pub(crate) fn failed(&self) -> bool {
        self.revision.is_none()
    }
}

impl From<Status> for Rendered {
    fn from(status: Status) -> Self {
        let text = format!("error {:?}: {}", status.code(), status.message());
        Self {
            text,
            revision: None,
        }
    }
}

/// A range answer. Ties of a sort come in no certain order, so they are put in the order of keys; those at the cut of a limit may
/// be any of their kind, so only their number is compared.
pub(crate) fn range(request: &RangeRequest, response: &RangeResponse) -> String {
    let mut kvs = response.kvs.clone();
    let mut cut = 0;
    if request.sort_target != 0 {
        group_ties(request, &mut kvs);
        if response.more
            && let Some(last) = kvs.last().map(|kv| sort_value(request, kv))
        {
            cut = kvs
                .iter()
                .filter(|kv| sort_value(request, kv) == last)
                .count();
            kvs.truncate(kvs.len() - cut);
        }
    }
    format!(
        "{kvs:?} and {cut} of ties, more {}, count {}",
        response.more, response.count
    )
}

/// Orders by key within runs of equal sort values; the order of the runs is the answer's own. A keys-only answer sorted by value
/// does not show what it was sorted by; it is ordered as a whole.
fn group_ties(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let mut start = 0;
    while start < kvs.len() {
        let value = sort_value(request, &kvs[start]);
        let end = kvs[start..]
            .iter()
            .take_while(|kv| sort_value(request, kv) == value)
            .count()
            + start;
        kvs[start..end].sort_by_key(KeyValue::key);
        start = end;
    }
}

fn sort_value(request: &RangeRequest, kv: &KeyValue) -> (i64, Bytes) {
    let view = kv.view();
    match request.sort_target {
        1 => (view.version, Bytes::new()),
        2 => (view.create_revision, Bytes::new()),
        3 => (view.mod_revision, Bytes::new()),
        4 => (0, view.value),
        _ => (0, view.key),
    }
}

/// A transaction's answer, read beside its request, which says how a range in it was sorted.
pub(crate) fn txn(request: &TxnRequest, response: &TxnResponse) -> String {
    let branch = if response.succeeded {
        &request.success
    } else {
        &request.failure
    };
    let mut text = format!("txn {} [", response.succeeded);
    for (place, answer) in response.responses.iter().enumerate() {
        let rendered = match &answer.response {
            Some(Response::ResponseRange(answer)) => inner_range(branch.get(place), answer),
            Some(Response::ResponseTxn(answer)) => inner_txn(branch.get(place), answer),
            Some(Response::ResponsePut(answer)) => format!("{answer:?}"),
            Some(Response::ResponseDeleteRange(answer)) => format!("{answer:?}"),
            None => "nothing".to_owned(),
        };
        text += &rendered;
        text += "; ";
    }
    text + "]"
}

fn inner_range(op: Option<&RequestOp>, answer: &RangeResponse) -> String {
    match op.and_then(|op| op.request.as_ref()) {
        Some(Request::RequestRange(request)) => {
            format!("{} in {:?}", range(request, answer), answer.header)
        }
        other => format!("a range for {other:?}"),
    }
}

fn inner_txn(op: Option<&RequestOp>, answer: &TxnResponse) -> String {
    match op.and_then(|op| op.request.as_ref()) {
        Some(Request::RequestTxn(request)) => {
            format!("{} in {:?}", txn(request, answer), answer.header)
        }
        other => format!("a txn for {other:?}"),
    }
}
