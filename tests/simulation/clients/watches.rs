//! Those who watch: a witness at every member, who sees everything from the beginning, and others who come and go.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catena_api::EventType;
use catena_client::{Error, WatchResponse, Watcher};
use framework::history::{Change, ChangeKind, Filter, Pair, Scope, Watch, WatchArgs, WatchEvent};
use parking_lot::Mutex;

use super::within;
use crate::{
    cluster::{Cluster, Process, name, now_ns},
    world::{self, Chance, Event, covered},
};

/// How long a watcher waits before it looks for its member again.
const RETRY: Duration = Duration::from_millis(50);

/// Longest wait for a watch to be confirmed.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The last revision that the witness of each member has seen. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<u64, i64>>>);

impl Seen {
    /// Of one member's witness.
    pub(crate) fn by(&self, id: u64) -> i64 {
        self.0.lock().get(&id).copied().unwrap_or(0)
    }
}

/// A watch and where its events are written down.
struct Recorded {
    cluster: Cluster,
    /// The stream: every watch here has one of its own.
    client: u64,
    watch: u64,
    endpoint: String,
}

impl Recorded {
    fn new(cluster: &Cluster, id: u64) -> Self {
        Self {
            client: cluster.recorder().new_client(),
            watch: cluster.recorder().new_watch(),
            endpoint: name(id),
            cluster: cluster.clone(),
        }
    }

    fn note(&self, event: WatchEvent) {
        world::tell(|| format!("watch {} at {}: {event:?}", self.watch, self.endpoint));
        self.cluster.recorder().watch(Watch {
            client: self.client,
            watch: self.watch,
            endpoint: self.endpoint.clone(),
            ns: now_ns(),
            event,
        });
    }

    /// Asks for the watch; `None` if nothing came of it.
    async fn create(&self, process: &Arc<Process>, args: WatchArgs) -> Option<Watcher> {
        self.note(WatchEvent::Create { args: args.clone() });
        let kv = process.indoor.kv();
        let call = process.call(async move { kv.watch((&args).into()).await });
        match within(CREATE_TIMEOUT, call).await.flatten() {
            Some(Ok(watcher)) => {
                self.note(WatchEvent::Created {
                    revision: watcher.created().revision,
                    member: process.id,
                });
                Some(watcher)
            }
            Some(Err(error)) => {
                self.end(&error);
                None
            }
            None => {
                self.close("no answer");
                None
            }
        }
    }

    fn end(&self, error: &Error) {
        match error {
            Error::Compacted { revision } => self.note(WatchEvent::Canceled {
                compact_revision: *revision,
                reason: error.to_string(),
            }),
            other => self.close(&other.to_string()),
        }
    }

    fn close(&self, why: &str) {
        let error = why.to_owned();
        self.note(WatchEvent::Closed { error });
    }

    fn receive(&self, response: &WatchResponse) {
        let revision = response.header.revision;
        self.note(match response.is_progress() {
            true => WatchEvent::Progress {
                revision,
                scope: Scope::Watch,
            },
            false => WatchEvent::Batch {
                revision,
                fragment: false,
                events: response.events.iter().map(change).collect(),
            },
        });
    }
}

fn change(event: &catena_api::Event) -> Change {
    let kv = event.kv().map(|kv| Pair::from(&kv));
    Change {
        kind: match event.kind() {
            EventType::Put => ChangeKind::Put,
            EventType::Delete => ChangeKind::Delete,
        },
        kv: kv.unwrap_or_default(),
        prev: event.prev_kv().map(|kv| Pair::from(&kv)),
    }
}

fn last_revision(response: &WatchResponse) -> Option<i64> {
    let kv = response.events.last()?.kv()?;
    Some(kv.view().mod_revision)
}

/// Sees everything that one member sends, from the beginning and across its restarts, until the member is removed.
pub(crate) async fn witness(cluster: Cluster, id: u64, seen: Seen) {
    let mut next = 1;
    while cluster.ids().contains(&id) {
        let Some(process) = cluster.process(id) else {
            world::sleep(RETRY).await;
            continue;
        };
        let watch = Recorded::new(&cluster, id);
        let args = WatchArgs {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: next,
            prev_kv: true,
            ..WatchArgs::default()
        };
        let Some(mut watcher) = watch.create(&process, args).await else {
            world::sleep(RETRY).await;
            continue;
        };
        if next > 1 {
            covered(Event::WatchResumed);
        }
        loop {
            match watcher.next().await {
                Ok(response) => {
                    watch.receive(&response);
                    if let Some(last) = last_revision(&response) {
                        next = last + 1;
                        seen.0.lock().insert(id, last);
                    }
                }
                Err(error) => {
                    watch.end(&error);
                    if let Error::Compacted { revision } = error {
                        covered(Event::WatchCompacted);
                        // The compacted revision itself is still whole.
                        next = next.max(revision);
                    }
                    break;
                }
            }
        }
        world::sleep(RETRY).await;
    }
}

/// Watches this and that at members chosen at random, one watch after the other, until `done` says so.
pub(crate) async fn run(
    cluster: Cluster,
    chance: Chance,
    done: impl Fn() -> bool + Send + 'static,
) {
    while !done() {
        world::sleep(RETRY).await;
        let running = cluster.running();
        if running.is_empty() {
            continue;
        }
        let process = chance.pick(&running).clone();
        let watch = Recorded::new(&cluster, process.id);
        let args = any_watch(&cluster, &process, &chance);
        let Some(mut watcher) = watch.create(&process, args).await else {
            continue;
        };
        let end = world::now() + Duration::from_millis(500 + chance.below(6000));
        loop {
            let left = end.saturating_sub(world::now());
            match within(left, watcher.next()).await {
                Some(Ok(response)) => watch.receive(&response),
                Some(Err(error)) => {
                    watch.end(&error);
                    break;
                }
                None => {
                    watch.close("");
                    break;
                }
            }
            if chance.once_in(10) {
                watcher.request_progress();
            }
        }
    }
}

fn any_watch(cluster: &Cluster, process: &Process, chance: &Chance) -> WatchArgs {
    let keys = cluster.settings().mix.keys;
    let key = || format!("k{}", chance.below(keys));
    let (key, range_end) = match chance.below(3) {
        0 => (key(), String::new()),
        1 => ("k".to_owned(), "l".to_owned()),
        _ => ("\0".to_owned(), "\0".to_owned()),
    };
    // Around what its member has, on both sides.
    let near = process.state().1 - 20 + chance.below(25) as i64;
    WatchArgs {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: *chance.pick(&[0, near.max(1), near.max(1)]),
        filters: match chance.below(4) {
            0 => vec![Filter::NoPut],
            1 => vec![Filter::NoDelete],
            _ => Vec::new(),
        },
        prev_kv: chance.once_in(2),
        progress_notify: chance.once_in(2),
        fragment: false,
    }
}
