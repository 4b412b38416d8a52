//! Watches of a run.

use rand::{Rng, rngs::StdRng};

use super::store::{Store, inside};
use crate::history::{Change, ChangeKind, Filter, Recorder, Scope, Watch, WatchArgs, WatchEvent};

/// Watches at one time, witnesses included.
const OPEN_MAX: usize = 16;

struct Watcher {
    member: u64,
    endpoint: String,
    client: u64,
    watch: u64,
    args: WatchArgs,
    created: bool,
    /// The next revision to be served.
    next: i64,
    /// The last revision it was sent.
    last: i64,
}

/// All of them.
pub(super) struct Watchers {
    recorder: Recorder,
    open: Vec<Watcher>,
}

impl Watchers {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            open: Vec::new(),
        }
    }

    /// Whether there are not too many already.
    pub(super) fn room(&self) -> bool {
        self.open.len() < OPEN_MAX
    }

    pub(super) fn witness(&mut self, member: u64, endpoint: &str, now: u64) {
        let args = WatchArgs {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: 1,
            prev_kv: true,
            ..WatchArgs::default()
        };
        self.open(member, endpoint, args, 1, now);
    }

    pub(super) fn open(
        &mut self,
        member: u64,
        endpoint: &str,
        args: WatchArgs,
        applied: i64,
        now: u64,
    ) {
        let watcher = Watcher {
            member,
            endpoint: endpoint.to_owned(),
            client: self.recorder.new_client(),
            watch: self.recorder.new_watch(),
            next: if args.start_revision == 0 {
                applied + 1
            } else {
                args.start_revision
            },
            last: 0,
            created: false,
            args,
        };
        let args = watcher.args.clone();
        self.record(&watcher, now, WatchEvent::Create { args });
        self.open.push(watcher);
    }

    fn record(&self, watcher: &Watcher, ns: u64, event: WatchEvent) {
        self.recorder.watch(Watch {
            client: watcher.client,
            watch: watcher.watch,
            endpoint: watcher.endpoint.clone(),
            ns,
            event,
        });
    }

    /// Sends what a member has to the watches on it.
    pub(super) fn serve(
        &mut self,
        member: u64,
        applied: i64,
        store: &Store,
        now: u64,
        rng: &mut StdRng,
    ) {
        let open = std::mem::take(&mut self.open);
        for mut watcher in open {
            if watcher.member != member {
                self.open.push(watcher);
                continue;
            }
            if self.confirm(&mut watcher, applied, store, now) {
                self.send(&mut watcher, applied, store, now, rng);
                self.open.push(watcher);
            }
        }
    }

    /// Confirms a watch, or cancels it if what it needs is compacted.
    fn confirm(&self, watcher: &mut Watcher, applied: i64, store: &Store, now: u64) -> bool {
        if !watcher.created {
            watcher.created = true;
            if watcher.args.start_revision == 0 {
                watcher.next = watcher.next.max(applied + 1);
            }
            let revision = match watcher.args.start_revision {
                0 => watcher.next - 1,
                _ => applied,
            };
            let event = WatchEvent::Created {
                revision,
                member: 100 + watcher.member,
            };
            self.record(watcher, now, event);
        }
        if watcher.next >= store.compacted || watcher.args.key[..] == b"\0"[..] {
            return true;
        }
        let event = WatchEvent::Canceled {
            compact_revision: store.compacted,
            reason: "compacted".to_owned(),
        };
        self.record(watcher, now, event);
        false
    }

    fn send(&self, watcher: &mut Watcher, applied: i64, store: &Store, now: u64, rng: &mut StdRng) {
        while watcher.next <= applied {
            let until = applied.min(watcher.next + rng.random_range(0..20_i64));
            let events: Vec<_> = (watcher.next..=until)
                .flat_map(|revision| {
                    let at = usize::try_from(revision - 2).ok();
                    at.and_then(|at| store.log.get(at))
                        .cloned()
                        .unwrap_or_default()
                })
                .filter(|change| wants(&watcher.args, change))
                .map(|change| Change {
                    prev: change.prev.filter(|prev| {
                        watcher.args.prev_kv
                            && (change.kv.mod_revision > store.compacted || prev.version % 2 == 0)
                    }),
                    ..change
                })
                .collect();
            watcher.next = until + 1;
            watcher.last = events
                .last()
                .map_or(watcher.last, |event| event.kv.mod_revision);
            self.batches(watcher, applied, events, now);
        }
        if watcher.args.progress_notify && rng.random_ratio(1, 8) && watcher.next > applied {
            let event = WatchEvent::Progress {
                revision: applied,
                scope: Scope::Watch,
            };
            if applied >= watcher.args.start_revision - 1 {
                self.record(watcher, now, event);
            }
        }
    }

    fn batches(&self, watcher: &Watcher, revision: i64, events: Vec<Change>, now: u64) {
        let size = if watcher.args.fragment {
            3
        } else {
            events.len().max(1)
        };
        let pieces: Vec<_> = events.chunks(size).collect();
        for (at, piece) in pieces.iter().enumerate() {
            let event = WatchEvent::Batch {
                revision,
                fragment: at + 1 < pieces.len(),
                events: piece.to_vec(),
            };
            self.record(watcher, now, event);
        }
    }

    /// The member's watches are closed, and resumed on another.
    pub(super) fn move_away(&mut self, from: u64, to: u64, endpoint: &str, now: u64) {
        let open = std::mem::take(&mut self.open);
        for watcher in open {
            if watcher.member != from {
                self.open.push(watcher);
                continue;
            }
            let event = WatchEvent::Closed {
                error: "gone".to_owned(),
            };
            self.record(&watcher, now, event);
            let start = match (watcher.created, watcher.last) {
                (true, last @ 1..) => last + 1,
                _ => watcher.args.start_revision,
            };
            let args = WatchArgs {
                start_revision: start,
                ..watcher.args
            };
            self.open(to, endpoint, args, watcher.next - 1, now);
        }
    }
}

fn wants(args: &WatchArgs, change: &Change) -> bool {
    let filtered = match change.kind {
        ChangeKind::Put => args.filters.contains(&Filter::NoPut),
        ChangeKind::Delete => args.filters.contains(&Filter::NoDelete),
    };
    !filtered && inside(&change.kv.key, &args.key, &args.range_end)
}
