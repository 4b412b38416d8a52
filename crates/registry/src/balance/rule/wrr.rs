//! Smooth weighted round robin, nginx's: every instance gains its weight, the richest one is chosen and pays the sum of all weights.
//! Weights 5, 1, 1 give `a a b a c a a` and not `a a a a a b c`. Of several that are equally rich the first in the pool is chosen.
//!
//! Instances of one weight all gain the same, so among them nothing changes but by being chosen; and whoever was chosen has then the
//! least of them. They stand in a queue ([`Queue`]), of which only the first can be the richest of all: a pick costs as much as there
//! are different weights, which is one or a few, and not as there are instances.
//!
//! ```text
//!   gain of a queue's first    4      1
//!   its weight                 5      1        turn: 4+5, 1+1 → a, which pays 7
//!   those behind it, and     (none)   c, 0
//!   how far                           └ as rich as b
//! ```

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::View;
use crate::balance::{Key, slot::Slot};

/// Parts that a weight is counted in, so that a tenth of weight 1 is something. All gains are whole numbers of them, which floating
/// point keeps exactly: a sum of gains stays far below 2^53.
const SCALE: f64 = 1000.0;

/// Turns that a new rule is moved ahead, at most: enough to keep callers that start together apart.
const AHEAD_MAX: u32 = 64;

/// Steps in which the weight of a new instance rises. At each the queues are made anew, which costs more than a pick.
const WARM_STEPS: u32 = 100;

/// Whose turn it is.
#[derive(Debug)]
pub(in crate::balance) struct Wrr {
    /// In the order of the pool.
    keys: Vec<Key>,
    queues: Queues,
    /// When weights are looked at again; `None` once none of them rises any more.
    rises_at: Option<Duration>,
    ahead: u32,
}

/// One instance of the pool.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Its place in the pool.
    place: usize,
    weight: f64,
    gain: f64,
}

/// The pool by weight. The vectors have an entry for each weight; what a turn looks at of all is apart from what it looks at of one.
#[derive(Debug, Default)]
struct Queues {
    total: f64,
    gains: Vec<f64>,
    weights: Vec<f64>,
    firsts: Vec<usize>,
    rests: Vec<Queue>,
}

/// Those who stand behind the first of a queue, the richest in front.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How much less than the first the last one has.
    span: f64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: usize,
    /// How much less it has than the one before it.
    behind: f64,
}

impl Wrr {
    pub(super) fn new(ahead: u32) -> Self {
        Self {
            keys: Vec::new(),
            queues: Queues::default(),
            rises_at: None,
            ahead: ahead % AHEAD_MAX,
        }
    }

    pub(super) fn set_pool(&mut self, pool: &[usize], slots: &[Slot]) {
        let former = std::mem::take(&mut self.keys).into_iter();
        let former: HashMap<Key, f64> = former.zip(self.queues.gains_by_place()).collect();
        self.keys = pool.iter().map(|place| slots[*place].key).collect();
        let keys = self.keys.iter().enumerate();
        let member = |(place, key): (usize, &Key)| Member {
            place,
            weight: (f64::from(slots[pool[place]].weight()) * SCALE).trunc(),
            gain: former.get(key).copied().unwrap_or_default(),
        };
        self.queues = Queues::new(keys.map(member).collect());
        self.rises_at = Some(Duration::ZERO);
        for _ in 0..std::mem::take(&mut self.ahead) {
            self.queues.turn();
        }
    }

    /// The pool is the one last set.
    pub(super) fn choose(&mut self, view: &View<'_>) -> Option<usize> {
        if self.rises_at.is_some_and(|at| view.now >= at) {
            self.warm_up(view);
        }
        self.queues.turn().map(|place| view.pool[place])
    }

    fn warm_up(&mut self, view: &View<'_>) {
        let slow_start = view.options.slow_start;
        let places = view.pool.iter();
        let warm_at = places.map(|place| view.slots[*place].warm_at(slow_start));
        let rising = warm_at.max().is_some_and(|at| view.now < at);
        let step = slow_start / WARM_STEPS;
        self.rises_at = rising.then(|| view.now + step);
        let gains = self.queues.gains_by_place();
        let member = |(place, gain)| Member {
            place,
            weight: (view.weight(view.pool[place]) * SCALE).trunc().max(1.0),
            gain,
        };
        self.queues = Queues::new(gains.into_iter().enumerate().map(member).collect());
    }
}

impl Queues {
    fn new(mut members: Vec<Member>) -> Self {
        members.sort_by(|a, b| {
            let by_weight = a.weight.total_cmp(&b.weight);
            let by_gain = b.gain.total_cmp(&a.gain);
            by_weight.then(by_gain).then(a.place.cmp(&b.place))
        });
        let mut queues = Self::default();
        for members in members.chunk_by(|a, b| a.weight == b.weight) {
            let (first, last) = (members[0], members[members.len() - 1]);
            let waiting = members.windows(2).map(|pair| Waiting {
                place: pair[1].place,
                behind: pair[0].gain - pair[1].gain,
            });
            queues.total += first.weight * members.len() as f64;
            queues.gains.push(first.gain);
            queues.weights.push(first.weight);
            queues.firsts.push(first.place);
            queues.rests.push(Queue {
                waiting: waiting.collect(),
                span: first.gain - last.gain,
            });
        }
        queues
    }

    fn gains_by_place(&self) -> Vec<f64> {
        let rests = self.rests.iter().map(|rest| rest.waiting.len() + 1);
        let mut gains = vec![0.0; rests.sum()];
        for (number, rest) in self.rests.iter().enumerate() {
            let mut gain = self.gains[number];
            gains[self.firsts[number]] = gain;
            for waiting in &rest.waiting {
                gain -= waiting.behind;
                gains[waiting.place] = gain;
            }
        }
        gains
    }

    /// The place in the pool of the one whose turn it is.
    fn turn(&mut self) -> Option<usize> {
        let most = gain_all(&mut self.gains, &self.weights);
        let richest = (0..self.gains.len()).filter(|number| self.gains[*number] == most);
        let number = richest.min_by_key(|number| self.firsts[*number])?;
        let place = self.firsts[number];
        self.pay(number);
        Some(place)
    }

    /// The first of a queue pays, and stands where it belongs then.
    fn pay(&mut self, number: usize) {
        let (gain, first) = (&mut self.gains[number], &mut self.firsts[number]);
        let (paid, payer) = (*gain - self.total, *first);
        let Queue { waiting, span } = &mut self.rests[number];
        let Some(next) = waiting.pop_front() else {
            *gain = paid;
            return;
        };
        *gain -= next.behind;
        *span -= next.behind;
        *first = next.place;
        // From the back: it is where the payer belongs, unless the pool has changed a short time ago.
        let mut at = waiting.len();
        let mut before = *gain - *span;
        let precedes = |gain: f64, place: usize| paid > gain || (paid == gain && payer < place);
        while at > 0 && precedes(before, waiting[at - 1].place) {
            at -= 1;
            before += waiting[at].behind;
        }
        if at == 0 && precedes(*gain, *first) {
            let ahead = paid - *gain;
            waiting.push_front(Waiting {
                place: *first,
                behind: ahead,
            });
            *span += ahead;
            (*gain, *first) = (paid, payer);
            return;
        }
        let behind = before - paid;
        match waiting.get_mut(at) {
            Some(next) => next.behind -= behind,
            None => *span += behind,
        }
        waiting.insert(
            at,
            Waiting {
                place: payer,
                behind,
            },
        );
    }
}

/// Adds the weights to the gains; the greatest of them. In lanes, which the compiler turns into vector code: also a pool in which all
/// weights differ costs well under a microsecond for a thousand.
fn gain_all(gains: &mut [f64], weights: &[f64]) -> f64 {
    const LANES: usize = 8;
    let greater = |a: f64, b: f64| if a > b { a } else { b };
    let mut most = [f64::NEG_INFINITY; LANES];
    let (gains, gains_rest) = gains.as_chunks_mut::<LANES>();
    let (weights, weights_rest) = weights.as_chunks::<LANES>();
    for (gains, weights) in gains.iter_mut().zip(weights) {
        for lane in 0..LANES {
            gains[lane] += weights[lane];
            most[lane] = greater(gains[lane], most[lane]);
        }
    }
    for (gain, weight) in gains_rest.iter_mut().zip(weights_rest) {
        *gain += weight;
        most[0] = greater(*gain, most[0]);
    }
    most.into_iter().fold(f64::NEG_INFINITY, greater)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rule as it is told, over all members.
    fn turn(members: &mut [Member]) -> Option<usize> {
        let total: f64 = members.iter().map(|member| member.weight).sum();
        for member in &mut *members {
            member.gain += member.weight;
        }
        let most = members
            .iter()
            .map(|member| member.gain)
            .max_by(f64::total_cmp)?;
        let richest = members.iter_mut().find(|member| member.gain == most)?;
        richest.gain -= total;
        Some(richest.place)
    }

    fn members(weights: &[u32], gains: &[f64]) -> Vec<Member> {
        let gains = gains.iter().copied().chain(std::iter::repeat(0.0));
        let pairs = weights.iter().zip(gains).enumerate();
        pairs
            .map(|(place, (weight, gain))| Member {
                place,
                weight: f64::from(*weight) * SCALE,
                gain,
            })
            .collect()
    }

    #[test]
    fn five_one_one_is_smooth() {
        let mut queues = Queues::new(members(&[5, 1, 1], &[]));
        let turns: Vec<_> = (0..7).filter_map(|_| queues.turn()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(Queues::default().turn(), None);
    }

    proptest! {
        /// Queues choose as the rule does, also where the pool, and with it the price of a turn, changes again and again.
        #[test]
        fn queues_follow_the_rule(
            pools in prop::collection::vec(prop::collection::vec(1u32..6, 1..24), 1..6),
            wide in prop::collection::vec(1u32..10_000, 1..40),
        ) {
            let mut gains: Vec<f64> = Vec::new();
            for weights in pools.iter().chain([&wide]) {
                gains.truncate(weights.len());
                let mut slow = members(weights, &gains);
                let mut quick = Queues::new(slow.clone());
                for number in 0..200 {
                    prop_assert_eq!(quick.turn(), turn(&mut slow), "turn {}", number);
                }
                gains = quick.gains_by_place();
                let expected: Vec<_> = slow.iter().map(|member| member.gain).collect();
                prop_assert_eq!(&gains, &expected);
            }
        }
    }
}
