//! The time of leases, which runs on the leader only.
//!
//! The replicated state knows a lease's TTL and, from checkpoints, what was left of it; when it ends is the leader's own knowledge
//! and lies here, in memory. On a member that does not lead there are no deadlines at all, and every question goes to the leader.
//!
//! ```text
//!              led term confirmed, all applied             leadership lost
//!   (no time) ────────────────────────────────▶ primary ────────────────────▶ (no time)
//!                deadline = now + election        │ renew: deadline = now + TTL
//!                timeout + what was left          │ deadline passed: revoked through the log
//! ```
//!
//! What was left survives a change of leader because the leader notes it in the log. etcd does so every five minutes, and only for
//! leases with more than that left. Here a lease that nobody renews is noted each twentieth of its TTL, and all are when leadership
//! is handed over; one that is renewed in time, as most are, is never noted and costs the log nothing. A note is taken back before
//! the renewal that makes it wrong is answered, so that no change of leader can shorten a lease that its owner holds.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    time::Duration,
};

use catena_store::{LeaseChange, LeaseCheckpoint, LeaseView};
use parking_lot::Mutex;

/// A renewed lease is noted once this share of its TTL has passed without another renewal. Clients renew after a third.
const QUIET_SHARE: f64 = 0.4;

/// Notes of a lease that is not renewed are this share of its TTL apart …
const NOTE_SHARE: f64 = 0.05;

/// … and no less than this.
const NOTE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// From so many leases on, a new leader spreads their ends.
const SPREAD_LEASES_MIN: usize = 1000;

/// So many of them may end in one second: three quarters of what the clock can revoke.
const SPREAD_PER_SEC: u32 = 750;

/// Deadlines of the leases, while this member leads.
#[derive(Default)]
pub(crate) struct Lessor {
    primary: Mutex<Option<Primary>>,
}

/// What the leader knows.
struct Primary {
    term: u64,
    timers: HashMap<i64, Timer>,
    /// By the time to look whether the lease has ended.
    ends: BTreeSet<(Duration, i64)>,
    /// By the time to look whether a note is due.
    notes: BTreeSet<(Duration, i64)>,
}

/// One lease.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Timer {
    ttl: Duration,
    deadline: Duration,
    note_at: Duration,
    note: Note,
    looks: Looks,
}

/// When the clock looks at a lease. A renewal moves what is due and not the looks at it, which then find that it is too early: so a
/// renewal costs no more than its lookup.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Looks {
    end: Duration,
    note: Duration,
}

/// Whether the store holds a note of what is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Note {
    None,
    /// One is on its way there. If nothing is heard of it until then, it counts as standing.
    Pending {
        until: Duration,
    },
    Standing,
}

impl Timer {
    /// Whether something is due before the clock looks.
    fn is_looked_at_late(&self) -> bool {
        self.deadline < self.looks.end || self.note_at < self.looks.note
    }
}

impl Note {
    fn of(remaining_ttl_secs: i64) -> Self {
        if remaining_ttl_secs > 0 {
            Self::Standing
        } else {
            Self::None
        }
    }
}

/// What a renewal found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// Runs for this many seconds again.
    Renewed(i64),
    /// The store holds a note: take it back first.
    Noted,
    /// A note is on its way to the store: ask again.
    Noting,
    /// The deadline has passed and the lease is being revoked.
    Expired,
    /// Not known here: the store knows whether it exists.
    Unknown,
    /// This member does not lead, or does not know the leases yet.
    NotPrimary,
}

impl Lessor {
    /// Starts time in `term` with the leases of the store.
    pub(crate) fn promote(&self, term: u64, now: Duration, extend: Duration, leases: &[LeaseView]) {
        let mut primary = Primary {
            term,
            timers: HashMap::with_capacity(leases.len()),
            ends: BTreeSet::new(),
            notes: BTreeSet::new(),
        };
        for (lease, left) in spread(leases) {
            let ttl = secs(lease.ttl_secs);
            primary.insert(
                lease.id,
                Timer {
                    ttl,
                    deadline: now + extend + left,
                    note_at: now + note_interval(ttl),
                    note: Note::of(lease.remaining_ttl_secs),
                    looks: Looks::default(),
                },
            );
        }
        *self.primary.lock() = Some(primary);
    }

    /// Stops time.
    pub(crate) fn demote(&self) {
        *self.primary.lock() = None;
    }

    /// The term that time runs in.
    pub(crate) fn term(&self) -> Option<u64> {
        self.primary.lock().as_ref().map(|primary| primary.term)
    }

    /// Follows the store. A change that says less than what is known already, since a renewal was quicker, changes nothing.
    pub(crate) fn follow(&self, now: Duration, change: LeaseChange) {
        let mut guard = self.primary.lock();
        let Some(primary) = guard.as_mut() else {
            return;
        };
        match change {
            LeaseChange::Granted { id, ttl_secs } => primary.admit(id, secs(ttl_secs), now),
            LeaseChange::Revoked { id } => drop(primary.remove(id)),
            LeaseChange::Checkpointed {
                id,
                remaining_ttl_secs,
            } => {
                if let Some(timer) = primary.timers.get_mut(&id) {
                    timer.note = Note::of(remaining_ttl_secs);
                }
            }
            // The caller reads the store again and calls `reconcile`.
            LeaseChange::Rescan => {}
        }
    }

    /// Takes up leases that are in the store and not here, and drops those that are no more.
    pub(crate) fn reconcile(&self, now: Duration, leases: &[LeaseView]) {
        let mut guard = self.primary.lock();
        let Some(primary) = guard.as_mut() else {
            return;
        };
        let present: HashMap<i64, &LeaseView> = leases.iter().map(|l| (l.id, l)).collect();
        let gone: Vec<i64> = primary
            .timers
            .keys()
            .filter(|id| !present.contains_key(id))
            .copied()
            .collect();
        for id in gone {
            primary.remove(id);
        }
        for lease in leases {
            primary.admit(lease.id, secs(lease.ttl_secs), now);
            if let Some(timer) = primary.timers.get_mut(&lease.id) {
                timer.note = Note::of(lease.remaining_ttl_secs);
            }
        }
    }

    /// Takes up one lease that the store has.
    pub(crate) fn admit(&self, now: Duration, id: i64, ttl_secs: i64) {
        if let Some(primary) = self.primary.lock().as_mut() {
            primary.admit(id, secs(ttl_secs), now);
        }
    }

    /// Sets a lease's deadline back.
    pub(crate) fn renew(&self, now: Duration, id: i64) -> Renewal {
        let mut guard = self.primary.lock();
        let Some(primary) = guard.as_mut() else {
            return Renewal::NotPrimary;
        };
        let Some(timer) = primary.timers.get_mut(&id) else {
            return Renewal::Unknown;
        };
        match timer.note {
            _ if timer.deadline <= now => Renewal::Expired,
            Note::Pending { until } if until > now => Renewal::Noting,
            Note::Pending { .. } | Note::Standing => Renewal::Noted,
            Note::None => {
                timer.deadline = now + timer.ttl;
                timer.note_at = now + timer.ttl.mul_f64(QUIET_SHARE).max(NOTE_INTERVAL_MIN);
                let renewed = *timer;
                if renewed.is_looked_at_late() {
                    primary.insert(id, renewed);
                }
                Renewal::Renewed(renewed.ttl.as_secs() as i64)
            }
        }
    }

    /// Those of `ids` of which the store holds a note that must be taken back before a renewal.
    pub(crate) fn noted(&self, now: Duration, ids: &[i64]) -> Vec<i64> {
        let guard = self.primary.lock();
        let Some(primary) = guard.as_ref() else {
            return Vec::new();
        };
        let is_noted = |id: &&i64| {
            let timer = primary.timers.get(*id);
            timer.is_some_and(|timer| timer.deadline > now && timer.note == Note::Standing)
        };
        ids.iter().filter(is_noted).copied().collect()
    }

    /// Whole seconds until the lease ends, truncated toward zero, with the term in which they were counted.
    pub(crate) fn remaining_secs(&self, now: Duration, id: i64) -> Option<(u64, Option<i64>)> {
        let guard = self.primary.lock();
        let primary = guard.as_ref()?;
        let remaining = primary.timers.get(&id).map(|timer| {
            let left = timer.deadline.as_secs_f64() - now.as_secs_f64();
            left.trunc() as i64
        });
        Some((primary.term, remaining))
    }

    /// All leases, the one that ends first at the front; `None` where time does not run.
    pub(crate) fn by_deadline(&self) -> Option<Vec<i64>> {
        let guard = self.primary.lock();
        Some(guard.as_ref()?.by_deadline())
    }

    /// Leases whose deadline has passed, at most `max`.
    pub(crate) fn expired(&self, now: Duration, max: usize) -> Vec<i64> {
        let mut guard = self.primary.lock();
        let ended = guard.as_mut().map(|primary| primary.ended(now, max));
        ended.unwrap_or_default()
    }

    /// Notes that are due, at most `max`, to be brought to the store until `until`; the next of each is scheduled.
    pub(crate) fn due_notes(
        &self,
        now: Duration,
        until: Duration,
        max: usize,
    ) -> Vec<LeaseCheckpoint> {
        let mut guard = self.primary.lock();
        let Some(primary) = guard.as_mut() else {
            return Vec::new();
        };
        let notes = primary
            .due_for_note(now, max)
            .into_iter()
            .filter_map(|id| primary.note(id, now, until));
        notes.collect()
    }

    /// Notes of all leases, due or not.
    pub(crate) fn all_notes(&self, now: Duration, until: Duration) -> Vec<LeaseCheckpoint> {
        let mut guard = self.primary.lock();
        let Some(primary) = guard.as_mut() else {
            return Vec::new();
        };
        let notes = primary
            .by_deadline()
            .into_iter()
            .filter_map(|id| primary.note(id, now, until));
        notes.collect()
    }

    /// The notes have arrived in the store, or nobody knows whether they have.
    pub(crate) fn settle(&self, notes: &[LeaseCheckpoint]) {
        let mut guard = self.primary.lock();
        let Some(primary) = guard.as_mut() else {
            return;
        };
        for note in notes {
            if let Some(timer) = primary.timers.get_mut(&note.id) {
                timer.note = Note::of(note.remaining_ttl_secs);
            }
        }
    }
}

impl Primary {
    /// Adds a lease with its whole TTL, if it is not known.
    fn admit(&mut self, id: i64, ttl: Duration, now: Duration) {
        if self.timers.contains_key(&id) {
            return;
        }
        let timer = Timer {
            ttl,
            deadline: now + ttl,
            note_at: now + note_interval(ttl),
            note: Note::None,
            looks: Looks::default(),
        };
        self.insert(id, timer);
    }

    /// Takes a timer up, or in the place of another, and looks at it when something is due.
    fn insert(&mut self, id: i64, mut timer: Timer) {
        self.remove(id);
        timer.looks = Looks {
            end: timer.deadline,
            note: timer.note_at,
        };
        self.ends.insert((timer.looks.end, id));
        self.notes.insert((timer.looks.note, id));
        self.timers.insert(id, timer);
    }

    fn remove(&mut self, id: i64) -> Option<Timer> {
        let timer = self.timers.remove(&id)?;
        self.ends.remove(&(timer.looks.end, id));
        self.notes.remove(&(timer.looks.note, id));
        Some(timer)
    }

    /// All leases, in an order that does not depend on the map's.
    fn by_deadline(&self) -> Vec<i64> {
        let deadlines = self.timers.iter();
        let mut ends: Vec<_> = deadlines.map(|(id, timer)| (timer.deadline, *id)).collect();
        ends.sort_unstable();
        ends.into_iter().map(|(_, id)| id).collect()
    }

    /// Leases whose time is up, by deadline.
    fn ended(&mut self, now: Duration, max: usize) -> Vec<i64> {
        let mut ended = self.due(now, max, |primary| &primary.ends, |timer| timer.deadline);
        ended.sort_unstable();
        ended.into_iter().map(|(_, id)| id).collect()
    }

    /// Leases that are to be noted.
    fn due_for_note(&mut self, now: Duration, max: usize) -> Vec<i64> {
        let due = self.due(now, max, |primary| &primary.notes, |timer| timer.note_at);
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Looks at the leases whose time for that has come: those of which something is due, at most `max`, and since when. The others
    /// are looked at again when it is.
    fn due(
        &mut self,
        now: Duration,
        max: usize,
        looks: impl Fn(&Self) -> &BTreeSet<(Duration, i64)>,
        at: impl Fn(&Timer) -> Duration,
    ) -> Vec<(Duration, i64)> {
        let mut due = Vec::new();
        let mut looked_at = Bound::Unbounded;
        let until = Bound::Included((now, i64::MAX));
        while due.len() < max
            && let Some(&look) = looks(self).range((looked_at, until)).next()
        {
            looked_at = Bound::Excluded(look);
            let (_, id) = look;
            match self.timers.get(&id).copied() {
                Some(timer) if at(&timer) > now => self.insert(id, timer),
                Some(timer) => due.push((at(&timer), id)),
                None => {}
            }
        }
        due
    }

    /// What is left of a lease, rounded up, and when to note it again; `None` if its time is up.
    fn note(&mut self, id: i64, now: Duration, until: Duration) -> Option<LeaseCheckpoint> {
        let mut timer = self.timers.get(&id).copied()?;
        let left = timer.deadline.checked_sub(now);
        timer.note_at = now + note_interval(timer.ttl);
        if left.is_some() {
            timer.note = Note::Pending { until };
        }
        self.insert(id, timer);
        let left = left?;
        let whole = i64::try_from(left.as_secs()).ok()?;
        Some(LeaseCheckpoint {
            id,
            remaining_ttl_secs: whole + i64::from(left.subsec_nanos() > 0),
        })
    }
}

fn secs(secs: i64) -> Duration {
    Duration::from_secs(u64::try_from(secs).unwrap_or_default())
}

fn note_interval(ttl: Duration) -> Duration {
    ttl.mul_f64(NOTE_SHARE).max(NOTE_INTERVAL_MIN)
}

/// What is left of each lease, prolonged where too many would end together: a window begins with its first lease, and each
/// [`SPREAD_PER_SEC`] more in it move the next ones back by a second.
fn spread(leases: &[LeaseView]) -> Vec<(&LeaseView, Duration)> {
    let left = |lease: &LeaseView| match lease.remaining_ttl_secs {
        0 => secs(lease.ttl_secs),
        noted => secs(noted),
    };
    let mut leases: Vec<_> = leases.iter().map(|lease| (lease, left(lease))).collect();
    if leases.len() < SPREAD_LEASES_MIN {
        return leases;
    }
    leases.sort_by_key(|&(lease, left)| (left, lease.id));
    let window = Duration::from_secs(1);
    let (mut base, mut end, mut count) = (Duration::ZERO, Duration::ZERO, 0);
    for (_, left) in &mut leases {
        if *left > end {
            (base, end, count) = (*left, *left + window, 1);
            continue;
        }
        count += 1;
        if count <= SPREAD_PER_SEC {
            continue;
        }
        // A lease that ends later in the window needs that much less delay.
        let delay = (window * (count / SPREAD_PER_SEC)).saturating_sub(*left - base);
        end = base + delay;
        *left += delay;
    }
    leases
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn lease(id: i64, ttl_secs: i64, remaining_ttl_secs: i64) -> LeaseView {
        LeaseView {
            id,
            ttl_secs,
            remaining_ttl_secs,
            keys: Vec::new(),
        }
    }

    fn primary(leases: &[LeaseView]) -> Lessor {
        let lessor = Lessor::default();
        lessor.promote(7, NOW, Duration::from_secs(1), leases);
        lessor
    }

    fn after(secs: f64) -> Duration {
        NOW + Duration::from_secs_f64(secs)
    }

    #[test]
    fn no_time_runs_on_a_follower() {
        let lessor = Lessor::default();
        lessor.follow(NOW, LeaseChange::Granted { id: 1, ttl_secs: 1 });
        assert_eq!(lessor.renew(NOW, 1), Renewal::NotPrimary);
        assert_eq!(lessor.remaining_secs(NOW, 1), None);
        assert!(lessor.expired(after(99.0), 9).is_empty());
        let lessor = primary(&[lease(1, 5, 0)]);
        lessor.demote();
        assert!(lessor.expired(after(99.0), 9).is_empty());
        assert_eq!(lessor.by_deadline(), None);
    }

    #[test]
    fn promotion_extends_what_was_noted_or_the_whole_ttl() {
        let lessor = primary(&[lease(1, 60, 0), lease(2, 60, 10)]);
        assert_eq!(lessor.remaining_secs(NOW, 1), Some((7, Some(61))));
        assert_eq!(lessor.remaining_secs(NOW, 2), Some((7, Some(11))));
        assert_eq!(lessor.by_deadline(), Some(vec![2, 1]));
    }

    #[test]
    fn remaining_time_is_truncated() {
        let lessor = primary(&[]);
        lessor.follow(
            NOW,
            LeaseChange::Granted {
                id: 1,
                ttl_secs: 10,
            },
        );
        assert_eq!(lessor.remaining_secs(after(0.1), 1), Some((7, Some(9))));
        assert_eq!(lessor.remaining_secs(after(9.5), 1), Some((7, Some(0))));
        assert_eq!(lessor.remaining_secs(after(11.5), 1), Some((7, Some(-1))));
        assert_eq!(lessor.remaining_secs(NOW, 2), Some((7, None)));
    }

    #[test]
    fn expired_leases_come_in_order_and_bounded() {
        let lessor = primary(&[lease(3, 2, 0), lease(1, 1, 0), lease(2, 60, 0)]);
        assert_eq!(lessor.expired(after(1.9), 9), [] as [i64; 0]);
        assert_eq!(lessor.expired(after(5.0), 9), [1, 3]);
        assert_eq!(lessor.expired(after(5.0), 1), [1]);
        lessor.follow(after(5.0), LeaseChange::Revoked { id: 1 });
        assert_eq!(lessor.expired(after(5.0), 9), [3]);
    }

    #[test]
    fn renewal_sets_the_deadline_back_and_never_revives() {
        let lessor = primary(&[lease(1, 10, 0)]);
        assert_eq!(lessor.renew(after(9.0), 1), Renewal::Renewed(10));
        assert_eq!(lessor.expired(after(18.9), 9), [] as [i64; 0]);
        assert_eq!(lessor.renew(after(19.0), 1), Renewal::Expired);
        assert_eq!(lessor.renew(NOW, 2), Renewal::Unknown);
    }

    #[test]
    fn a_renewal_that_shortens_is_looked_at_in_time() {
        let lessor = Lessor::default();
        lessor.promote(7, NOW, Duration::from_secs(60), &[lease(1, 10, 0)]);
        assert_eq!(lessor.renew(NOW, 1), Renewal::Renewed(10));
        assert_eq!(lessor.expired(after(10.0), 9), [1]);
    }

    #[test]
    fn many_renewals_between_two_looks_end_once() {
        let lessor = primary(&[lease(1, 10, 0), lease(2, 4, 0)]);
        for second in 1..30 {
            assert_eq!(
                lessor.renew(after(f64::from(second)), 1),
                Renewal::Renewed(10)
            );
        }
        assert_eq!(lessor.expired(after(39.0), 9), [2, 1]);
        assert_eq!(lessor.by_deadline(), Some(vec![2, 1]));
        lessor.follow(after(39.0), LeaseChange::Revoked { id: 1 });
        assert_eq!(lessor.expired(after(99.0), 9), [2]);
    }

    #[test]
    fn a_noted_lease_is_renewed_only_after_the_note_is_gone() {
        let lessor = primary(&[lease(1, 10, 5)]);
        assert_eq!(lessor.renew(after(1.0), 1), Renewal::Noted);
        let cleared = LeaseChange::Checkpointed {
            id: 1,
            remaining_ttl_secs: 0,
        };
        lessor.follow(after(1.0), cleared);
        assert_eq!(lessor.renew(after(1.0), 1), Renewal::Renewed(10));
    }

    #[test]
    fn a_note_under_way_holds_a_renewal_up_for_a_while() {
        let lessor = primary(&[lease(1, 60, 0)]);
        let notes = lessor.due_notes(after(5.0), after(12.0), 9);
        assert_eq!(lessor.renew(after(5.0), 1), Renewal::Noting);
        assert_eq!(lessor.renew(after(12.0), 1), Renewal::Noted);
        lessor.settle(&notes);
        assert_eq!(lessor.renew(after(5.0), 1), Renewal::Noted);
    }

    #[test]
    fn leases_that_are_renewed_in_time_are_never_noted() {
        let lessor = primary(&[lease(1, 60, 0)]);
        assert_eq!(lessor.renew(NOW, 1), Renewal::Renewed(60));
        for round in 1..20 {
            let now = after(f64::from(round) * 20.0);
            assert_eq!(lessor.due_notes(now, now, 9), []);
            assert_eq!(lessor.renew(now, 1), Renewal::Renewed(60));
        }
    }

    #[test]
    fn quiet_leases_are_noted_again_and_again() {
        let lessor = primary(&[]);
        lessor.follow(
            NOW,
            LeaseChange::Granted {
                id: 1,
                ttl_secs: 60,
            },
        );
        assert_eq!(lessor.due_notes(after(2.9), NOW, 9), []);
        let note = |remaining_ttl_secs| LeaseCheckpoint {
            id: 1,
            remaining_ttl_secs,
        };
        assert_eq!(lessor.due_notes(after(3.0), NOW, 9), [note(57)]);
        assert_eq!(lessor.due_notes(after(3.5), NOW, 9), []);
        assert_eq!(lessor.due_notes(after(6.5), NOW, 9), [note(54)]);
        assert_eq!(lessor.all_notes(after(7.0), NOW), [note(53)]);
        assert_eq!(lessor.due_notes(after(61.0), NOW, 9), []);
    }

    #[test]
    fn rescan_drops_and_takes_up() {
        let lessor = primary(&[lease(1, 10, 0), lease(2, 10, 0)]);
        lessor.reconcile(after(4.0), &[lease(2, 10, 3), lease(3, 20, 0)]);
        assert_eq!(lessor.renew(after(4.0), 1), Renewal::Unknown);
        assert_eq!(lessor.renew(after(4.0), 2), Renewal::Noted);
        assert_eq!(lessor.remaining_secs(after(4.5), 3), Some((7, Some(19))));
    }

    #[test]
    fn many_leases_that_end_together_are_spread() {
        let leases: Vec<_> = (1..=3000).map(|id| lease(id, 10, 0)).collect();
        let mut by_second = HashMap::new();
        for (_, left) in spread(&leases) {
            *by_second.entry(left.as_secs()).or_insert(0) += 1;
        }
        assert_eq!(spread(&leases).len(), 3000);
        assert!(
            by_second.values().all(|count| *count <= 750),
            "{by_second:?}"
        );
        assert!(
            by_second.keys().all(|secs| (10..=14).contains(secs)),
            "{by_second:?}"
        );
        let few: Vec<_> = (1..1000).map(|id| lease(id, 10, 0)).collect();
        assert!(spread(&few).iter().all(|(_, left)| left.as_secs() == 10));
    }
}
