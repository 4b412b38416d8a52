//! Lies of watches: a true history with one thing changed.

use super::run::WATCH_LATE_MS;
use crate::history::{
    Change, ChangeKind, Filter, History, Record, Scope, Watch, WatchArgs, WatchEvent,
};

/// Changes something in a history; false if there is no occasion.
pub(super) type Lie = fn(&mut History) -> bool;

/// The events of a batch, if a record is one.
fn batch(record: &mut Record) -> Option<&mut Vec<Change>> {
    match record {
        Record::Watch(Watch {
            event: WatchEvent::Batch { events, .. },
            ..
        }) => Some(events),
        _ => None,
    }
}

/// The first batch that allows a change.
fn in_batch(history: &mut History, mut lie: impl FnMut(&mut Vec<Change>) -> bool) -> bool {
    history.records.iter_mut().filter_map(batch).any(&mut lie)
}

fn number(record: &Record) -> Option<u64> {
    match record {
        Record::Watch(watch) => Some(watch.watch),
        _ => None,
    }
}

/// How a watch was asked for.
fn args(history: &History, watch: u64) -> WatchArgs {
    let asked = history.watches().find_map(|record| match &record.event {
        WatchEvent::Create { args } if record.watch == watch => Some(args.clone()),
        _ => None,
    });
    asked.expect("a watch begins with create")
}

/// Inserts or removes a record and keeps the count of lines right.
pub(super) fn recount(history: &mut History) {
    let lines = history.records.len() as u64;
    if let Some(Record::End(end)) = history.records.last_mut() {
        end.lines = lines;
    }
}

fn revisions(events: &[Change]) -> (Option<i64>, Option<i64>) {
    let revision = |change: &Change| change.kv.mod_revision;
    (events.first().map(revision), events.last().map(revision))
}

/// Whether a batch holds only whole revisions, more than one.
fn several(events: &[Change]) -> bool {
    let (first, last) = revisions(events);
    events.len() > 2 && first != last
}

pub(super) fn event_lost(history: &mut History) -> bool {
    in_batch(history, |events| {
        let alone = |at: usize| {
            let revision = events[at].kv.mod_revision;
            events
                .iter()
                .filter(|event| event.kv.mod_revision == revision)
                .count()
                == 1
        };
        match several(events) && alone(1) {
            true => {
                events.remove(1);
                true
            }
            false => false,
        }
    })
}

pub(super) fn part_of_revision_lost(history: &mut History) -> bool {
    in_batch(history, |events| {
        let split = events
            .windows(2)
            .position(|pair| pair[0].kv.mod_revision == pair[1].kv.mod_revision);
        split.map(|at| events.remove(at)).is_some()
    })
}

pub(super) fn event_twice(history: &mut History) -> bool {
    in_batch(history, |events| {
        let again = events.last().filter(|_| several(events)).cloned();
        again.map(|event| events.push(event)).is_some()
    })
}

pub(super) fn events_swapped(history: &mut History) -> bool {
    in_batch(history, |events| {
        let swaps = several(events) && {
            let (first, last) = (&events[0].kv, &events[events.len() - 1].kv);
            first.mod_revision < last.mod_revision
        };
        if swaps {
            let last = events.len() - 1;
            events.swap(0, last);
        }
        swaps
    })
}

pub(super) fn revision_in_two_responses(history: &mut History) -> bool {
    for at in 0..history.records.len() {
        let Record::Watch(whole) = history.records[at].clone() else {
            continue;
        };
        let WatchEvent::Batch {
            revision,
            fragment: false,
            events,
        } = &whole.event
        else {
            continue;
        };
        let Some(cut) = events
            .windows(2)
            .position(|pair| pair[0].kv.mod_revision == pair[1].kv.mod_revision)
        else {
            continue;
        };
        let (one, other) = events.split_at(cut + 1);
        let part = |events: &[Change]| {
            Record::Watch(Watch {
                event: WatchEvent::Batch {
                    revision: *revision,
                    fragment: false,
                    events: events.to_vec(),
                },
                ..whole.clone()
            })
        };
        let parts = [part(one), part(other)];
        history.records.splice(at..=at, parts);
        recount(history);
        return true;
    }
    false
}

pub(super) fn bookmark_ahead(history: &mut History) -> bool {
    let at = history
        .records
        .iter_mut()
        .position(|record| batch(record).is_some_and(|events| several(events)));
    let Some(at) = at else {
        return false;
    };
    let Record::Watch(later) = history.records[at].clone() else {
        return false;
    };
    let WatchEvent::Batch { revision, .. } = later.event else {
        return false;
    };
    let bookmark = Watch {
        event: WatchEvent::Progress {
            revision,
            scope: Scope::Stream,
        },
        ..later
    };
    history.records.insert(at, Record::Watch(bookmark));
    recount(history);
    true
}

pub(super) fn value_changed(history: &mut History) -> bool {
    // One witness of three tells another value in a watch that is no witness: narrow enough to be nobody's log.
    let narrow: Vec<u64> = narrow(history);
    history.records.iter_mut().any(|record| {
        let watch = number(record);
        let events = batch(record).filter(|_| watch.is_some_and(|watch| narrow.contains(&watch)));
        events
            .and_then(|events| events.last_mut())
            .is_some_and(|event| {
                event.kv.value = "another".into();
                event.kind == ChangeKind::Put
            })
    })
}

/// Watches that are no witnesses.
fn narrow(history: &History) -> Vec<u64> {
    let asked = history.watches().filter_map(|record| match &record.event {
        WatchEvent::Create { args } if args.key[..] != b"\0"[..] => Some(record.watch),
        _ => None,
    });
    asked.collect()
}

pub(super) fn members_disagree(history: &mut History) -> bool {
    in_batch(history, |events| {
        let event = events
            .iter_mut()
            .find(|event| event.kind == ChangeKind::Put);
        event
            .map(|event| event.kv.value = "another".into())
            .is_some()
    })
}

pub(super) fn prev_wrong(history: &mut History) -> bool {
    in_batch(history, |events| {
        let prev = events.iter_mut().find_map(|event| event.prev.as_mut());
        prev.map(|prev| prev.version += 1).is_some()
    })
}

pub(super) fn prev_missing(history: &mut History) -> bool {
    in_batch(history, |events| {
        events.iter_mut().any(|event| event.prev.take().is_some())
    })
}

pub(super) fn filter_ignored(history: &mut History) -> bool {
    // The same as a watch that asked for fewer events than it got.
    let Some(watch) = narrow(history).into_iter().find(|watch| {
        history.watches().any(|record| {
            record.watch == *watch
                && matches!(&record.event, WatchEvent::Batch { events, .. }
                    if events.iter().any(|event| event.kind == ChangeKind::Put))
        })
    }) else {
        return false;
    };
    history.records.iter_mut().any(|record| match record {
        Record::Watch(Watch {
            watch: number,
            event: WatchEvent::Create { args },
            ..
        }) if *number == watch => {
            args.filters = vec![Filter::NoPut];
            true
        }
        _ => false,
    })
}

pub(super) fn events_before_start(history: &mut History) -> bool {
    let Some((watch, first)) = history.watches().find_map(|record| match &record.event {
        WatchEvent::Batch { events, .. } => Some((record.watch, events.first()?.kv.mod_revision)),
        _ => None,
    }) else {
        return false;
    };
    history.records.iter_mut().any(|record| match record {
        Record::Watch(Watch {
            watch: number,
            event: WatchEvent::Create { args },
            ..
        }) if *number == watch => {
            args.start_revision = first + 1;
            true
        }
        _ => false,
    })
}

pub(super) fn bookmark_before_start(history: &mut History) -> bool {
    let early = history.watches().find_map(|record| match record.event {
        WatchEvent::Created { revision, .. } => {
            let start = args(history, record.watch).start_revision;
            (start > revision + 1).then(|| Watch {
                event: WatchEvent::Progress {
                    revision,
                    scope: Scope::Watch,
                },
                ..record.clone()
            })
        }
        _ => None,
    });
    let Some(early) = early else {
        return false;
    };
    let created = history.records.iter().position(|record| {
        matches!(record, Record::Watch(Watch { watch, event: WatchEvent::Created { .. }, .. })
            if *watch == early.watch)
    });
    history
        .records
        .insert(created.map_or(1, |at| at + 1), Record::Watch(early));
    recount(history);
    true
}

pub(super) fn gap_at_resumption(history: &mut History) -> bool {
    let resumed = history.watches().find_map(|record| match &record.event {
        WatchEvent::Create { args } if args.start_revision > 20 && args.key[..] == b"\0"[..] => {
            Some((record.watch, args.start_revision))
        }
        _ => None,
    });
    let Some((watch, start)) = resumed else {
        return false;
    };
    history.records.iter_mut().any(|record| {
        let own = number(record) == Some(watch);
        batch(record).filter(|_| own).is_some_and(|events| {
            let before = events.len();
            events.retain(|event| event.kv.mod_revision > start);
            before > events.len()
        })
    })
}

pub(super) fn canceled_without_compaction(history: &mut History) -> bool {
    let closed = history.records.iter_mut().find_map(|record| match record {
        Record::Watch(Watch {
            event: event @ WatchEvent::Closed { .. },
            ..
        }) => Some(event),
        _ => None,
    });
    let lie = WatchEvent::Canceled {
        compact_revision: 100_000,
        reason: "compacted".to_owned(),
    };
    closed.map(|event| *event = lie).is_some()
}

pub(super) fn events_before_created(history: &mut History) -> bool {
    let created = history.records.iter().position(|record| {
        matches!(
            record,
            Record::Watch(Watch {
                event: WatchEvent::Created { .. },
                ..
            })
        )
    });
    let Some(created) = created else {
        return false;
    };
    let watch = number(&history.records[created]);
    let first = (created..history.records.len()).find(|at| {
        let own = number(&history.records[*at]) == watch;
        own && batch(&mut history.records[*at]).is_some()
    });
    if let Some(first) = first {
        history.records.swap(created, first);
    }
    first.is_some()
}

pub(super) fn header_behind(history: &mut History) -> bool {
    history.records.iter_mut().any(|record| match record {
        Record::Watch(Watch {
            event: WatchEvent::Batch {
                revision, events, ..
            },
            ..
        }) if !events.is_empty() => {
            *revision = 1;
            true
        }
        _ => false,
    })
}

pub(super) fn stops_before_the_end(history: &mut History) -> bool {
    let last = history.records.iter().rposition(|record| {
        matches!(
            record,
            Record::Watch(Watch {
                event: WatchEvent::Batch { .. },
                ..
            })
        )
    });
    let Some(last) = last else {
        return false;
    };
    history.records.remove(last);
    recount(history);
    true
}

pub(super) fn history_rewritten(history: &mut History) -> bool {
    // The last watch of a member shows the first events of that member otherwise.
    let mut first: Option<(String, u64, i64)> = None;
    for at in 0..history.records.len() {
        let Record::Watch(record) = &history.records[at] else {
            continue;
        };
        let (endpoint, watch) = (record.endpoint.clone(), record.watch);
        let WatchEvent::Batch { events, .. } = &record.event else {
            continue;
        };
        if args(history, watch).key[..] != b"\0"[..] {
            continue;
        }
        let Some(put) = events.iter().find(|event| event.kind == ChangeKind::Put) else {
            continue;
        };
        match &first {
            None => first = Some((endpoint, watch, put.kv.mod_revision)),
            Some((member, other, revision)) if *member == endpoint && *other != watch => {
                let mut changed = put.clone();
                changed.kv.mod_revision = *revision;
                if let Some(events) = batch(&mut history.records[at]) {
                    events.insert(0, changed);
                }
                return true;
            }
            Some(_) => {}
        }
    }
    false
}

/// More than a watch may be late, and a watch that lives so long should have been sent something.
const LATE_NS: u64 = 2 * WATCH_LATE_MS * 1_000_000;

pub(super) fn events_late(history: &mut History) -> bool {
    // From some batch on, everything comes later to one watch.
    let batches: Vec<usize> = (0..history.records.len())
        .filter(|at| batch(&mut history.records[*at]).is_some())
        .collect();
    let Some(from) = batches.get(batches.len() / 2) else {
        return false;
    };
    let watch = number(&history.records[*from]);
    for record in &mut history.records[*from..] {
        if let Record::Watch(record) = record
            && Some(record.watch) == watch
        {
            record.ns += LATE_NS;
        }
    }
    true
}

pub(super) fn watch_falls_silent(history: &mut History) -> bool {
    // It says nothing from the beginning, and is closed much later, by its client: nothing else accuses it.
    let silent = history.watches().find_map(|record| {
        let WatchEvent::Closed { .. } = record.event else {
            return None;
        };
        let mut sent = history.watches().filter(|other| {
            other.watch == record.watch && matches!(other.event, WatchEvent::Batch { .. })
        });
        let early = sent.any(|batch| batch.ns + LATE_NS < record.ns);
        early.then_some(record.watch)
    });
    let Some(silent) = silent else {
        return false;
    };
    history.records.retain(|record| match record {
        Record::Watch(record) if record.watch == silent => !matches!(
            record.event,
            WatchEvent::Batch { .. } | WatchEvent::Progress { .. }
        ),
        _ => true,
    });
    recount(history);
    true
}
