//! Leases: what is known of each, and what that forbids.
//!
//! A renewal takes effect between its call and its return, so a lease lives at least until the call of its last answered renewal
//! plus the TTL. A lease that is gone stays gone. An id that was granted twice is left out: its two lives cannot be told apart.

use std::collections::HashMap;

use catena_api::errors;

use super::{Guarantee, Violation, case::Case};
use crate::history::{Args, ChangeKind, History, LeaseId, Operation, Outcome, Phase, Reply};

const NS_PER_SECOND: u64 = 1_000_000_000;

/// The setting in [`Meta::settings`](crate::history::Meta::settings) that bounds how long, after all faults are over, keys may
/// outlive their lease.
const LATE_MS: &str = "lease_late_ms";

/// What is known of every lease.
#[derive(Default)]
pub(super) struct Leases {
    by_id: HashMap<i64, Lease>,
}

#[derive(Default)]
struct Lease {
    grants: usize,
    /// Answered grants and renewals: (call, return, TTL), by call.
    renewals: Vec<(u64, u64, u64)>,
    /// Whether there are renewals of unknown outcome: they may take effect at any time.
    unknown: bool,
    /// When somebody began to revoke it.
    revoking_ns: Option<u64>,
    /// (revision, when it was known) at which it was gone.
    gone: Option<(i64, u64)>,
}

impl Leases {
    pub(super) fn new(history: &History) -> Self {
        let mut leases = Self::default();
        for operation in history.operations() {
            leases.learn(operation);
        }
        for lease in leases.by_id.values_mut() {
            lease.renewals.sort_unstable();
        }
        leases
    }

    fn learn(&mut self, operation: &Operation) {
        let call = operation.call_ns;
        let end = operation.return_ns.unwrap_or(u64::MAX);
        match (&operation.args, &operation.outcome) {
            (Args::LeaseGrant(_), Outcome::Ok(answer)) => {
                if let Reply::LeaseGrant(granted) = &answer.reply {
                    let lease = self.by_id.entry(granted.id).or_default();
                    lease.grants += 1;
                    lease.renewals.push((call, end, ttl_ns(granted.ttl)));
                }
            }
            (Args::LeaseGrant(grant), Outcome::Unknown(_)) => {
                self.by_id.entry(grant.id).or_default().unknown = true;
            }
            (Args::LeaseKeepalive(LeaseId { id }), Outcome::Ok(answer)) => {
                if let Reply::LeaseKeepalive { ttl: ttl @ 1.. } = answer.reply {
                    let lease = self.by_id.entry(*id).or_default();
                    lease.renewals.push((call, end, ttl_ns(ttl)));
                }
            }
            (Args::LeaseKeepalive(LeaseId { id }), Outcome::Unknown(_)) => {
                self.by_id.entry(*id).or_default().unknown = true;
            }
            (Args::LeaseRevoke(LeaseId { id }), Outcome::Ok(_) | Outcome::Unknown(_)) => {
                let revoking = &mut self.by_id.entry(*id).or_default().revoking_ns;
                *revoking = Some(revoking.map_or(call, |other| other.min(call)));
            }
            _ => {}
        }
    }

    /// A lease was gone at a revision, which somebody knew at that time.
    pub(super) fn gone(&mut self, lease: i64, revision: i64, ns: u64) {
        let gone = &mut self.by_id.entry(lease).or_default().gone;
        let earlier = gone.is_none_or(|(_, other)| ns < other);
        if earlier {
            *gone = Some((revision, ns));
        }
    }

    /// The call of the renewal that forbids a lease to be gone at a moment.
    pub(super) fn early(&self, lease: i64, ns: u64) -> Option<u64> {
        let lease = self.by_id.get(&lease).filter(|lease| lease.grants <= 1)?;
        let before = lease.renewals.iter().take_while(|(call, ..)| *call <= ns);
        before
            .filter(|(call, _, ttl)| call.saturating_add(*ttl) > ns)
            .map(|(call, ..)| *call)
            .next()
    }

    /// Whether a lease must have been there during a whole operation.
    fn alive(&self, lease: i64, call: u64, end: u64) -> bool {
        let Some(lease) = self.by_id.get(&lease).filter(|lease| lease.grants <= 1) else {
            return false;
        };
        lease.revoking_ns.is_none_or(|revoking| revoking > end)
            && lease.renewals.iter().any(|(renewed, returned, ttl)| {
                *returned < call && end < renewed.saturating_add(*ttl)
            })
    }
}

fn ttl_ns(seconds: i64) -> u64 {
    u64::try_from(seconds)
        .unwrap_or(0)
        .saturating_mul(NS_PER_SECOND)
}

/// Everything about leases that the revisions do not show.
pub(super) fn check(case: &mut Case<'_>) {
    let found: Vec<_> = case
        .history
        .operations()
        .filter_map(|operation| renewed_after_end(case, operation).or(denied(case, operation)))
        .chain(attached_after_end(case))
        .chain(late(case))
        .collect();
    case.violations.extend(found);
}

/// A renewal that succeeds after the lease was known to be gone.
fn renewed_after_end(case: &Case<'_>, operation: &Operation) -> Option<Violation> {
    let Args::LeaseKeepalive(LeaseId { id }) = operation.args else {
        return None;
    };
    let answer = operation.answer()?;
    let lease = case
        .leases
        .by_id
        .get(&id)
        .filter(|lease| lease.grants <= 1)?;
    let (_, gone_ns) = lease.gone?;
    match answer.reply {
        Reply::LeaseKeepalive { ttl: 1.. } if operation.call_ns > gone_ns => {
            let what = format!("lease {id:x} was renewed after it was gone");
            Some(Violation::new(Guarantee::L3, operation.call_ns, what).op(operation.id))
        }
        _ => None,
    }
}

/// An operation that was told that a lease is gone when it cannot be.
fn denied(case: &Case<'_>, operation: &Operation) -> Option<Violation> {
    let not_found = || {
        operation
            .failure()
            .is_some_and(|failure| failure.text == errors::LEASE_NOT_FOUND.text)
    };
    let id = match &operation.args {
        Args::LeaseKeepalive(LeaseId { id }) => {
            match operation.answer().map(|answer| &answer.reply) {
                Some(Reply::LeaseKeepalive { ttl: ..=0 }) => *id,
                _ => return None,
            }
        }
        Args::LeaseRevoke(LeaseId { id }) if not_found() => *id,
        Args::Put(put) if put.lease != 0 && not_found() => put.lease,
        _ => return None,
    };
    let end = operation.return_ns?;
    // A revocation does not forbid itself: it failed.
    case.leases.alive(id, operation.call_ns, end).then(|| {
        let what = format!("lease {id:x} was said to be gone before its time");
        Violation::new(Guarantee::L1, end, what).op(operation.id)
    })
}

/// Keys that were attached to a lease after it was gone.
fn attached_after_end(case: &Case<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (revision, entry) in case.log.entries(0, case.log.last()) {
        let put = |change: &&crate::history::Change| {
            change.kind == ChangeKind::Put && change.kv.lease != 0
        };
        for change in entry.changes.iter().filter(put) {
            let lease = case.leases.by_id.get(&change.kv.lease);
            let gone = lease
                .filter(|lease| lease.grants <= 1)
                .and_then(|lease| lease.gone);
            if gone.is_some_and(|(gone, _)| revision > gone) {
                let what = format!(
                    "{:?} was attached to lease {:x} after it was gone",
                    change.kv.key, change.kv.lease
                );
                let violation = Violation::new(Guarantee::L3, entry.seen_ns, what);
                found.push(violation.revision(revision));
            }
        }
    }
    found
}

/// Keys that are still there at the end though their lease was due long before.
fn late(case: &Case<'_>) -> Vec<Violation> {
    let setting = case
        .history
        .meta()
        .and_then(|meta| meta.settings.get(LATE_MS));
    let (Some(bound_ms), Some(end_ns)) =
        (setting.and_then(|json| json.as_u64()), end(case.history))
    else {
        return Vec::new();
    };
    let ends = case
        .history
        .faults()
        .filter(|fault| fault.phase == Phase::End);
    let quiet_ns = ends.map(|fault| fault.ns).max().unwrap_or(0);
    let state = case.log.at(case.log.last());
    let mut found = Vec::new();
    for (id, lease) in &case.leases.by_id {
        let due = lease
            .renewals
            .iter()
            .map(|(_, end, ttl)| end.saturating_add(*ttl))
            .max();
        let Some(due) = due.filter(|_| !lease.unknown) else {
            continue;
        };
        let latest = due.max(quiet_ns).saturating_add(bound_ms * 1_000_000);
        let left = state.revoked(*id).len();
        if left > 0 && latest < end_ns {
            let late_ms = (end_ns - due) / 1_000_000;
            let what = format!("lease {id:x} is {late_ms} ms late and has {left} keys");
            found.push(Violation::new(Guarantee::L2, end_ns, what));
        }
    }
    found.sort_by(|one, other| one.what.cmp(&other.what));
    found
}

fn end(history: &History) -> Option<u64> {
    match history.records.last() {
        Some(crate::history::Record::End(end)) => Some(end.ns),
        _ => None,
    }
}
