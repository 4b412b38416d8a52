//! What watches were sent.

use std::collections::HashSet;

use super::{
    Guarantee, Violation,
    case::Case,
    hash::Quick,
    model::State,
    streams::{End, Item, Stream},
};
use crate::history::{Change, ChangeKind, Filter, Pair, Scope};

/// Judges every watch. Returns how many events that were.
pub(super) fn check(case: &mut Case<'_>) -> usize {
    let mut found = Vec::new();
    let mut events = 0;
    for stream in &case.streams {
        let mut watch = Watch::new(case, stream);
        watch.arrivals();
        if watch.found.is_empty() {
            watch.gaps();
        }
        watch.canceled();
        events += stream.changes().count();
        found.append(&mut watch.found);
    }
    case.violations.extend(found);
    events
}

struct Watch<'a> {
    case: &'a Case<'a>,
    stream: &'a Stream<'a>,
    /// The last event: its revision, and whether the rest of its response is still to come.
    last: Option<(i64, bool)>,
    /// The highest bookmark.
    bookmark: i64,
    /// Bookmarks with the last event before each.
    bookmarks: Vec<(i64, i64)>,
    delivered: HashSet<(i64, &'a [u8]), Quick>,
    found: Vec<Violation>,
}

impl<'a> Watch<'a> {
    fn new(case: &'a Case<'_>, stream: &'a Stream<'_>) -> Self {
        Self {
            case,
            stream,
            last: None,
            bookmark: 0,
            bookmarks: Vec::new(),
            delivered: HashSet::default(),
            found: Vec::new(),
        }
    }

    fn accuse(&mut self, guarantee: Guarantee, ns: u64, revision: i64, what: String) {
        let what = format!(
            "watch {} on {}: {what}",
            self.stream.watch, self.stream.endpoint
        );
        self.found
            .push(Violation::new(guarantee, ns, what).revision(revision));
    }

    /// Each thing as it came.
    fn arrivals(&mut self) {
        for (ns, item) in &self.stream.items {
            match *item {
                Item::Premature => {
                    let what = "something came before it was confirmed".to_owned();
                    self.accuse(Guarantee::W7, *ns, 0, what);
                }
                Item::Progress { revision, scope } => self.progress(*ns, revision, scope),
                Item::Batch {
                    revision,
                    fragment,
                    events,
                } => self.batch(*ns, revision, fragment, events),
            }
        }
    }

    fn progress(&mut self, ns: u64, revision: i64, scope: Scope) {
        let last = self.last.map_or(0, |(last, _)| last);
        let future = self
            .stream
            .start()
            .is_some_and(|start| revision < start - 1);
        if scope == Scope::Stream && future {
            // It speaks of the other watches on the stream.
            return;
        }
        if future {
            let what = "a bookmark from before its start".to_owned();
            self.accuse(Guarantee::W9, ns, revision, what);
        }
        if revision < last || revision < self.bookmark {
            let what = format!("a bookmark behind what was sent, {last}");
            self.accuse(Guarantee::W6, ns, revision, what);
        }
        self.bookmark = self.bookmark.max(revision);
        self.bookmarks.push((revision, last));
    }

    fn batch(&mut self, ns: u64, header: i64, fragment: bool, events: &'a [Change]) {
        if fragment && !self.stream.args.fragment {
            let what = "a response in pieces that was not asked for".to_owned();
            self.accuse(Guarantee::W3, ns, header, what);
        }
        let resumed = self.last;
        for (at, event) in events.iter().enumerate() {
            let revision = event.kv.mod_revision;
            if let Some((last, more)) = resumed.filter(|(last, _)| at == 0 && *last == revision)
                && !more
            {
                let what = "one revision in two responses".to_owned();
                self.accuse(Guarantee::W3, ns, last, what);
            }
            self.event(ns, event);
            if header < revision {
                let what = format!("the header says {header}");
                self.accuse(Guarantee::W1, ns, revision, what);
            }
        }
        let last = events.last().map(|event| event.kv.mod_revision);
        if let Some(last) = last {
            self.last = Some((last, fragment));
        }
    }

    fn event(&mut self, ns: u64, event: &'a Change) {
        let revision = event.kv.mod_revision;
        let last = self.last.map_or(0, |(last, _)| last);
        let key = &event.kv.key;
        let fresh = self.delivered.insert((revision, key));
        let start = self.stream.start().unwrap_or(0);
        if !fresh {
            self.accuse(Guarantee::W2, ns, revision, format!("{key:?} came twice"));
        } else if revision < last {
            self.accuse(
                Guarantee::W1,
                ns,
                revision,
                format!("{key:?} came after {last}"),
            );
        }
        if revision < start {
            self.accuse(Guarantee::W9, ns, revision, format!("it starts at {start}"));
        }
        if revision <= self.bookmark {
            let what = format!("{key:?} came after bookmark {}", self.bookmark);
            self.accuse(Guarantee::W6, ns, revision, what);
        }
        if !wants(self.stream, event) {
            let what = format!("{:?} of {key:?} is not what it asked for", event.kind);
            self.accuse(Guarantee::W7, ns, revision, what);
        }
        self.contents(ns, event);
        self.last = Some((revision.max(last), false));
    }

    /// An event is that of the log, with what was there before if that was asked for.
    fn contents(&mut self, ns: u64, event: &Change) {
        let (kv, revision) = (&event.kv, event.kv.mod_revision);
        let entry = self.case.log.entry(revision);
        let known =
            entry.and_then(|entry| entry.changes.iter().find(|change| change.kv.key == kv.key));
        if known.is_none_or(|known| known.kind != event.kind || known.kv != *kv) {
            let what = format!("{:?} {kv:?}, the log has {known:?}", event.kind);
            self.accuse(Guarantee::W4, ns, revision, what);
            return;
        }
        let before = self.case.log.at(revision - 1);
        if let Some(what) = self.wrong_prev(ns, event, before.get(&kv.key)) {
            self.accuse(Guarantee::W7, ns, revision, what);
        }
    }

    fn wrong_prev(&self, ns: u64, event: &Change, before: Option<&Pair>) -> Option<String> {
        let before = before.filter(|_| self.stream.args.prev_kv);
        let compacted = || self.case.compactions.possible(ns) >= event.kv.mod_revision;
        let right = match (&event.prev, before) {
            (Some(prev), Some(before)) => prev == before,
            (None, None) => true,
            (None, Some(_)) => compacted(),
            (Some(_), None) => false,
        };
        (!right).then(|| format!("prev_kv is {:?} instead of {before:?}", event.prev))
    }

    /// What should have come and did not.
    fn gaps(&mut self) {
        let Some(start) = self.stream.start() else {
            return;
        };
        let reached = match self.stream.live() {
            true => Some(self.case.log.last()),
            false => self.stream.reached(),
        };
        let Some(reached) = reached else {
            return;
        };
        let torn = self.stream.torn();
        let case = self.case;
        for (revision, entry) in case.log.entries(start, reached) {
            let wanted = entry
                .changes
                .iter()
                .filter(|change| wants(self.stream, change));
            let missing: Vec<_> = wanted
                .clone()
                .filter(|change| !self.delivered.contains(&(revision, &change.kv.key[..])))
                .collect();
            if missing.is_empty() || torn == Some(revision) {
                continue;
            }
            let some = missing.len() < wanted.count();
            let guarantee = self.blame(revision, some);
            let what = format!("{} is missing", super::log::describe(&missing));
            self.accuse(guarantee, self.stream.end_ns(), revision, what);
        }
        self.order();
    }

    /// What a missing event breaks.
    fn blame(&self, revision: i64, some: bool) -> Guarantee {
        let overtaken = self
            .bookmarks
            .iter()
            .any(|(bookmark, last)| *bookmark >= revision && *last < revision);
        let first = self
            .stream
            .changes()
            .map(|(_, event)| event.kv.mod_revision)
            .min();
        if some {
            Guarantee::W3
        } else if overtaken {
            Guarantee::W6
        } else if self.stream.args.start_revision > 0 && first.is_none_or(|first| revision < first)
        {
            Guarantee::W5
        } else {
            Guarantee::W4
        }
    }

    /// Within a revision, events come in the order of the request.
    fn order(&mut self) {
        let mut at = (0, 0);
        let mut wrong = Vec::new();
        for (ns, event) in self.stream.whole_changes() {
            let revision = event.kv.mod_revision;
            let place = self.case.log.entry(revision).and_then(|entry| {
                entry
                    .changes
                    .iter()
                    .position(|change| change.kv.key == event.kv.key)
            });
            let place = (revision, place.unwrap_or(0));
            if place < at {
                wrong.push((ns, revision));
            }
            at = place;
        }
        for (ns, revision) in wrong {
            let what = "not in the order of the request".to_owned();
            self.accuse(Guarantee::W1, ns, revision, what);
        }
    }

    /// A watch may be canceled for compaction only if it still needs what was compacted.
    fn canceled(&mut self) {
        let Some((
            ns,
            End::Canceled {
                compact_revision,
                reason,
            },
        )) = self.stream.end
        else {
            return;
        };
        if compact_revision == 0 {
            return;
        }
        let possible = self.case.compactions.possible(ns);
        let start = self.stream.start().unwrap_or(1);
        let last = self.last.map_or(0, |(last, _)| last);
        let next = start.max(last + 1).max(self.bookmark + 1);
        if compact_revision > possible {
            let what = format!("canceled for a compaction of which nobody knows: {reason}");
            self.accuse(Guarantee::W5, ns, compact_revision, what);
        } else if next >= compact_revision {
            let what = format!("canceled though it needed only {next} and later: {reason}");
            self.accuse(Guarantee::W5, ns, compact_revision, what);
        }
    }
}

/// Whether a watch wants an event.
pub(super) fn wants(stream: &Stream<'_>, event: &Change) -> bool {
    let unwanted = match event.kind {
        ChangeKind::Put => Filter::NoPut,
        ChangeKind::Delete => Filter::NoDelete,
    };
    stream.interval.holds(&event.kv.key) && !stream.args.filters.contains(&unwanted)
}
