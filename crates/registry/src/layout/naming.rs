//! grpc naming, `go.etcd.io/etcd/client/v3/naming`: its `endpoints.Update` as Go's JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::go_json;
use crate::{Endpoint, Instance, Scheme, ServiceName};

/// `Op` of an endpoint that is there. The other one, 1, never stands in the store.
const ADD: u8 = 0;

/// `internal.Update`: names capitalised, for Go's struct has no tags.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Value {
    #[serde(default)]
    op: u8,
    addr: String,
    #[serde(default)]
    metadata: Json,
}

pub(super) fn encode(address: &str) -> String {
    go_json::encode(&Value {
        op: ADD,
        addr: address.to_owned(),
        metadata: Json::Null,
    })
}

/// The id is what stands behind the target: Go's own client writes the address there, but asks for no more than a key.
pub(super) fn decode(service: &ServiceName, rest: &str, text: &str) -> Option<Instance> {
    let value: Value = serde_json::from_str(text).ok()?;
    if value.op != ADD {
        return None;
    }
    let endpoint = Endpoint::at(Scheme::Grpc, &value.addr).ok()?;
    Some(Instance {
        metadata: strings(value.metadata),
        ..Instance::new(service.clone(), rest, vec![endpoint])
    })
}

/// What of a metadata of any shape can be matched on.
fn strings(metadata: Json) -> BTreeMap<String, String> {
    let Json::Object(map) = metadata else {
        return BTreeMap::new();
    };
    let string = |(key, value)| match value {
        Json::String(value) => Some((key, value)),
        _ => None,
    };
    map.into_iter().filter_map(string).collect()
}
