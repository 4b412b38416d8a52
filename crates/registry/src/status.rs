//! What operators see of a process's registrations and of what it follows.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use crate::{RegState, Registry, Snapshot, series::Family};

/// The readiness check `registration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Why the process is not ready, one line each; none if it is.
    pub reasons: Vec<String>,
}

impl Readiness {
    /// The check's name.
    pub const NAME: &'static str = "registration";

    /// Whether the process is ready as far as its registrations go.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

impl Registry {
    /// Whether all instances of this process are registered. One that is lost or not registered yet is borne for one TTL, in which
    /// it mostly comes back; then the check turns red. Serving goes on all the same.
    pub fn readiness(&self) -> Readiness {
        let now = Instant::now();
        let mut reasons = Vec::new();
        self.each_registration(|service, id, ttl, state| {
            if let Some(reason) = unready(state, ttl, now) {
                reasons.push(format!("instance {id:?} of {service:?} {reason}"));
            }
        });
        Readiness { reasons }
    }

    /// Appends this registry's metrics in the text format of Prometheus.
    pub fn write_metrics(&self, text: &mut String) {
        let mut family = Family::new(text);
        let states = "registrations of this process, 1 for the state that each is in";
        family.begin("catena_registration_state", "gauge", states);
        self.each_registration(|service, id, _, state| {
            let state = state.as_str();
            family.sample(
                "catena_registration_state",
                &[("service", service), ("id", id), ("state", state)],
                1,
            );
        });
        for (name, help, value) in [
            (
                "failures",
                "attempts to register that failed",
                &self.counters().failures,
            ),
            (
                "losses",
                "registrations that stood and were lost",
                &self.counters().losses,
            ),
            (
                "repairs",
                "registrations whose keys were missing or changed and were written again",
                &self.counters().repairs,
            ),
            (
                "conflicts",
                "names that another process held",
                &self.counters().conflicts,
            ),
        ] {
            let name = format!("catena_registration_{name}_total");
            family.begin(&name, "counter", help);
            family.sample(&name, &[], value.load(Ordering::Relaxed));
        }
        let up = "whether the store answers";
        family.begin("catena_registry_store_up", "gauge", up);
        family.sample(
            "catena_registry_store_up",
            &[],
            u64::from(self.is_store_up()),
        );
        let followed = self.followed();
        let gauges: [(&str, &str, Gauge); 3] = [
            (
                "instances",
                "instances known of a service that is followed",
                |s| s.instances.len() as u64,
            ),
            (
                "stale",
                "whether what is known of a service is kept from before",
                |s| u64::from(s.stale),
            ),
            (
                "skipped_values",
                "values under a service's keys that no layout can read",
                |s| s.skipped as u64,
            ),
        ];
        for (name, help, value) in gauges {
            let name = format!("catena_discovery_{name}");
            family.begin(&name, "gauge", help);
            for (service, snapshot) in &followed {
                family.sample(&name, &[("service", service.as_str())], value(snapshot));
            }
        }
    }
}

fn unready(state: &RegState, ttl: Duration, now: Instant) -> Option<String> {
    let (word, since, error) = match state {
        RegState::Registered { .. } | RegState::Draining | RegState::Deregistered => return None,
        RegState::Conflict { key, .. } => {
            return Some(format!("is registered by another process at {key:?}"));
        }
        RegState::Registering {
            since, last_error, ..
        } => ("not registered", since, last_error),
        RegState::Lost {
            since, last_error, ..
        } => ("lost", since, last_error),
    };
    let time = now.duration_since(*since);
    let reason = error.as_ref().map(|error| format!(": {error}"));
    (time > ttl).then(|| {
        format!(
            "is {word} for {} s{}",
            time.as_secs(),
            reason.unwrap_or_default()
        )
    })
}

/// What a gauge shows of a service.
type Gauge = fn(&Snapshot) -> u64;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loss_is_borne_for_one_ttl() {
        let since = Instant::now();
        let lost = RegState::Lost {
            since,
            attempt: 3,
            last_error: Some(catena_client::Error::Deadline.into()),
        };
        let ttl = Duration::from_secs(10);
        assert_eq!(unready(&lost, ttl, since + ttl), None);
        assert_eq!(
            unready(&lost, ttl, since + 2 * ttl).as_deref(),
            Some("is lost for 20 s: context deadline exceeded")
        );
        let held = RegState::Conflict {
            since,
            key: "/k".to_owned(),
            holder_epoch: None,
        };
        assert!(unready(&held, ttl, since).is_some());
        assert_eq!(unready(&RegState::Draining, ttl, since + ttl), None);
    }
}
