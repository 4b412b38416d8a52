//! How instances stand in the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Instance, Status};

/// A way to write an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layout {
    /// `/registry/v1/{ns}/{service}/{id}`, everything that is known of an instance as JSON.
    Native,
    /// kratos: `/microservices/{name}/{id}`, its JSON.
    Kratos,
    /// `go.etcd.io/etcd/client/v3/naming`: `{service}/{address}`, its JSON.
    GrpcNaming,
    /// go-zero: `{service}/{lease id}`, `host:port`.
    GoZero,
    /// The article: `/services/{service}/{id}`, `host:port`.
    Article,
}

/// What operators set for an instance; it stands beside its key, without a lease, and outlives registrations.
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
        instance.weight = self.weight.unwrap_or(instance.weight);
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
