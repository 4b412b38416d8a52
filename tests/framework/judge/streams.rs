//! Watches, each as the sequence of what it was sent.

use std::collections::{BTreeMap, HashMap};

use super::interval::Interval;
use crate::history::{Change, History, Scope, Watch, WatchArgs, WatchEvent};

/// One watch.
pub(super) struct Stream<'a> {
    pub(super) watch: u64,
    pub(super) endpoint: &'a str,
    pub(super) args: &'a WatchArgs,
    pub(super) interval: Interval,
    pub(super) create_ns: u64,
    /// The revision in the confirmation.
    pub(super) created: Option<i64>,
    /// When that came.
    pub(super) confirmed_ns: Option<u64>,
    /// What it was sent, in order.
    pub(super) items: Vec<(u64, Item<'a>)>,
    pub(super) end: Option<(u64, End<'a>)>,
}

/// Something that a watch was sent.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    /// Before it was confirmed.
    Premature,
    /// Events.
    Batch {
        revision: i64,
        fragment: bool,
        events: &'a [Change],
    },
    /// A bookmark.
    Progress { revision: i64, scope: Scope },
}

/// How a watch ended.
#[derive(Clone, Copy)]
pub(super) enum End<'a> {
    Canceled {
        compact_revision: i64,
        reason: &'a str,
    },
    Closed,
}

/// Every watch of a history.
pub(super) fn streams(history: &History) -> Vec<Stream<'_>> {
    let mut streams: Vec<Stream<'_>> = Vec::new();
    let mut by_watch: HashMap<u64, usize> = HashMap::new();
    let mut by_client: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for record in history.watches() {
        if let WatchEvent::Create { args } = &record.event {
            by_watch.insert(record.watch, streams.len());
            by_client
                .entry(record.client)
                .or_default()
                .push(streams.len());
            streams.push(Stream::new(record, args));
            continue;
        }
        let whole_stream = WatchEvent::Progress {
            revision: 0,
            scope: Scope::Stream,
        };
        match std::mem::discriminant(&record.event) == std::mem::discriminant(&whole_stream) {
            true => progress(record, &mut streams, &by_watch, &by_client),
            false => {
                if let Some(at) = by_watch.get(&record.watch) {
                    streams[*at].take(record);
                }
            }
        }
    }
    streams
}

/// A bookmark, which may cover every watch on the stream.
fn progress<'a>(
    record: &'a Watch,
    streams: &mut [Stream<'a>],
    by_watch: &HashMap<u64, usize>,
    by_client: &BTreeMap<u64, Vec<usize>>,
) {
    let covered = match record.event {
        WatchEvent::Progress {
            scope: Scope::Stream,
            ..
        } => by_client
            .get(&record.client)
            .map_or(&[][..], |list| &list[..]),
        _ => by_watch
            .get(&record.watch)
            .map_or(&[][..], std::slice::from_ref),
    };
    for at in covered {
        let stream = &mut streams[*at];
        // A confirmed watch that has not ended; one of the same stream that is still to be confirmed is not covered.
        if record.watch == stream.watch || (stream.created.is_some() && stream.end.is_none()) {
            stream.take(record);
        }
    }
}

impl<'a> Stream<'a> {
    fn new(record: &'a Watch, args: &'a WatchArgs) -> Self {
        Self {
            watch: record.watch,
            endpoint: &record.endpoint,
            args,
            interval: Interval::new(&args.key, &args.range_end),
            create_ns: record.ns,
            created: None,
            confirmed_ns: None,
            items: Vec::new(),
            end: None,
        }
    }

    fn take(&mut self, record: &'a Watch) {
        let premature = self.created.is_none();
        let ns = record.ns;
        match &record.event {
            WatchEvent::Create { .. } => {}
            WatchEvent::Created { revision, .. } => {
                self.created = Some(*revision);
                self.confirmed_ns = Some(ns);
            }
            WatchEvent::Batch {
                revision,
                fragment,
                events,
            } => {
                if premature {
                    self.items.push((ns, Item::Premature));
                }
                let item = Item::Batch {
                    revision: *revision,
                    fragment: *fragment,
                    events,
                };
                self.items.push((ns, item));
            }
            WatchEvent::Progress { revision, scope } => {
                if premature {
                    self.items.push((ns, Item::Premature));
                }
                let item = Item::Progress {
                    revision: *revision,
                    scope: *scope,
                };
                self.items.push((ns, item));
            }
            WatchEvent::Canceled {
                compact_revision,
                reason,
            } => {
                let end = End::Canceled {
                    compact_revision: *compact_revision,
                    reason,
                };
                self.end = Some((ns, end));
            }
            WatchEvent::Closed { .. } => {
                self.end.get_or_insert((ns, End::Closed));
            }
        }
    }

    /// Whether it shows every revision.
    pub(super) fn witness(&self) -> bool {
        self.interval.all() && self.args.filters.is_empty()
    }

    /// Whether it was still watching when the run ended.
    pub(super) fn live(&self) -> bool {
        self.created.is_some() && self.end.is_none()
    }

    /// The first revision that it wants; `None` if it wants the next one and was never told which that is.
    pub(super) fn start(&self) -> Option<i64> {
        match self.args.start_revision {
            0 => self.created.map(|revision| revision + 1),
            start => Some(start),
        }
    }

    /// Its events with the time of each, in order of arrival.
    pub(super) fn changes(&self) -> impl Iterator<Item = (u64, &'a Change)> {
        self.items.iter().flat_map(|(ns, item)| {
            let events = match item {
                Item::Batch { events, .. } => *events,
                Item::Premature | Item::Progress { .. } => &[],
            };
            events.iter().map(|event| (*ns, event))
        })
    }

    /// The revision of which only a part came before the end, because the rest of its response was cut off.
    pub(super) fn torn(&self) -> Option<i64> {
        let last = self.items.iter().rev().find_map(|(_, item)| match item {
            Item::Batch {
                fragment, events, ..
            } => Some((*fragment, *events)),
            Item::Premature | Item::Progress { .. } => None,
        });
        match last {
            Some((true, events)) => events.last().map(|event| event.kv.mod_revision),
            _ => None,
        }
    }

    /// Its events without those of a torn revision.
    pub(super) fn whole_changes(&self) -> impl Iterator<Item = (u64, &'a Change)> {
        let torn = self.torn();
        self.changes()
            .filter(move |(_, change)| Some(change.kv.mod_revision) != torn)
    }

    /// The last revision that it was sent whole, by events or bookmark.
    pub(super) fn reached(&self) -> Option<i64> {
        let events = self
            .whole_changes()
            .map(|(_, change)| change.kv.mod_revision);
        let bookmarks = self.items.iter().filter_map(|(_, item)| match item {
            Item::Progress { revision, .. } => Some(*revision),
            Item::Premature | Item::Batch { .. } => None,
        });
        events.chain(bookmarks).max()
    }

    /// Whether it was to show a revision and is past it.
    pub(super) fn passed(&self, revision: i64) -> bool {
        self.start().is_some_and(|start| start <= revision)
            && self.reached().is_some_and(|reached| reached >= revision)
    }

    /// When it last heard something.
    pub(super) fn end_ns(&self) -> u64 {
        self.items.last().map_or(self.create_ns, |(ns, _)| *ns)
    }
}
