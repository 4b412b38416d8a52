//! kratos' registry on etcd, `contrib/registry/etcd`: its `registry.ServiceInstance` as Go's JSON.
//!
//! kratos fails the whole listing of a service if one value under its prefix is not such JSON. Weight stands in the metadata, as a
//! decimal string; so do zone and region here, for which kratos has no field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::go_json;
use crate::{Endpoint, Instance, Scheme, ServiceName, WEIGHT_DEFAULT, WEIGHT_MAX};

const WEIGHT: &str = "weight";
const REGION: &str = "region";
const ZONE: &str = "zone";

/// `registry.ServiceInstance`, its fields in their order.
#[derive(Serialize, Deserialize)]
struct Value {
    id: String,
    name: String,
    #[serde(default)]
    version: String,
    /// An empty map is written as the nil map that kratos has if nothing is set.
    #[serde(default)]
    metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    endpoints: Option<Vec<String>>,
}

pub(super) fn encode(instance: &Instance) -> String {
    let mut metadata = instance.metadata.clone();
    let mut set = |name: &str, value: Option<String>| {
        metadata.extend(value.map(|value| (name.to_owned(), value)));
    };
    let weight = instance.weight;
    set(
        WEIGHT,
        (weight != WEIGHT_DEFAULT).then(|| weight.to_string()),
    );
    set(REGION, instance.region.clone());
    set(ZONE, instance.zone.clone());
    go_json::encode(&Value {
        id: instance.id.clone(),
        name: instance.service.to_string(),
        version: instance.version.clone(),
        metadata: (!metadata.is_empty()).then_some(metadata),
        endpoints: Some(instance.endpoints.iter().map(Endpoint::to_string).collect()),
    })
}

pub(super) fn decode(service: &ServiceName, text: &str) -> Option<Instance> {
    let value: Value = serde_json::from_str(text).ok()?;
    let endpoints = value.endpoints.unwrap_or_default();
    let endpoints: Vec<_> = endpoints.iter().filter_map(|text| endpoint(text)).collect();
    if value.id.is_empty() || value.name != service.as_str() || endpoints.is_empty() {
        return None;
    }
    let mut metadata = value.metadata.unwrap_or_default();
    let weight = metadata.get(WEIGHT).and_then(|text| text.parse().ok());
    if weight.is_some() {
        metadata.remove(WEIGHT);
    }
    Some(Instance {
        version: value.version,
        weight: weight.unwrap_or(WEIGHT_DEFAULT).min(WEIGHT_MAX),
        region: metadata.remove(REGION),
        zone: metadata.remove(ZONE),
        metadata,
        ..Instance::new(service.clone(), &value.id, endpoints)
    })
}

/// Reads an endpoint. Older releases say by `?isSecure=true` what the scheme says now.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (url, query) = text.split_once('?').unwrap_or((text, ""));
    let mut endpoint: Endpoint = url.trim_end_matches('/').parse().ok()?;
    if query.split('&').any(|pair| pair == "isSecure=true") {
        endpoint.scheme = match endpoint.scheme {
            Scheme::Http | Scheme::Https => Scheme::Https,
            Scheme::Grpc | Scheme::Grpcs => Scheme::Grpcs,
        };
    }
    Some(endpoint)
}
