//! Our own layout: all that is known of an instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Endpoint, Instance, ServiceName, Status, Ulid, WEIGHT_DEFAULT};

/// The only version of the value there is.
const VERSION: u32 = 1;

/// The value, its fields in the order in which they are written. Readers need the first four; what else is absent has its default, so
/// that a shell script can register an instance.
#[derive(Serialize, Deserialize)]
struct Value {
    v: u32,
    id: String,
    service: String,
    #[serde(default)]
    version: String,
    endpoints: Vec<Endpoint>,
    #[serde(default = "weight")]
    weight: u32,
    #[serde(default = "enabled")]
    enabled: bool,
    #[serde(default)]
    status: Status,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    registered_at_ms: u64,
    #[serde(default)]
    epoch: Ulid,
}

fn weight() -> u32 {
    WEIGHT_DEFAULT
}

fn enabled() -> bool {
    true
}

impl From<&Instance> for Value {
    fn from(instance: &Instance) -> Self {
        Self {
            v: VERSION,
            id: instance.id.clone(),
            service: instance.service.to_string(),
            version: instance.version.clone(),
            endpoints: instance.endpoints.clone(),
            weight: instance.weight,
            enabled: instance.enabled,
            status: instance.status,
            region: instance.region.clone(),
            zone: instance.zone.clone(),
            metadata: instance.metadata.clone(),
            registered_at_ms: instance.registered_at_ms,
            epoch: instance.epoch,
        }
    }
}

impl Value {
    fn into_instance(self, service: &ServiceName) -> Option<Instance> {
        let good =
            self.v == VERSION && self.service == service.as_str() && !self.endpoints.is_empty();
        good.then(|| Instance {
            id: self.id,
            service: service.clone(),
            version: self.version,
            endpoints: self.endpoints,
            weight: self.weight,
            enabled: self.enabled,
            status: self.status,
            region: self.region,
            zone: self.zone,
            metadata: self.metadata,
            registered_at_ms: self.registered_at_ms,
            epoch: self.epoch,
            revision: 0,
        })
    }
}

pub(super) fn encode(instance: &Instance) -> String {
    let value = serde_json::to_string(&Value::from(instance));
    value.expect("strings and numbers under string keys are JSON")
}

pub(super) fn decode(service: &ServiceName, rest: &str, text: &str) -> Option<Instance> {
    let value: Value = serde_json::from_str(text).ok()?;
    // A key that says something else than its value is a mistake; two instances would share an id.
    let instance = value.into_instance(service)?;
    (instance.id == rest).then_some(instance)
}

pub(super) fn to_json(instance: &Instance) -> serde_json::Value {
    let value = serde_json::to_value(Value::from(instance));
    value.expect("strings and numbers under string keys are JSON")
}

pub(super) fn from_json(service: &ServiceName, json: serde_json::Value) -> Option<Instance> {
    let value: Value = serde_json::from_value(json).ok()?;
    value.into_instance(service)
}
