//! What operators say about instances and services. It stands beside the instances' keys and has no lease, so it outlives them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Instance, ServiceName, Status, WEIGHT_MAX};

/// What operators set for an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Instead of the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Instead of the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Instead of the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl Override {
    /// The instance as callers are to see it.
    pub fn apply(&self, instance: &mut Instance) {
        instance.enabled = self.enabled.unwrap_or(instance.enabled);
        let weight = self.weight.map(|weight| weight.min(WEIGHT_MAX));
        instance.weight = weight.unwrap_or(instance.weight);
        instance.status = self.status.unwrap_or(instance.status);
    }
}

/// What operators set for a service. What is absent is left to the caller's own configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceSettings {
    /// The healthy share below which ejections are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_threshold: Option<f64>,
    /// The name of the balancing algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lb: Option<String>,
    /// How many instances one caller uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<usize>,
    /// Labels that callers must find in an instance's metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

pub(super) fn override_prefix(namespace: &str, service: &ServiceName) -> String {
    format!("/registry-override/v1/{namespace}/{service}/")
}

pub(super) fn service_key(namespace: &str, service: &ServiceName) -> String {
    format!("/registry-service/v1/{namespace}/{service}")
}

pub(super) fn slot_prefix(namespace: &str, service: &ServiceName) -> String {
    format!("/registry-client/v1/{namespace}/{service}/")
}
