//! Whether events come promptly.
//!
//! A member that has shown a revision to anybody, in a read or on any watch, has applied it. From then on it owes its events to every
//! watch on it that asked for them, whatever the other members and the links between them do: nothing more is needed than to send
//! them. So the time runs from there, or from when the watch was confirmed. It runs only for the process that showed the revision, and
//! begins anew when a fault of that very member ends: one that stands still owes nothing meanwhile.
//!
//! What a watch is never sent, it is owed until it ends: [`super::watches`] knows of a watch that was closed only what it was sent.

use std::collections::{BTreeMap, HashMap};

use super::{
    Guarantee, Violation,
    case::Case,
    streams::{Item, Stream},
    watches::wants,
};
use crate::history::{Args, History, Phase, ProcEvent, Record};

/// The setting with the bound, in milliseconds; without it nothing is judged.
const LATE_MS: &str = "watch_late_ms";

const NS_PER_MS: u64 = 1_000_000;

/// Judges the delay of every response with events. Returns them all, in nanoseconds, in ascending order.
pub(super) fn check(case: &mut Case<'_>) -> Vec<u64> {
    let setting = case
        .history
        .meta()
        .and_then(|meta| meta.settings.get(LATE_MS));
    let Some(bound_ms) = setting.and_then(|json| json.as_u64()) else {
        return Vec::new();
    };
    let members = members(case);
    let mut judged = Judged {
        case,
        bound: bound_ms * NS_PER_MS,
        over_ns: over(case.history),
        delays: Vec::new(),
        found: Vec::new(),
    };
    for stream in &case.streams {
        if let Some(member) = members.get(stream.endpoint) {
            judged.stream(stream, member);
        }
    }
    let Judged {
        mut delays, found, ..
    } = judged;
    case.violations.extend(found);
    delays.sort_unstable();
    delays
}

/// What is known of a member.
#[derive(Default)]
struct Member {
    /// When its processes began.
    starts: Vec<u64>,
    /// What each of them had shown by when: revisions and times, both ascending.
    shown: Vec<Vec<(i64, u64)>>,
    /// When it was under a fault, by beginning.
    faults: Vec<(u64, u64)>,
}

impl Member {
    /// Which process ran at a moment.
    fn process(&self, ns: u64) -> usize {
        self.starts.partition_point(|start| *start <= ns)
    }

    /// When a process had shown a revision.
    fn shown(&self, process: usize, revision: i64) -> Option<u64> {
        let shown = self.shown.get(process)?;
        let at = shown.partition_point(|(other, _)| *other < revision);
        shown.get(at).map(|(_, ns)| *ns)
    }

    /// The first moment not before `from` after which no fault begins for as long as `bound`.
    fn healthy_from(&self, from: u64, bound: u64) -> u64 {
        let mut healthy = from;
        for (begin, end) in &self.faults {
            if *begin <= healthy.saturating_add(bound) {
                healthy = healthy.max(*end);
            }
        }
        healthy
    }
}

/// Every member that is known by name, by its endpoint.
fn members<'a>(case: &Case<'a>) -> HashMap<&'a str, Member> {
    let history = case.history;
    let listed = history.meta().map_or(&[][..], |meta| &meta.members);
    let listed = listed
        .iter()
        .map(|member| (member.endpoint.as_str(), member.name.as_str()));
    // In a simulation, members are reached by their names.
    let named = history
        .processes()
        .map(|process| (process.name.as_str(), process.name.as_str()));
    let names: BTreeMap<&str, &str> = listed.chain(named).collect();
    let mut members: HashMap<&str, Member> = names
        .into_iter()
        .map(|(endpoint, name)| (endpoint, life(history, name)))
        .collect();
    for (endpoint, (call, end), revision) in sightings(case) {
        let Some(member) = members.get_mut(endpoint) else {
            continue;
        };
        let process = member.process(call);
        if process == member.process(end) {
            member.shown[process].push((revision, end));
        }
    }
    for shown in members.values_mut().flat_map(|member| &mut member.shown) {
        shown.sort_unstable_by_key(|(_, ns)| *ns);
        let mut highest = 0;
        shown.retain(|(revision, _)| {
            let rises = *revision > highest;
            highest = highest.max(*revision);
            rises
        });
    }
    members
}

/// Processes and faults of a member.
fn life(history: &History, name: &str) -> Member {
    let begins = history
        .processes()
        .filter(|process| process.name == name && process.event == ProcEvent::Start);
    let mut starts: Vec<u64> = begins.map(|process| process.ns).collect();
    starts.sort_unstable();
    Member {
        shown: vec![Vec::new(); starts.len() + 1],
        starts,
        faults: faults(history, name),
    }
}

/// When a member was under a fault. Several of one name are one, from the first beginning to the last end.
fn faults(history: &History, name: &str) -> Vec<(u64, u64)> {
    let mut open: HashMap<&str, (u64, usize)> = HashMap::new();
    let mut faults = Vec::new();
    for fault in history.faults() {
        // One that names nobody hits all.
        if !fault.targets.is_empty() && fault.targets.iter().all(|target| target != name) {
            continue;
        }
        let (begin, count) = open.entry(&fault.name).or_insert((fault.ns, 0));
        match fault.phase {
            Phase::Start => *count += 1,
            Phase::End => *count = count.saturating_sub(1),
        }
        if *count == 0 {
            faults.push((*begin, fault.ns));
            open.remove(fault.name.as_str());
        }
    }
    faults.extend(open.into_values().map(|(begin, _)| (begin, u64::MAX)));
    faults.sort_unstable();
    faults
}

/// An endpoint, a time from call to return, and a revision that was shown in it.
type Sighting<'a> = (&'a str, (u64, u64), i64);

/// What members showed. The answer to a write may come from another member, and does not tell what its own has applied.
fn sightings<'a>(case: &Case<'a>) -> impl Iterator<Item = Sighting<'a>> {
    let reads = case.history.operations().filter_map(|operation| {
        let Args::Get(_) = operation.args else {
            return None;
        };
        let revision = operation.answer()?.header.revision?;
        let time = (operation.call_ns, operation.return_ns?);
        Some((operation.endpoint.as_str(), time, revision))
    });
    let events = case.streams.iter().flat_map(|stream| {
        let endpoint = stream.endpoint;
        stream.changes().map(move |(ns, change)| {
            let time = (stream.create_ns, ns);
            (endpoint, time, change.kv.mod_revision)
        })
    });
    reads.chain(events)
}

/// When the history ends.
fn over(history: &History) -> u64 {
    match history.records.last() {
        Some(Record::End(end)) => end.ns,
        _ => 0,
    }
}

struct Judged<'a> {
    case: &'a Case<'a>,
    bound: u64,
    over_ns: u64,
    delays: Vec<u64>,
    found: Vec<Violation>,
}

impl Judged<'_> {
    fn stream(&mut self, stream: &Stream<'_>, member: &Member) {
        let (Some(confirmed), Some(start)) = (stream.confirmed_ns, stream.start()) else {
            return;
        };
        let process = member.process(confirmed);
        let owed = |revision| {
            let shown = member.shown(process, revision)?;
            Some(member.healthy_from(shown.max(confirmed), self.bound))
        };
        let mut next = start;
        let mut late = Vec::new();
        for (ns, item) in &stream.items {
            let Item::Batch { events, .. } = item else {
                continue;
            };
            let (Some(first), Some(last)) = (events.first(), events.last()) else {
                continue;
            };
            let revision = first.kv.mod_revision;
            if let Some(since) = owed(revision) {
                let delay = ns.saturating_sub(since);
                self.delays.push(delay);
                if delay > self.bound {
                    late.push((*ns, revision, delay, "came"));
                }
            }
            next = next.max(last.kv.mod_revision + 1);
        }
        let end = stream.end.map_or(self.over_ns, |(ns, _)| ns);
        let entries = self.case.log.entries(next, self.case.log.last());
        let mut left = entries.filter(|(_, entry)| {
            let mut changes = entry.changes.iter();
            changes.any(|change| wants(stream, change))
        });
        if let Some((revision, _)) = left.next()
            && let Some(delay) = owed(revision).map(|since| end.saturating_sub(since))
            && delay > self.bound
        {
            late.push((end, revision, delay, "had not come"));
        }
        let accused = late.into_iter().map(|(ns, revision, delay, came)| {
            let what = format!(
                "watch {} on {}: an event {came} {} ms after its member had shown it",
                stream.watch,
                stream.endpoint,
                delay / NS_PER_MS
            );
            Violation::new(Guarantee::W8, ns, what).revision(revision)
        });
        self.found.extend(accused);
    }
}
