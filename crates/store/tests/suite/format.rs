//! How scripts show messages.

use bytes::Bytes;
use catena_api::{
    Event, EventType, KeyValue,
    etcd::etcdserverpb::{self as pb, response_op::Response as Answer},
};
use catena_store::{Delivery, DeliveryKind, Response};

/// Text as it is, other bytes escaped.
pub(crate) fn text(bytes: &Bytes) -> String {
    bytes.escape_ascii().to_string()
}

/// `key=value c2 m3 v2`, with the lease behind it if there is one.
pub(crate) fn pair(kv: &KeyValue) -> String {
    let kv = kv.view();
    let lease = match kv.lease {
        0 => String::new(),
        lease => format!(" lease {lease}"),
    };
    let (create, modified, version) = (kv.create_revision, kv.mod_revision, kv.version);
    let (key, value) = (text(&kv.key), text(&kv.value));
    format!("{key}={value} c{create} m{modified} v{version}{lease}")
}

pub(crate) fn range(response: &pb::RangeResponse) -> String {
    let mut lines: Vec<String> = response.kvs.iter().map(pair).collect();
    let more = if response.more { ", more" } else { "" };
    lines.push(format!("count {}{more}", response.count));
    lines.join("\n")
}

fn previous(kv: &Option<KeyValue>) -> String {
    kv.as_ref()
        .map_or(String::new(), |kv| format!(", was {}", pair(kv)))
}

fn header(header: &Option<pb::ResponseHeader>) -> String {
    header.as_ref().map_or("no header".into(), |header| {
        format!("revision {}", header.revision)
    })
}

pub(crate) fn response(response: &Response) -> String {
    match response {
        Response::Put(put) => format!("put{}", previous(&put.prev_kv)),
        Response::DeleteRange(delete) => deleted(delete),
        Response::Txn(txn) => transaction(txn),
        Response::Compact(_) => "compacted".into(),
        Response::LeaseGrant(grant) => format!("granted {} for {} s", grant.id, grant.ttl),
        Response::LeaseRevoke(_) => "revoked".into(),
        Response::Alarm(alarm) => format!("alarms {}", alarms(&alarm.alarms)),
        Response::Done => "done".into(),
    }
}

fn deleted(delete: &pb::DeleteRangeResponse) -> String {
    let mut lines = vec![format!("deleted {}", delete.deleted)];
    lines.extend(delete.prev_kvs.iter().map(|kv| format!("  {}", pair(kv))));
    lines.join("\n")
}

pub(crate) fn transaction(txn: &pb::TxnResponse) -> String {
    let mut lines = vec![format!("succeeded {}", txn.succeeded)];
    for answer in &txn.responses {
        let (head, body) = match answer.response.as_ref().unwrap() {
            Answer::ResponseRange(answer) => (header(&answer.header), range(answer)),
            Answer::ResponsePut(answer) => (
                header(&answer.header),
                format!("put{}", previous(&answer.prev_kv)),
            ),
            Answer::ResponseDeleteRange(answer) => (header(&answer.header), deleted(answer)),
            Answer::ResponseTxn(answer) => (header(&answer.header), transaction(answer)),
        };
        lines.push(format!("[{head}]"));
        lines.extend(body.lines().map(|line| format!("  {line}")));
    }
    lines.join("\n")
}

pub(crate) fn alarms(alarms: &[pb::AlarmMember]) -> String {
    let alarm =
        |alarm: &pb::AlarmMember| format!("{}:{}", alarm.member_id, alarm.alarm().as_str_name());
    let alarms: Vec<String> = alarms.iter().map(alarm).collect();
    format!("[{}]", alarms.join(" "))
}

pub(crate) fn event(event: &Event) -> String {
    let kv = event.kv().unwrap();
    let was = previous(&event.prev_kv());
    match event.kind() {
        EventType::Put => format!("put {}{was}", pair(&kv)),
        EventType::Delete => format!(
            "delete {} m{}{was}",
            text(&kv.key()),
            kv.view().mod_revision
        ),
    }
}

pub(crate) fn delivery(delivery: &Delivery) -> String {
    let head = format!("{} at {}", delivery.watch_id, delivery.revision);
    match &delivery.kind {
        DeliveryKind::Progress => format!("{head}: progress"),
        DeliveryKind::Compacted { compact_revision } => {
            format!("{head}: compacted {compact_revision}")
        }
        DeliveryKind::Events { events, .. } => {
            let events: Vec<String> = events.iter().map(event).collect();
            format!("{head}: {}", events.join("; "))
        }
    }
}

pub(crate) fn watch_response(response: &pb::WatchResponse) -> String {
    let mut words = vec![format!("watch {}", response.watch_id)];
    words.extend(response.created.then(|| "created".into()));
    words.extend(response.canceled.then(|| "canceled".into()));
    words.push(header(&response.header));
    words.extend(response.fragment.then(|| "fragment".into()));
    words.extend(response.events.iter().map(|event| {
        format!(
            "{} m{}",
            text(&event.kv().unwrap().key()),
            event.kv().unwrap().view().mod_revision
        )
    }));
    if !response.cancel_reason.is_empty() {
        words.push(format!("({})", response.cancel_reason));
    }
    words.join(" ")
}
