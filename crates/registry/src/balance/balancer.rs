//! The state machine: what the list, the calls' outcomes and the checks have told, and the choice made of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use rand::rngs::SmallRng;

use super::{
    Class, EjectionOptions, Exclusion, Key, NoInstance, Options, Outcome, Selector, SlotView,
    ejection::Stand,
    group::{Epochs, Group, Wish},
    selector::has_labels,
    slot::{RTT_UNKNOWN_SECS, Slot},
};
use crate::{Endpoint, Instance, Scheme, ServiceSettings, Ulid};

/// Selectors whose groups are kept. A service has a few versions and canaries; a caller that makes up more pays for the computing.
const GROUPS_MAX: usize = 64;

/// What a call asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// Which instances may take it.
    pub selector: Option<&'a Selector>,
    /// The hash of its key, for the algorithms that go by one; without it they choose at random.
    pub hash: Option<u64>,
    /// The instances that it has tried.
    pub tried: &'a [Key],
    /// Whether one that is put aside may take it, if nobody else is left: it has nothing to lose then.
    pub aside: bool,
}

/// The instance that takes a call.
#[derive(Debug)]
pub struct Pick {
    /// Its slot, for [`Context::tried`].
    pub key: Key,
    /// The instance.
    pub instance: Arc<Instance>,
    /// Its endpoint of a scheme that the caller speaks.
    pub endpoint: Arc<Endpoint>,
    /// To be given back when the call is over.
    pub token: Token,
}

/// A call in flight. Whoever holds it ends it with [`Balancer::done`], whatever happens.
#[derive(Debug)]
#[must_use]
pub struct Token {
    key: Key,
    call: u64,
    started: Duration,
    decides: bool,
    answered: bool,
}

/// See the [module](super).
#[derive(Debug)]
pub struct Balancer {
    /// What the caller set, and the same with what the service's operators did.
    own_options: Options,
    options: Options,
    /// By id, the same order at every caller.
    slots: Vec<Slot>,
    places: HashMap<Key, usize>,
    /// The group of calls without selector.
    plain: Group,
    groups: HashMap<Selector, Group>,
    epochs: Epochs,
    next_key: u64,
    next_call: u64,
    /// When the next ejection is over.
    wake_at: Option<Duration>,
    /// The median of the known latencies, in seconds.
    rtt_unknown: f64,
    /// Instances with a latency.
    sampled: usize,
    panics: u64,
    ejections: u64,
}

impl Balancer {
    /// A balancer without instances.
    pub fn new(options: Options) -> Self {
        Self {
            own_options: options.clone(),
            options,
            slots: Vec::new(),
            places: HashMap::new(),
            plain: Group::new(),
            groups: HashMap::new(),
            // Ahead of a new group's.
            epochs: Epochs { list: 1, health: 1 },
            next_key: 0,
            next_call: 0,
            wake_at: None,
            rtt_unknown: RTT_UNKNOWN_SECS,
            sampled: 0,
            panics: 0,
            ejections: 0,
        }
    }

    /// Takes the whole list of instances as it is now. What is known of an instance stays as long as its address and epoch do. The
    /// first list's instances count as warm, for they have served others before.
    pub fn apply(&mut self, instances: &[Arc<Instance>], now: Duration) {
        let is_first = self.epochs.list == 1;
        let schemes = &self.options.schemes;
        let mut former: HashMap<_, _> = std::mem::take(&mut self.slots)
            .into_iter()
            .map(|slot| (identity(&slot.instance, schemes), slot))
            .collect();
        for instance in instances {
            let instance = Arc::clone(instance);
            let slot = match former.remove(&identity(&instance, schemes)) {
                Some(mut slot) => {
                    slot.update(instance, schemes, now);
                    slot
                }
                None => {
                    self.next_key += 1;
                    let mut slot = Slot::new(Key(self.next_key), instance, schemes, now);
                    if slot.is_callable() && !is_first {
                        slot.warm_up(now);
                    }
                    slot
                }
            };
            self.slots.push(slot);
        }
        self.slots.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
        let slots = self.slots.iter().enumerate();
        self.places = slots.map(|(place, slot)| (slot.key, place)).collect();
        self.epochs.list += 1;
        self.update_rtt_unknown();
    }

    /// Takes what the service's operators have set. What cannot be is left out, and told.
    pub fn set_settings(&mut self, settings: &ServiceSettings) -> Result<(), String> {
        let (options, told) = self.own_options.overlaid(settings);
        self.set_options(options);
        told
    }

    /// Takes the caller's slot among the callers, or that it has none.
    pub fn set_slot(&mut self, slot: Option<u64>) {
        self.own_options.slot = slot;
        let options = Options {
            slot,
            ..self.options.clone()
        };
        self.set_options(options);
    }

    fn set_options(&mut self, options: Options) {
        if options != self.options {
            self.options = options;
            self.plain = Group::new();
            self.groups.clear();
        }
    }

    /// Chooses the instance of a call.
    pub fn pick(
        &mut self,
        context: &Context<'_>,
        now: Duration,
        rng: &mut SmallRng,
    ) -> Result<Pick, NoInstance> {
        self.wake(now);
        let none = Selector::default();
        let selector = context.selector.unwrap_or(&none);
        let group = if selector.is_empty() {
            &mut self.plain
        } else {
            if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(selector) {
                self.groups.clear();
            }
            self.groups
                .entry(selector.clone())
                .or_insert_with(Group::new)
        };
        group.refresh(&self.slots, selector, &self.options, self.epochs, rng);
        let wish = Wish {
            hash: context.hash,
            tried: context.tried,
            aside: context.aside,
            rtt_unknown: self.rtt_unknown,
            now,
        };
        let chosen = group.choose(&self.slots, &self.options, wish, rng);
        // Whoever is in a group has an endpoint.
        let chosen = chosen.and_then(|place| Some((place, self.slots[place].endpoint.clone()?)));
        let Some((place, endpoint)) = chosen else {
            let asked = |slot: &Slot| {
                selector.admits(&slot.instance) && has_labels(&slot.instance, &self.options.labels)
            };
            return Err(explain(&self.slots, group, asked, context.tried));
        };
        self.panics += u64::from(group.is_in_panic());
        Ok(self.begin(place, endpoint, now))
    }

    /// The answer to a call has begun. Its latency counts from here, however long the rest of the answer takes.
    pub fn answered(&mut self, token: &mut Token, now: Duration) {
        if token.answered {
            return;
        }
        token.answered = true;
        let Some(place) = self.places.get(&token.key).copied() else {
            return;
        };
        self.slots[place].stop_waiting(token.call);
        self.record_latency(place, now.saturating_sub(token.started), now);
    }

    /// A call is over.
    pub fn done(&mut self, token: Token, outcome: Outcome, now: Duration) {
        // An instance that is gone needs no record.
        let Some(place) = self.places.get(&token.key).copied() else {
            return;
        };
        let slot = &mut self.slots[place];
        slot.in_flight = slot.in_flight.saturating_sub(1);
        slot.stop_waiting(token.call);
        let elapsed = now.saturating_sub(token.started);
        match outcome.class {
            Class::Failure | Class::Unreachable => {
                slot.ewma.record_failure(outcome.retry_after, now);
            }
            // What was given up early is no sample, but the instance is at least that slow.
            Class::Canceled
                if slot
                    .ewma
                    .value()
                    .is_none_or(|rtt| rtt > elapsed.as_secs_f64()) => {}
            Class::Success | Class::Canceled if token.answered => {}
            Class::Success | Class::Canceled => self.record_latency(place, elapsed, now),
        }
        if let Some(options) = self.options.ejection {
            self.record_outcome(place, &token, outcome.class, &options, now);
        }
    }

    /// Takes what a check found.
    pub fn set_health(&mut self, key: Key, alive: bool) {
        let Some(place) = self.places.get(&key).copied() else {
            return;
        };
        if self.slots[place].alive != alive {
            self.slots[place].alive = alive;
            self.epochs.health += 1;
        }
    }

    /// The instances and what is known of them.
    pub fn slots(&self) -> impl Iterator<Item = SlotView> + '_ {
        self.slots.iter().map(Slot::view)
    }

    /// Picks so far for which ejections were ignored, and ejections so far.
    pub fn totals(&self) -> (u64, u64) {
        (self.panics, self.ejections)
    }

    fn begin(&mut self, place: usize, endpoint: Arc<Endpoint>, now: Duration) -> Pick {
        self.next_call += 1;
        let slot = &mut self.slots[place];
        let decides = slot.begin(self.next_call, now);
        // It takes no other call until this one is over.
        self.epochs.health += u64::from(decides);
        Pick {
            key: slot.key,
            instance: Arc::clone(&slot.instance),
            endpoint,
            token: Token {
                key: slot.key,
                call: self.next_call,
                started: now,
                decides,
                answered: false,
            },
        }
    }

    fn record_latency(&mut self, place: usize, latency: Duration, now: Duration) {
        let ewma = &mut self.slots[place].ewma;
        let is_first = ewma.value().is_none();
        ewma.record(latency, self.options.ewma_tau, now);
        if is_first {
            self.sampled += 1;
            // The median of few samples moves much, that of many hardly.
            if self.sampled.is_power_of_two() {
                self.update_rtt_unknown();
            }
        }
    }

    fn update_rtt_unknown(&mut self) {
        let values = self.slots.iter().filter_map(|slot| slot.ewma.value());
        let mut values: Vec<f64> = values.collect();
        self.sampled = values.len();
        let middle = values.len() / 2;
        self.rtt_unknown = if values.is_empty() {
            RTT_UNKNOWN_SECS
        } else {
            *values.select_nth_unstable_by(middle, f64::total_cmp).1
        };
    }

    fn record_outcome(
        &mut self,
        place: usize,
        token: &Token,
        class: Class,
        options: &EjectionOptions,
        now: Duration,
    ) {
        let ejection = &mut self.slots[place].ejection;
        let before = ejection.stand();
        let failing = ejection.record(class, token.decides, options, now);
        if failing && (before != Stand::In || self.may_eject()) {
            let slot = &mut self.slots[place];
            let salt = self.options.seed ^ slot.hash;
            let until = slot.ejection.eject(options, salt, now);
            self.wake_at = Some(self.wake_at.map_or(until, |at| at.min(until)));
            self.ejections += 1;
        }
        if self.slots[place].ejection.stand() != before {
            self.epochs.health += 1;
        }
    }

    /// At most half of the instances stand aside, but one always may.
    fn may_eject(&self) -> bool {
        let usable = || {
            let slots = self.slots.iter();
            slots.filter(|slot| slot.is_callable())
        };
        let aside = usable().filter(|slot| slot.ejection.is_aside()).count();
        aside < (usable().count() / 2).max(1)
    }

    /// Ends the ejections whose time is over.
    fn wake(&mut self, now: Duration) {
        if self.wake_at.is_none_or(|at| now < at) {
            return;
        }
        self.wake_at = None;
        for slot in &mut self.slots {
            if slot.ejection.wake(now) {
                self.epochs.health += 1;
            }
            if let Stand::Out { until } = slot.ejection.stand() {
                self.wake_at = Some(self.wake_at.map_or(until, |at| at.min(until)));
            }
        }
    }
}

/// What makes an instance the same one in two lists.
fn identity(instance: &Instance, schemes: &[Scheme]) -> (String, Ulid) {
    let place = match instance.endpoint(schemes) {
        Some(endpoint) => endpoint.address(),
        None => instance.id.clone(),
    };
    (place, instance.epoch)
}

/// Counts what took the instances away.
fn explain(
    slots: &[Slot],
    group: &Group,
    asked: impl Fn(&Slot) -> bool,
    tried: &[Key],
) -> NoInstance {
    let tried: HashSet<Key> = tried.iter().copied().collect();
    let mut error = NoInstance {
        known: slots.len(),
        ..NoInstance::default()
    };
    for (place, slot) in slots.iter().enumerate() {
        let count = match slot.exclusion {
            Some(Exclusion::Disabled) => &mut error.disabled,
            Some(Exclusion::NotUp) => &mut error.not_up,
            Some(Exclusion::NoEndpoint) => &mut error.no_endpoint,
            Some(Exclusion::OnlyTls) => &mut error.only_tls,
            None if !group.contains(place) && !asked(slot) => &mut error.not_selected,
            None if !group.contains(place) => &mut error.outside,
            None if tried.contains(&slot.key) => &mut error.tried,
            None if !slot.alive => &mut error.unhealthy,
            None => &mut error.ejected,
        };
        *count += 1;
    }
    error
}
