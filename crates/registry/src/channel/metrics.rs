//! What operators see of the calls of a process.

use super::{Channel, Totals};
use crate::{balance::SlotView, series::Family};

/// What a counter shows of a channel.
type Count = fn(&Totals) -> u64;

/// What a gauge counts among a channel's instances.
type Is = fn(&SlotView) -> bool;

const COUNTERS: [(&str, &str, Count); 4] = [
    ("calls", "calls of a service", |totals| totals.calls),
    ("repeats", "attempts beyond the first of a call", |totals| {
        totals.repeats
    }),
    (
        "panics",
        "choices of an instance for which ejections were ignored, so few were left",
        |totals| totals.panics,
    ),
    (
        "ejections",
        "instances put aside because calls to them failed",
        |totals| totals.ejections,
    ),
];

const GAUGES: [(&str, &str, Is); 3] = [
    ("instances", "instances of a service that is called", |_| {
        true
    }),
    (
        "unhealthy_instances",
        "instances that checks found dead",
        |slot| !slot.alive,
    ),
    (
        "ejected_instances",
        "instances that are put aside now",
        |slot| slot.ejected,
    ),
];

/// Appends the metrics of these channels, one for each service, in the text format of Prometheus.
pub fn write_metrics(channels: &[Channel], text: &mut String) {
    let mut family = Family::new(text);
    for (name, help, count) in COUNTERS {
        let name = format!("catena_channel_{name}_total");
        family.begin(&name, "counter", help);
        for channel in channels {
            let labels = [("service", channel.service().as_str())];
            family.sample(&name, &labels, count(&channel.totals()));
        }
    }
    let instances: Vec<_> = channels.iter().map(Channel::instances).collect();
    for (name, help, is) in GAUGES {
        let name = format!("catena_channel_{name}");
        family.begin(&name, "gauge", help);
        for (channel, slots) in channels.iter().zip(&instances) {
            let count = slots.iter().filter(|slot| is(slot)).count();
            let labels = [("service", channel.service().as_str())];
            family.sample(&name, &labels, count as u64);
        }
    }
    let name = "catena_channel_in_flight";
    family.begin(name, "gauge", "calls of a service that are under way");
    for (channel, slots) in channels.iter().zip(&instances) {
        let calls = slots.iter().map(|slot| u64::from(slot.in_flight)).sum();
        family.sample(name, &[("service", channel.service().as_str())], calls);
    }
}
