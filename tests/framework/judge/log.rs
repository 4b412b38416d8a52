//! The log of revisions that witnesses saw.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Guarantee, Violation,
    interval::Interval,
    model::{self, Past, State},
    streams::Stream,
};
use crate::history::{Change, ChangeKind, Pair};

/// The first revision that a change makes: an empty store is at 1.
const FIRST: i64 = 2;

/// What happened at each revision.
pub(super) struct Log {
    /// From [`FIRST`] on; `None` where no witness saw anything.
    entries: Vec<Option<Entry>>,
    keys: BTreeMap<Bytes, Vec<Version>>,
}

/// One revision.
pub(super) struct Entry {
    /// In the order of the request.
    pub(super) changes: Vec<Change>,
    /// When it was first seen.
    pub(super) seen_ns: u64,
}

struct Version {
    revision: i64,
    pair: Option<Pair>,
}

/// What one member showed of a revision.
struct Sighting<'a> {
    changes: Vec<&'a Change>,
    endpoint: &'a str,
    first_ns: u64,
    last_ns: u64,
}

/// What is wrong with the log itself.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) violations: Vec<Violation>,
    pub(super) defects: Vec<String>,
}

impl Log {
    /// Merges what witnesses saw.
    pub(super) fn new(streams: &[Stream<'_>], faults: &mut Faults) -> Self {
        let mut sightings: BTreeMap<i64, Vec<Sighting<'_>>> = BTreeMap::new();
        let witnesses: Vec<_> = streams.iter().filter(|stream| stream.witness()).collect();
        if witnesses.is_empty() {
            faults
                .defects
                .push("no witness watched all keys".to_owned());
        }
        for witness in &witnesses {
            sight(witness, &mut sightings);
        }
        let last = sightings.keys().next_back().copied().unwrap_or(FIRST - 1);
        let mut log = Self {
            entries: Vec::new(),
            keys: BTreeMap::new(),
        };
        for revision in FIRST..=last {
            let entry = match sightings.remove(&revision) {
                Some(seen) => Some(agree(revision, seen, faults)),
                None => {
                    missing(revision, &witnesses, faults);
                    None
                }
            };
            log.entries.push(entry);
        }
        log.replay(faults);
        log
    }

    /// The last revision.
    pub(super) fn last(&self) -> i64 {
        FIRST - 1 + self.entries.len() as i64
    }

    /// A revision.
    pub(super) fn entry(&self, revision: i64) -> Option<&Entry> {
        let at = usize::try_from(revision - FIRST).ok()?;
        self.entries.get(at)?.as_ref()
    }

    /// Every revision from `first` to `last` that is known.
    pub(super) fn entries(&self, first: i64, last: i64) -> impl Iterator<Item = (i64, &Entry)> {
        (first.max(FIRST)..=last.min(self.last()))
            .filter_map(|revision| Some((revision, self.entry(revision)?)))
    }

    /// The state at a revision.
    pub(super) fn at(&self, revision: i64) -> At<'_> {
        At {
            log: self,
            revision,
        }
    }

    /// Builds the versions of each key, and checks that they count right.
    fn replay(&mut self, faults: &mut Faults) {
        let mut keys: BTreeMap<Bytes, Vec<Version>> = BTreeMap::new();
        for (revision, entry) in self.entries(FIRST, self.last()) {
            for change in &entry.changes {
                let versions = keys.entry(change.kv.key.clone()).or_default();
                let prev = versions.last().and_then(|version| version.pair.as_ref());
                if let Some(what) = miscounted(revision, change, prev) {
                    let violation = Violation::new(Guarantee::K5, entry.seen_ns, what);
                    faults.violations.push(violation.revision(revision));
                }
                let pair = (change.kind == ChangeKind::Put).then(|| change.kv.clone());
                versions.push(Version { revision, pair });
            }
        }
        self.keys = keys;
    }
}

fn miscounted(revision: i64, change: &Change, prev: Option<&Pair>) -> Option<String> {
    let kv = &change.kv;
    let expected = match (change.kind, prev) {
        (ChangeKind::Put, Some(prev)) => (prev.create_revision, revision, prev.version + 1),
        (ChangeKind::Put, None) => (revision, revision, 1),
        (ChangeKind::Delete, Some(_)) => (0, revision, 0),
        (ChangeKind::Delete, None) => {
            return Some(format!("{:?} is deleted and is not there", kv.key));
        }
    };
    let got = (kv.create_revision, kv.mod_revision, kv.version);
    (got != expected).then(|| {
        format!(
            "{:?}: create_revision, mod_revision, version are {got:?} instead of {expected:?}",
            kv.key
        )
    })
}

/// Collects what a witness saw, a revision at a time. An event that came twice counts once here; it is the watch's own offence.
fn sight<'a>(witness: &Stream<'a>, sightings: &mut BTreeMap<i64, Vec<Sighting<'a>>>) {
    let mut revisions: BTreeMap<i64, (Vec<&'a Change>, u64)> = BTreeMap::new();
    for (ns, change) in witness.whole_changes() {
        let (changes, _) = revisions
            .entry(change.kv.mod_revision)
            .or_insert((Vec::new(), ns));
        if !changes.iter().any(|other| same(other, change)) {
            changes.push(change);
        }
    }
    for (revision, (changes, ns)) in revisions {
        let seen = sightings.entry(revision).or_default();
        let equal = seen.iter_mut().find(|other| {
            other.changes.len() == changes.len()
                && other
                    .changes
                    .iter()
                    .zip(&changes)
                    .all(|(one, other)| same(one, other))
        });
        match equal {
            Some(sighting) => {
                sighting.first_ns = sighting.first_ns.min(ns);
                sighting.last_ns = sighting.last_ns.max(ns);
            }
            None => seen.push(Sighting {
                changes,
                endpoint: witness.endpoint,
                first_ns: ns,
                last_ns: ns,
            }),
        }
    }
}

fn same(one: &Change, other: &Change) -> bool {
    one.kind == other.kind && one.kv == other.kv
}

/// What the witnesses saw at a revision. If they disagree, what was seen last counts: what came before is lost.
fn agree(revision: i64, mut seen: Vec<Sighting<'_>>, faults: &mut Faults) -> Entry {
    seen.sort_by_key(|sighting| sighting.last_ns);
    if let [first, .., last] = &seen[..] {
        let guarantee = match first.endpoint == last.endpoint {
            true => Guarantee::K1,
            false => Guarantee::H1,
        };
        let what = format!(
            "{} shows {}, {} shows {}",
            first.endpoint,
            describe(&first.changes),
            last.endpoint,
            describe(&last.changes),
        );
        let violation = Violation::new(guarantee, last.last_ns, what);
        faults.violations.push(violation.revision(revision));
    }
    let last = seen
        .pop()
        .expect("a revision is in the map only if somebody saw it");
    Entry {
        changes: last.changes.into_iter().cloned().collect(),
        seen_ns: last.first_ns,
    }
}

/// Changes in few words.
pub(super) fn describe<'a>(changes: impl IntoIterator<Item = &'a &'a Change>) -> String {
    let words = changes.into_iter().map(|change| match change.kind {
        ChangeKind::Put => format!("put {:?} = {:?}", change.kv.key, change.kv.value),
        ChangeKind::Delete => format!("delete {:?}", change.kv.key),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// A revision that nobody saw: a gap if a witness went past it, else nobody was there to see it.
fn missing(revision: i64, witnesses: &[&Stream<'_>], faults: &mut Faults) {
    let passed = witnesses.iter().find(|witness| witness.passed(revision));
    match passed {
        Some(witness) => {
            let what = format!(
                "{} went past a revision that nobody was shown",
                witness.endpoint
            );
            let violation = Violation::new(Guarantee::K5, witness.end_ns(), what);
            faults.violations.push(violation.revision(revision));
        }
        None => {
            let what = format!("no witness was watching at revision {revision}");
            faults.defects.push(what);
        }
    }
}

/// The pairs at a revision.
pub(super) struct At<'a> {
    log: &'a Log,
    revision: i64,
}

impl<'a> At<'a> {
    fn pairs(
        &self,
        interval: &Interval,
        revision: i64,
    ) -> impl Iterator<Item = &'a Pair> + use<'a> {
        let keys = self.log.keys.range::<[u8], _>(interval.bounds());
        keys.filter_map(move |(_, versions)| newest(versions, revision))
    }

    /// What the end of a lease changes here, as the one that makes the next revision.
    pub(super) fn revoked(&self, lease: i64) -> Vec<Change> {
        let all = Interval::new(&Bytes::from_static(b"\0"), &Bytes::from_static(b"\0"));
        model::revoke(self.pairs(&all, self.revision), lease, self.revision + 1)
    }
}

fn newest(versions: &[Version], revision: i64) -> Option<&Pair> {
    let after = versions.partition_point(|version| version.revision <= revision);
    versions[..after].last()?.pair.as_ref()
}

impl State for At<'_> {
    fn get(&self, key: &[u8]) -> Option<&Pair> {
        newest(self.log.keys.get(key)?, self.revision)
    }

    fn range(&self, interval: &Interval) -> Vec<&Pair> {
        self.pairs(interval, self.revision).collect()
    }

    fn past(&self, interval: &Interval, revision: i64) -> Past<'_> {
        match revision <= self.revision {
            true => Past::Pairs(self.pairs(interval, revision).collect()),
            false => Past::Future,
        }
    }
}
