//! Requests out of arguments.

use std::error::Error;

use catena_api::etcd::etcdserverpb as pb;
use goldenscript::ArgumentConsumer;

use super::take;
use crate::requests::bytes;

pub(super) fn put(args: &mut ArgumentConsumer<'_>) -> Result<pb::PutRequest, Box<dyn Error>> {
    Ok(pb::PutRequest {
        lease: take(args, "lease")?.unwrap_or(0),
        prev_kv: take(args, "prev_kv")?.unwrap_or(false),
        ignore_value: take(args, "ignore_value")?.unwrap_or(false),
        ignore_lease: take(args, "ignore_lease")?.unwrap_or(false),
        key: bytes(args.next_pos().unwrap_or("")),
        value: bytes(args.next_pos().unwrap_or("")),
    })
}

pub(super) fn delete(
    args: &mut ArgumentConsumer<'_>,
) -> Result<pb::DeleteRangeRequest, Box<dyn Error>> {
    Ok(pb::DeleteRangeRequest {
        prev_kv: take(args, "prev_kv")?.unwrap_or(false),
        key: bytes(args.next_pos().unwrap_or("")),
        range_end: bytes(args.next_pos().unwrap_or("")),
    })
}

pub(super) fn range(args: &mut ArgumentConsumer<'_>) -> Result<pb::RangeRequest, Box<dyn Error>> {
    let sort_target = match args.take_key("sort") {
        None | Some("key") => 0,
        Some("version") => 1,
        Some("create") => 2,
        Some("mod") => 3,
        Some("value") => 4,
        Some(other) => other.parse()?,
    };
    let sort_order = match args.take_key("order") {
        None => 0,
        Some("asc") => 1,
        Some("desc") => 2,
        Some(other) => other.parse()?,
    };
    Ok(pb::RangeRequest {
        limit: take(args, "limit")?.unwrap_or(0),
        revision: take(args, "rev")?.unwrap_or(0),
        sort_order,
        sort_target,
        serializable: take(args, "serializable")?.unwrap_or(false),
        keys_only: take(args, "keys_only")?.unwrap_or(false),
        count_only: take(args, "count_only")?.unwrap_or(false),
        min_mod_revision: take(args, "min_mod")?.unwrap_or(0),
        max_mod_revision: take(args, "max_mod")?.unwrap_or(0),
        min_create_revision: take(args, "min_create")?.unwrap_or(0),
        max_create_revision: take(args, "max_create")?.unwrap_or(0),
        key: bytes(args.next_pos().unwrap_or("")),
        range_end: bytes(args.next_pos().unwrap_or("")),
    })
}

/// `target(key[,end]) operator operand`, such as `mod(a) = 3` or `value(a,z) != x`; `unset` as operand leaves it out.
pub(super) fn compare(text: &str) -> Result<pb::Compare, Box<dyn Error>> {
    use pb::compare::TargetUnion;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [subject, operator, operand] = words[..] else {
        return Err(format!("compare {text:?}").into());
    };
    let (target, keys) = subject
        .trim_end_matches(')')
        .split_once('(')
        .ok_or("no keys")?;
    let (key, range_end) = keys.split_once(',').unwrap_or((keys, ""));
    let numeric = || operand.parse::<i64>();
    let (target, target_union) = match target {
        _ if operand == "unset" => (
            ["version", "create", "mod", "value", "lease"]
                .iter()
                .position(|name| *name == target)
                .ok_or("target")?,
            None,
        ),
        "version" => (0, Some(TargetUnion::Version(numeric()?))),
        "create" => (1, Some(TargetUnion::CreateRevision(numeric()?))),
        "mod" => (2, Some(TargetUnion::ModRevision(numeric()?))),
        "value" => (3, Some(TargetUnion::Value(bytes(operand)))),
        _ => (4, Some(TargetUnion::Lease(numeric()?))),
    };
    let result = match operator {
        "=" => 0,
        ">" => 1,
        "<" => 2,
        "!=" => 3,
        other => other.parse()?,
    };
    Ok(pb::Compare {
        result,
        target: target as i32,
        key: bytes(key),
        range_end: bytes(range_end),
        target_union,
    })
}
