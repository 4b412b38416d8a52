//! Transactions: compares, the chosen path, and its execution.
//!
//! In this order, as in etcd: all compares, those of nested transactions on the chosen path too, are evaluated on the state before
//! the transaction; the chosen path is validated on that state; then the operations run and see one another's effects. Once
//! validation has passed, no operation is refused.

use catena_api::etcd::etcdserverpb::{
    self as pb,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request as Op,
    response_op::Response as Answer,
};

use super::{interval::Interval, range::ReadView, write::Writer};
use crate::{Error, Fatal, ReadError};

/// The branch of a transaction, and of each nested one in the order of operations.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

/// Runs a transaction that writes, or may write. The header of the answer is left out.
pub(super) fn run(
    writer: &mut Writer<'_>,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, ReadError> {
    let view = writer.view();
    let path = choose(&view, request)?;
    validate(&view, writer, request, &path)?;
    execute(writer, request, &path)
}

/// Answers a transaction that has only ranges. The outermost header is left out.
pub(crate) fn read_only(
    view: &ReadView<'_>,
    request: &pb::TxnRequest,
) -> Result<pb::TxnResponse, ReadError> {
    let succeeded = compares_hold(view, &request.compare)?;
    let ranges = branch(request, succeeded)
        .iter()
        .map(|op| match &op.request {
            Some(Op::RequestRange(range)) => Ok(range),
            _ => Err(Error::KeyNotFound),
        });
    let ranges: Vec<&pb::RangeRequest> = ranges.collect::<Result<_, Error>>()?;
    for range in &ranges {
        check_range(view, range)?;
    }
    let answer =
        |range: &&pb::RangeRequest| Ok(respond(Answer::ResponseRange(answer_range(view, range)?)));
    Ok(pb::TxnResponse {
        header: None,
        succeeded,
        responses: ranges
            .iter()
            .map(answer)
            .collect::<Result<_, ReadError>>()?,
    })
}

fn branch(request: &pb::TxnRequest, succeeded: bool) -> &[pb::RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

fn choose(view: &ReadView<'_>, request: &pb::TxnRequest) -> Result<Path, Fatal> {
    let succeeded = compares_hold(view, &request.compare)?;
    let nested = branch(request, succeeded)
        .iter()
        .filter_map(|op| match &op.request {
            Some(Op::RequestTxn(nested)) => Some(choose(view, nested)),
            _ => None,
        })
        .collect::<Result<_, Fatal>>()?;
    Ok(Path { succeeded, nested })
}

fn compares_hold(view: &ReadView<'_>, compares: &[pb::Compare]) -> Result<bool, Fatal> {
    for compare in compares {
        if !compare_holds(view, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether every key of the interval satisfies the compare. Without any key, a value compares with nothing and numbers are 0.
fn compare_holds(view: &ReadView<'_>, compare: &pb::Compare) -> Result<bool, Fatal> {
    let interval = Interval::new(&compare.key, &compare.range_end);
    let mut keys = view.index.range(&interval, view.revision).peekable();
    if keys.peek().is_none() {
        let is_value = compare.target == CompareTarget::Value as i32;
        return Ok(!is_value && holds(compare, 0.cmp(&number(compare))));
    }
    for (_, item) in keys {
        let stored = match CompareTarget::try_from(compare.target) {
            Ok(CompareTarget::Version) => item.version,
            Ok(CompareTarget::Create) => item.create,
            Ok(CompareTarget::Mod) => item.main,
            Ok(CompareTarget::Lease) => view.record(item)?.view().lease,
            Ok(CompareTarget::Value) => {
                let value = view.record(item)?.value();
                let wanted = match &compare.target_union {
                    Some(TargetUnion::Value(value)) => &value[..],
                    _ => &[],
                };
                if !holds(compare, value[..].cmp(wanted)) {
                    return Ok(false);
                }
                continue;
            }
            // A target that etcd does not know compares equal.
            Err(_) => number(compare),
        };
        if !holds(compare, stored.cmp(&number(compare))) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The number of a compare; 0 if what is set is not what the target asks for.
fn number(compare: &pb::Compare) -> i64 {
    match (
        CompareTarget::try_from(compare.target),
        &compare.target_union,
    ) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}

/// What a compare says about an ordering; a result that etcd does not know is true.
fn holds(compare: &pb::Compare, ordering: std::cmp::Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Finds what the chosen path may not do, on the state before the transaction.
fn validate(
    view: &ReadView<'_>,
    writer: &Writer<'_>,
    request: &pb::TxnRequest,
    path: &Path,
) -> Result<(), Error> {
    let mut nested_paths = path.nested.iter();
    for op in branch(request, path.succeeded) {
        match &op.request {
            Some(Op::RequestRange(range)) => check_range(view, range)?,
            Some(Op::RequestPut(put)) => writer.check_put(put)?,
            Some(Op::RequestDeleteRange(_)) => {}
            Some(Op::RequestTxn(nested)) => {
                if let Some(path) = nested_paths.next() {
                    validate(view, writer, nested, path)?;
                }
            }
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// Unlike in a range outside a transaction, a negative revision is compared with the compacted one literally.
fn check_range(view: &ReadView<'_>, range: &pb::RangeRequest) -> Result<(), Error> {
    match range.revision {
        0 => Ok(()),
        revision if revision > view.revision => Err(Error::FutureRevision),
        revision if revision < view.compacted => Err(Error::Compacted),
        _ => Ok(()),
    }
}

fn execute(
    writer: &mut Writer<'_>,
    request: &pb::TxnRequest,
    path: &Path,
) -> Result<pb::TxnResponse, ReadError> {
    let mut nested_paths = path.nested.iter();
    let mut responses = Vec::new();
    for op in branch(request, path.succeeded) {
        let answer = match &op.request {
            Some(Op::RequestRange(range)) => {
                Answer::ResponseRange(answer_range(&writer.view(), range)?)
            }
            Some(Op::RequestPut(put)) => {
                let mut answer = writer.put(put)?;
                answer.header = header(writer.view().revision);
                Answer::ResponsePut(answer)
            }
            Some(Op::RequestDeleteRange(delete)) => {
                let mut answer = writer.delete_range(delete)?;
                answer.header = header(writer.view().revision);
                Answer::ResponseDeleteRange(answer)
            }
            Some(Op::RequestTxn(nested)) => {
                let Some(path) = nested_paths.next() else {
                    continue;
                };
                let mut answer = execute(writer, nested, path)?;
                answer.header = header(0);
                Answer::ResponseTxn(answer)
            }
            None => continue,
        };
        responses.push(respond(answer));
    }
    Ok(pb::TxnResponse {
        header: None,
        succeeded: path.succeeded,
        responses,
    })
}

fn answer_range(
    view: &ReadView<'_>,
    range: &pb::RangeRequest,
) -> Result<pb::RangeResponse, ReadError> {
    let mut answer = view.range(range)?;
    answer.header = header(view.revision);
    Ok(answer)
}

fn respond(answer: Answer) -> pb::ResponseOp {
    pb::ResponseOp {
        response: Some(answer),
    }
}

/// The header inside a transaction: the revision and nothing else.
#[allow(
    clippy::unnecessary_wraps,
    reason = "the field it goes into is an option"
)]
fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader {
        revision,
        ..Default::default()
    })
}
