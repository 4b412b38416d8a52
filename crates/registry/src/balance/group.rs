//! The instances that one kind of call may go to: what the list alone decides, computed once for each list and selector.
//!
//! A group has one tier, or two where the caller has a zone and the zone has instances. A tier's *members* are what the list
//! gives; its *pool* is those of them that are healthy now, recomputed when the health of any instance has changed.

use std::time::Duration;

use rand::{Rng, rngs::SmallRng};

use super::{
    Key, Options, Otherwise, Selector,
    rule::{Rule, View},
    selector::has_labels,
    slot::Slot,
    subset, zone,
};

/// The tiers for one selector.
#[derive(Debug)]
pub(super) struct Group {
    tiers: Vec<Tier>,
    /// The list and the health that the group was computed from.
    list_epoch: u64,
    health_epoch: u64,
    panic: bool,
}

#[derive(Debug)]
struct Tier {
    /// Places in the balancer's list, in rising order. So is the pool.
    members: Vec<usize>,
    pool: Vec<usize>,
    healthy: usize,
    rule: Rule,
}

/// Which state of the balancer a group is to reflect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Epochs {
    pub(super) list: u64,
    pub(super) health: u64,
}

/// What a choice within a group goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) hash: Option<u64>,
    pub(super) tried: &'a [Key],
    pub(super) aside: bool,
    pub(super) rtt_unknown: f64,
    pub(super) now: Duration,
}

impl<'a> Wish<'a> {
    fn view(&self, slots: &'a [Slot], pool: &'a [usize], options: &'a Options) -> View<'a> {
        View {
            slots,
            pool,
            options,
            hash: self.hash,
            rtt_unknown: self.rtt_unknown,
            now: self.now,
        }
    }

    fn untried(&self, slots: &[Slot], places: &[usize]) -> Vec<usize> {
        let places = places.iter().copied();
        places
            .filter(|place| !self.tried.contains(&slots[*place].key))
            .collect()
    }
}

impl Group {
    /// An empty group, older than any state.
    pub(super) fn new() -> Self {
        Self {
            tiers: Vec::new(),
            list_epoch: 0,
            health_epoch: 0,
            panic: false,
        }
    }

    /// Makes the group reflect the balancer's state.
    pub(super) fn refresh(
        &mut self,
        slots: &[Slot],
        selector: &Selector,
        options: &Options,
        epochs: Epochs,
        rng: &mut SmallRng,
    ) {
        let list_changed = self.list_epoch != epochs.list;
        if list_changed {
            self.set_members(slots, selector, options, rng);
            self.list_epoch = epochs.list;
        }
        if list_changed || self.health_epoch != epochs.health {
            self.set_pools(slots, options.panic_threshold);
            self.health_epoch = epochs.health;
        }
    }

    /// Whether ejections are ignored, so many are ejected.
    pub(super) fn is_in_panic(&self) -> bool {
        self.panic
    }

    /// Whether the list gives `place` to this group.
    pub(super) fn contains(&self, place: usize) -> bool {
        self.tiers
            .iter()
            .any(|tier| tier.members.binary_search(&place).is_ok())
    }

    /// Chooses a place; `None` if none is left.
    pub(super) fn choose(
        &mut self,
        slots: &[Slot],
        options: &Options,
        wish: Wish<'_>,
        rng: &mut SmallRng,
    ) -> Option<usize> {
        let spills = match self.tiers.as_slice() {
            [local, _rest] => {
                let share = zone::local_share(local.healthy, local.members.len());
                share < 1.0 && rng.random::<f64>() >= share
            }
            _ => false,
        };
        let mut order = [0, 1];
        if spills {
            order.reverse();
        }
        let well = order.into_iter().find_map(|tier| {
            let tier = self.tiers.get_mut(tier)?;
            tier.choose(slots, options, wish, rng)
        });
        if well.is_some() || !wish.aside {
            return well;
        }
        order.into_iter().find_map(|tier| {
            let tier = self.tiers.get_mut(tier)?;
            tier.choose_aside(slots, options, wish, rng)
        })
    }

    fn set_members(
        &mut self,
        slots: &[Slot],
        selector: &Selector,
        options: &Options,
        rng: &mut SmallRng,
    ) {
        let listed = listed(slots, selector, options);
        let in_zone = |place: &usize| {
            let zone = options.zone.as_ref();
            zone.is_some() && slots[*place].instance.zone.as_ref() == zone
        };
        let (local, rest): (Vec<_>, Vec<_>) = listed.into_iter().partition(in_zone);
        let parts = [local, rest].into_iter().filter(|part| !part.is_empty());
        let mut former = std::mem::take(&mut self.tiers).into_iter();
        for part in parts {
            let members = match options.slot {
                None => part,
                Some(slot) => subset::places(part.len(), options.subset, slot)
                    .into_iter()
                    .map(|place| part[place])
                    .collect(),
            };
            let rule = former.next().map(|tier| tier.rule);
            let mut rule = rule.unwrap_or_else(|| Rule::new(options.algorithm, rng));
            rule.set_members(&members, slots);
            self.tiers.push(Tier {
                members,
                pool: Vec::new(),
                healthy: 0,
                rule,
            });
        }
    }

    fn set_pools(&mut self, slots: &[Slot], panic_threshold: f64) {
        let mut healthy = 0;
        let mut all = 0;
        for tier in &mut self.tiers {
            let members = tier.members.iter().copied();
            tier.pool = members.filter(|place| slots[*place].is_healthy()).collect();
            tier.healthy = tier.pool.len();
            healthy += tier.healthy;
            all += tier.members.len();
        }
        self.panic = (healthy as f64) < panic_threshold * all as f64;
        if self.panic {
            self.ignore_ejections(slots);
        }
        for tier in &mut self.tiers {
            tier.rule.set_pool(&tier.pool, slots);
        }
    }

    /// Takes the ejected ones back, and those that checks found dead only where nobody else is left.
    fn ignore_ejections(&mut self, slots: &[Slot]) {
        let alive = |place: &usize| slots[*place].alive;
        let nobody = !self.tiers.iter().flat_map(|tier| &tier.members).any(alive);
        for tier in &mut self.tiers {
            let members = tier.members.iter().copied();
            tier.pool = members.filter(|place| nobody || alive(place)).collect();
        }
    }
}

impl Tier {
    fn choose(
        &mut self,
        slots: &[Slot],
        options: &Options,
        wish: Wish<'_>,
        rng: &mut SmallRng,
    ) -> Option<usize> {
        if wish.tried.is_empty() {
            let view = wish.view(slots, &self.pool, options);
            return self.rule.choose(&view, rng);
        }
        let left = wish.untried(slots, &self.pool);
        let view = wish.view(slots, &left, options);
        self.rule.choose_again(&view, rng)
    }

    /// Chooses among all that checks have not found dead.
    fn choose_aside(
        &mut self,
        slots: &[Slot],
        options: &Options,
        wish: Wish<'_>,
        rng: &mut SmallRng,
    ) -> Option<usize> {
        let mut left = wish.untried(slots, &self.members);
        left.retain(|place| slots[*place].alive);
        let view = wish.view(slots, &left, options);
        self.rule.choose_again(&view, rng)
    }
}

/// The places of the instances that `selector` admits.
fn listed(slots: &[Slot], selector: &Selector, options: &Options) -> Vec<usize> {
    let usable = |admits: &dyn Fn(&Slot) -> bool| -> Vec<usize> {
        let slots = slots.iter().enumerate();
        slots
            .filter(|(_, slot)| slot.is_callable() && admits(slot))
            .map(|(place, _)| place)
            .collect()
    };
    let always = |slot: &Slot| has_labels(&slot.instance, &options.labels);
    let mut listed = usable(&|slot| always(slot) && selector.admits(&slot.instance));
    if listed.is_empty() && selector.otherwise == Otherwise::Any {
        listed = usable(&always);
    }
    if listed.iter().any(|place| slots[*place].instance.weight > 0) {
        listed.retain(|place| slots[*place].instance.weight > 0);
    }
    listed
}
