//! What the balancer as a whole promises, beside its parts' own tests.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::{
    Algorithm, Balancer, Class, Context, Key, NoInstance, Options, Otherwise, Outcome, Pick,
    Selector, hash,
    sim_tests::{fleet, instance, secs},
};
use crate::{Instance, ServiceSettings, Status};

/// A balancer and what drives it.
struct Driver {
    balancer: Balancer,
    rng: SmallRng,
    now: Duration,
}

impl Driver {
    fn new(options: Options, instances: &[Arc<Instance>]) -> Self {
        let mut balancer = Balancer::new(options);
        balancer.apply(instances, Duration::ZERO);
        Self {
            balancer,
            rng: SmallRng::seed_from_u64(7),
            now: Duration::ZERO,
        }
    }

    fn of(algorithm: Algorithm, instances: &[Arc<Instance>]) -> Self {
        let options = Options {
            algorithm,
            ..Options::default()
        };
        Self::new(options, instances)
    }

    fn pick(&mut self, context: &Context<'_>) -> Result<Pick, NoInstance> {
        self.balancer.pick(context, self.now, &mut self.rng)
    }

    /// Makes a call that takes no time; its instance's id.
    fn call_as(&mut self, context: &Context<'_>, class: Class) -> String {
        let pick = self.pick(context).unwrap();
        self.balancer
            .done(pick.token, Outcome::from(class), self.now);
        pick.instance.id.clone()
    }

    fn call(&mut self) -> String {
        self.call_as(&Context::default(), Class::Success)
    }

    fn counts(&mut self, calls: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..calls {
            *counts.entry(self.call()).or_default() += 1;
        }
        counts
    }

    fn key(&self, id: &str) -> Key {
        let mut slots = self.balancer.slots();
        slots.find(|slot| slot.instance.id == id).unwrap().key
    }

    /// Fails calls until all that may be ejected are.
    fn fail(&mut self, ids: &[&str]) {
        for _ in 0..1000 {
            let pick = self.pick(&Context::default()).unwrap();
            let class = if ids.contains(&pick.instance.id.as_str()) {
                Class::Failure
            } else {
                Class::Success
            };
            self.balancer
                .done(pick.token, Outcome::from(class), self.now);
        }
    }

    fn ejected(&self) -> Vec<String> {
        let slots = self.balancer.slots();
        let ejected = slots.filter(|slot| slot.ejected);
        ejected.map(|slot| slot.instance.id.clone()).collect()
    }
}

fn weighted(weights: &[u32]) -> Vec<Arc<Instance>> {
    let mut fleet = fleet(weights.len());
    for (instance, weight) in fleet.iter_mut().zip(weights) {
        Arc::make_mut(instance).weight = *weight;
    }
    fleet
}

fn changed(id: &str, change: impl FnOnce(&mut Instance)) -> Arc<Instance> {
    let mut instance = instance(id);
    change(&mut instance);
    Arc::new(instance)
}

#[test]
fn weights_are_kept_by_wrr_and_random() {
    let weights = [100, 200, 300, 400, 500];
    // The value of chi-square with four degrees of freedom that chance exceeds once in a hundred times.
    const LIMIT: f64 = 13.277;
    for algorithm in [Algorithm::Wrr, Algorithm::Random] {
        let counts = Driver::of(algorithm, &weighted(&weights)).counts(10_000);
        let terms = counts.values().zip(weights).map(|(count, weight)| {
            let expected = 10_000.0 * f64::from(weight) / 1500.0;
            (*count as f64 - expected).powi(2) / expected
        });
        let chi_square: f64 = terms.sum();
        println!("{algorithm}: chi-square {chi_square:.3}");
        assert!(chi_square < LIMIT, "{algorithm}: {counts:?}");
    }
}

#[test]
fn wrr_is_smooth_and_survives_a_change() {
    let mut driver = Driver::of(Algorithm::Wrr, &weighted(&[500, 100, 100]));
    let turns: Vec<String> = (0..700).map(|_| driver.call()).collect();
    let longest = turns.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(longest.unwrap() <= 4, "a turn of {longest:?}");
    // An instance comes: the others go on where they stood.
    driver
        .balancer
        .apply(&weighted(&[500, 100, 100, 100]), driver.now);
    driver.now = secs(100.0);
    let counts = driver.counts(800);
    assert_eq!(
        counts.values().copied().collect::<Vec<_>>(),
        [500, 100, 100, 100]
    );
}

#[test]
fn rr_takes_turns() {
    let mut driver = Driver::of(Algorithm::Rr, &weighted(&[1, 1000, 100]));
    let counts = driver.counts(300);
    assert!(counts.values().all(|count| *count == 100), "{counts:?}");
}

#[test]
fn weight_zero_counts_only_among_its_kind() {
    for algorithm in Algorithm::ALL {
        let counts = Driver::of(algorithm, &weighted(&[0, 100])).counts(100);
        assert_eq!(counts.len(), 1, "{algorithm}");
        let counts = Driver::of(algorithm, &weighted(&[0, 0])).counts(1000);
        assert_eq!(counts.len(), 2, "{algorithm}");
    }
}

#[test]
fn what_takes_no_calls_is_counted() {
    let instances = [
        changed("a", |i| i.enabled = false),
        changed("b", |i| i.status = Status::Draining),
        changed("c", |i| i.endpoints.clear()),
        changed("d", |i| i.version = "1".to_owned()),
    ];
    let mut driver = Driver::of(Algorithm::P2cEwma, &instances);
    let selector = Selector {
        version: Some("2".to_owned()),
        ..Selector::default()
    };
    let context = Context {
        selector: Some(&selector),
        ..Context::default()
    };
    let error = driver.pick(&context).unwrap_err();
    let expected = NoInstance {
        known: 4,
        disabled: 1,
        not_up: 1,
        no_endpoint: 1,
        not_selected: 1,
        ..NoInstance::default()
    };
    assert_eq!(error, expected);
    let tried = [driver.key("d")];
    let context = Context {
        tried: &tried,
        ..Context::default()
    };
    assert_eq!(driver.pick(&context).unwrap_err().tried, 1);
    assert_eq!(
        Driver::of(Algorithm::Wrr, &[])
            .pick(&context)
            .unwrap_err()
            .known,
        0
    );
}

#[test]
fn selector_finds_its_version_or_any_if_that_is_allowed() {
    let instances = [
        changed("a", |i| i.version = "1".to_owned()),
        changed("b", |i| i.version = "2".to_owned()),
    ];
    let mut driver = Driver::of(Algorithm::P2cEwma, &instances);
    let mut selector = Selector {
        version: Some("2".to_owned()),
        ..Selector::default()
    };
    let call = |driver: &mut Driver, selector: &Selector| {
        let context = Context {
            selector: Some(selector),
            ..Context::default()
        };
        driver.pick(&context).map(|pick| pick.instance.id.clone())
    };
    for _ in 0..20 {
        assert_eq!(call(&mut driver, &selector).unwrap(), "b");
    }
    selector.version = Some("3".to_owned());
    assert!(call(&mut driver, &selector).is_err());
    selector.otherwise = Otherwise::Any;
    assert!(call(&mut driver, &selector).is_ok());
    // However many selectors callers make up, few groups are kept.
    for number in 0..1000 {
        selector.version = Some(number.to_string());
        assert!(call(&mut driver, &selector).is_ok());
    }
}

#[test]
fn every_rule_leaves_what_was_tried() {
    for algorithm in Algorithm::ALL {
        let mut driver = Driver::of(algorithm, &fleet(3));
        let mut tried = Vec::new();
        for _ in 0..3 {
            let context = Context {
                tried: &tried,
                hash: Some(42),
                ..Context::default()
            };
            let pick = driver.pick(&context).unwrap();
            driver
                .balancer
                .done(pick.token, Class::Failure.into(), driver.now);
            assert!(!tried.contains(&pick.key), "{algorithm}");
            tried.push(pick.key);
        }
        let context = Context {
            tried: &tried,
            ..Context::default()
        };
        assert_eq!(driver.pick(&context).unwrap_err().tried, 3, "{algorithm}");
    }
}

#[test]
fn failing_ones_are_ejected_half_at_most_and_tried_again() {
    let mut driver = Driver::of(Algorithm::Random, &fleet(4));
    driver.fail(&["i0000", "i0001", "i0002"]);
    assert_eq!(driver.ejected().len(), 2);
    let mut driver = Driver::of(Algorithm::Random, &fleet(4));
    driver.fail(&["i0001"]);
    assert_eq!(driver.ejected(), ["i0001"]);
    assert!(!driver.counts(1000).contains_key("i0001"));
    driver.now = secs(2.0);
    assert!(
        driver.counts(1000)["i0001"] > 100,
        "a successful trial ends it"
    );
    assert!(driver.ejected().is_empty());
}

#[test]
fn unreachable_one_is_ejected_at_once_by_every_rule() {
    for algorithm in Algorithm::ALL {
        let mut driver = Driver::of(algorithm, &fleet(4));
        let mut key = 0;
        let mut call = |driver: &mut Driver| {
            key += 1;
            let context = Context {
                hash: Some(hash::mix(key)),
                ..Context::default()
            };
            let pick = driver.pick(&context).unwrap();
            let is_dead = pick.instance.id == "i0001";
            let class = match is_dead {
                true => Class::Unreachable,
                false => Class::Success,
            };
            driver.balancer.done(pick.token, class.into(), driver.now);
            is_dead
        };
        // 40 calls a second for a minute, of which those after the second one count.
        let mut late = 0;
        for tick in 0..2400 {
            driver.now = Duration::from_millis(25 * tick);
            late += usize::from(call(&mut driver) && tick > 80);
        }
        assert_eq!(driver.ejected(), ["i0001"], "{algorithm}");
        // Trials, each after twice the pause before; the first pauses may be half as long as they are on average.
        assert!(late <= 7, "{algorithm}: {late} calls to the dead one");
    }
}

#[test]
fn one_put_aside_is_called_when_nobody_else_is_left() {
    for algorithm in Algorithm::ALL {
        let mut driver = Driver::of(algorithm, &fleet(2));
        let mut tried = Vec::new();
        for class in [Class::Unreachable, Class::Unreachable, Class::Success] {
            // The first is put aside; the second, which may not be, is met again, and again in vain.
            let context = Context {
                hash: Some(1),
                ..Context::default()
            };
            let pick = driver.pick(&context).unwrap();
            tried = vec![pick.key];
            driver.balancer.done(pick.token, class.into(), driver.now);
        }
        let mut context = Context {
            tried: &tried,
            ..Context::default()
        };
        assert_eq!(driver.pick(&context).unwrap_err().ejected, 1);
        context.aside = true;
        let pick = driver.pick(&context).unwrap();
        assert_eq!(*driver.ejected(), [pick.instance.id.as_str()]);
        driver.balancer.set_health(pick.key, false);
        assert_eq!(driver.pick(&context).unwrap_err().unhealthy, 1);
    }
}

#[test]
fn panic_ignores_ejections_and_is_counted() {
    let mut driver = Driver::of(Algorithm::Random, &fleet(1));
    driver.fail(&["i0000"]);
    assert_eq!(driver.ejected(), ["i0000"]);
    assert_eq!(
        driver.call(),
        "i0000",
        "the only one is called all the same"
    );
    assert!(driver.balancer.totals().0 > 0);
    let options = Options {
        panic_threshold: 0.0,
        algorithm: Algorithm::Random,
        ..Options::default()
    };
    let mut driver = Driver::new(options, &fleet(1));
    for _ in 0..5 {
        driver.call_as(&Context::default(), Class::Failure);
    }
    assert_eq!(driver.pick(&Context::default()).unwrap_err().ejected, 1);
}

#[test]
fn dead_ones_get_no_call_while_one_lives() {
    let mut driver = Driver::of(Algorithm::P2cEwma, &fleet(4));
    for id in ["i0000", "i0001", "i0002"] {
        let key = driver.key(id);
        driver.balancer.set_health(key, false);
    }
    let counts = driver.counts(100);
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["i0003"]);
    let key = driver.key("i0003");
    driver.balancer.set_health(key, false);
    assert_eq!(
        driver.counts(1000).len(),
        4,
        "all dead: the check is likelier to be wrong"
    );
}

#[test]
fn zone_comes_first_and_spills_what_it_cannot_carry() {
    let mut instances = fleet(20);
    for instance in &mut instances[..10] {
        Arc::make_mut(instance).zone = Some("z1".to_owned());
    }
    let options = Options {
        zone: Some("z1".to_owned()),
        algorithm: Algorithm::Random,
        ..Options::default()
    };
    let mut driver = Driver::new(options.clone(), &instances);
    let local = |counts: &BTreeMap<String, usize>| -> usize {
        let own = counts.iter().filter(|(id, _)| id.as_str() < "i0010");
        own.map(|(_, count)| count).sum()
    };
    assert_eq!(local(&driver.counts(1000)), 1000);
    for number in 0..5 {
        let key = driver.key(&format!("i{number:04}"));
        driver.balancer.set_health(key, false);
    }
    let stays = local(&driver.counts(10_000));
    assert!((6700..7300).contains(&stays), "{stays}");
    // A zone without instances has no preference.
    let options = Options {
        zone: Some("z9".to_owned()),
        ..options
    };
    assert!(Driver::new(options, &instances).counts(1000).len() == 20);
}

#[test]
fn subset_is_this_callers_part() {
    let options = |slot| Options {
        slot: Some(slot),
        ..Options::default()
    };
    let mut used = BTreeMap::<String, usize>::new();
    for slot in 0..8 {
        let mut driver = Driver::new(options(slot), &fleet(100));
        let counts = driver.counts(1000);
        assert_eq!(counts.len(), 25);
        counts
            .into_keys()
            .for_each(|id| *used.entry(id).or_default() += 1);
    }
    assert!(
        used.len() == 100 && used.values().all(|count| *count == 2),
        "{used:?}"
    );
}

#[test]
fn change_of_the_list_keeps_what_is_known_of_others() {
    let mut driver = Driver::of(Algorithm::P2cEwma, &fleet(4));
    let pick = driver.pick(&Context::default()).unwrap();
    driver
        .balancer
        .done(pick.token, Class::Success.into(), secs(0.25));
    let held = driver.pick(&Context::default()).unwrap();
    let known = |driver: &Driver, id: &str| {
        let mut slots = driver.balancer.slots();
        let slot = slots.find(|slot| slot.instance.id == id).unwrap();
        (slot.key, slot.rtt, slot.in_flight)
    };
    let before: Vec<_> = (0..4)
        .map(|n| known(&driver, &format!("i{n:04}")))
        .collect();
    driver.balancer.apply(&fleet(5), secs(1.0));
    let mut lighter = fleet(5);
    lighter.iter_mut().for_each(|i| Arc::make_mut(i).weight = 7);
    driver.balancer.apply(&lighter, secs(1.0));
    let after: Vec<_> = (0..4)
        .map(|n| known(&driver, &format!("i{n:04}")))
        .collect();
    assert_eq!(before, after);
    assert!(before.iter().any(|(_, rtt, _)| *rtt == Some(secs(0.25))));
    // The call that was in flight all the while ends as if nothing had been.
    let id = held.instance.id.clone();
    driver
        .balancer
        .done(held.token, Class::Success.into(), secs(1.0));
    assert_eq!(known(&driver, &id).2, 0);
    // Another life of an instance is another instance.
    let mut restarted = fleet(5);
    Arc::make_mut(&mut restarted[0]).epoch = crate::Ulid::from_parts(1, 1);
    driver.balancer.apply(&restarted, secs(2.0));
    assert_ne!(known(&driver, "i0000").0, before[0].0);
}

#[test]
fn token_of_an_instance_that_is_gone_is_harmless() {
    let mut driver = Driver::of(Algorithm::P2cEwma, &fleet(1));
    let mut pick = driver.pick(&Context::default()).unwrap();
    driver.balancer.apply(&[], secs(1.0));
    driver.balancer.answered(&mut pick.token, secs(1.0));
    driver
        .balancer
        .done(pick.token, Class::Failure.into(), secs(1.0));
    assert_eq!(driver.balancer.slots().count(), 0);
}

#[test]
fn ring_bounds_the_load() {
    for (name, keys) in [("one key", 1u64), ("all keys", u64::MAX)] {
        let mut driver = Driver::of(Algorithm::Ring, &fleet(10));
        let mut held = Vec::new();
        let mut worst: f64 = 0.0;
        for round in 1..=2000 {
            let hash = Some(hash::mix(driver.rng.random_range(0..keys)));
            let context = Context {
                hash,
                ..Context::default()
            };
            held.push(driver.pick(&context).unwrap());
            let most = driver.balancer.slots().map(|slot| slot.in_flight).max();
            let mean = f64::from(round) / 10.0;
            // A bound that is a whole number of calls is coarse while there are few.
            if round >= 1000 && round % 8 == 0 {
                worst = worst.max(f64::from(most.unwrap()) / mean);
            }
        }
        println!("ring, {name}: max/mean {worst:.3}");
        assert!(worst <= 1.25, "{name}: {worst}");
    }
}

/// Where each of 10,000 keys goes.
fn homes(driver: &mut Driver) -> Vec<String> {
    let home = |key: u64| {
        let context = Context {
            hash: Some(hash::mix(key)),
            ..Context::default()
        };
        driver.call_as(&context, Class::Success)
    };
    (0..10_000).map(home).collect()
}

#[test]
fn removal_moves_the_keys_of_the_removed_one() {
    for (algorithm, limit) in [(Algorithm::Ring, 1.2), (Algorithm::Maglev, 1.5)] {
        for count in [3, 10, 50] {
            let mut instances = fleet(count);
            let mut driver = Driver::of(algorithm, &instances);
            let before = homes(&mut driver);
            let removed = instances.remove(count / 2).id.clone();
            driver.balancer.apply(&instances, driver.now);
            let after = homes(&mut driver);
            let both = before.iter().zip(&after);
            let moved = both
                .clone()
                .filter(|(before, after)| before != after)
                .count();
            let part = moved as f64 / 10_000.0 * count as f64;
            println!("{algorithm} of {count}: removal moves {part:.3}/n of the keys");
            assert!(part <= limit, "{algorithm} of {count}: {part}");
            if algorithm == Algorithm::Ring {
                assert!(both.clone().all(|(b, a)| b == a || *b == removed));
            }
        }
    }
}

#[test]
fn hashing_is_even_and_by_weight() {
    for (algorithm, tolerance) in [(Algorithm::Ring, 0.25), (Algorithm::Maglev, 0.1)] {
        let mut driver = Driver::of(algorithm, &weighted(&[100, 100, 200]));
        let homes = homes(&mut driver);
        for (id, expected) in [("i0000", 2500.0), ("i0001", 2500.0), ("i0002", 5000.0)] {
            let count = homes.iter().filter(|home| *home == id).count() as f64;
            let off = (count - expected).abs() / expected;
            assert!(off < tolerance, "{algorithm}: {id} has {count}");
        }
    }
}

#[test]
fn key_of_an_ill_instance_comes_back_to_it() {
    for algorithm in [Algorithm::Ring, Algorithm::Maglev] {
        let mut driver = Driver::of(algorithm, &fleet(10));
        let before = homes(&mut driver);
        let key = driver.key("i0004");
        driver.balancer.set_health(key, false);
        let meanwhile = homes(&mut driver);
        assert!(meanwhile.iter().all(|home| home != "i0004"));
        let others = before.iter().zip(&meanwhile).filter(|(b, _)| *b != "i0004");
        assert!(others.clone().all(|(b, m)| b == m), "{algorithm}");
        driver.balancer.set_health(key, true);
        assert_eq!(homes(&mut driver), before, "{algorithm}");
    }
}

#[test]
fn settings_of_the_service_change_the_rule() {
    let mut driver = Driver::of(Algorithm::P2cEwma, &weighted(&[1, 10_000]));
    let settings = ServiceSettings {
        lb: Some("rr".to_owned()),
        ..ServiceSettings::default()
    };
    driver.balancer.set_settings(&settings).unwrap();
    assert_eq!(driver.counts(100)["i0000"], 50);
    let settings = ServiceSettings {
        labels: BTreeMap::from([("cell".to_owned(), "7".to_owned())]),
        ..ServiceSettings::default()
    };
    driver.balancer.set_settings(&settings).unwrap();
    let error = driver.pick(&Context::default()).unwrap_err();
    assert_eq!(error.not_selected, 2);
}

/// Prints what a pick and its end cost at 1,000 instances. It asserts nothing about time, which is the machine's.
#[test]
fn pick_cost_at_a_thousand_instances() {
    const PICKS: u32 = 20_000;
    for algorithm in Algorithm::ALL {
        let mut driver = Driver::of(algorithm, &fleet(1000));
        driver.counts(1000);
        let started = std::time::Instant::now();
        for key in 0..PICKS {
            driver.now += Duration::from_micros(100);
            let context = Context {
                hash: Some(hash::mix(u64::from(key))),
                ..Context::default()
            };
            let pick = driver.pick(&context).unwrap();
            driver
                .balancer
                .done(pick.token, Class::Success.into(), driver.now);
        }
        let each = started.elapsed() / PICKS;
        println!("{algorithm}: {each:?} a pick and its end");
    }
}
