//! Random watchers, polled at random, against the log of events.
//!
//! Whatever the pace, the slices and the restarts of watching, each watch gets the events of its interval from its start on, each
//! once, in order, all of a revision together; or it is told that compaction overtook it. No progress comes before what it promises.

use std::collections::BTreeMap;

use bytes::Bytes;
use catena_api::{Event, EventType, etcd::etcdserverpb as pb};
use catena_store::{Delivery, DeliveryKind, Options, Request, WatchStream};
use proptest::prelude::*;

use crate::{requests, world::World};

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    Delete(usize, usize),
    Txn(Vec<usize>),
    Compact(i64),
    Maintain,
    Flush,
    Watch {
        stream: usize,
        from: usize,
        to: usize,
        back: i64,
        prev_kv: bool,
        no_delete: bool,
        progress: bool,
    },
    Cancel {
        stream: usize,
        place: usize,
    },
    Progress(usize),
    Tick(usize),
    Poll {
        stream: usize,
        bytes: usize,
    },
    Install,
}

const KEYS: [&str; 6] = ["a", "b", "ba", "c", "d", "e"];

const STREAMS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let place = 0..KEYS.len();
    let stream = 0..STREAMS;
    let watch = (
        stream.clone(),
        place.clone(),
        0..KEYS.len() + 3,
        -3..30_i64,
        any::<(bool, bool, bool)>(),
    );
    prop_oneof![
        20 => (place.clone(), 1..200_usize).prop_map(|(key, size)| Step::Put(key, size)),
        4 => (place.clone(), place.clone()).prop_map(|(from, to)| Step::Delete(from, to)),
        4 => prop::collection::btree_set(place, 1..4).prop_map(|keys| Step::Txn(keys.into_iter().collect())),
        2 => (0..8_i64).prop_map(Step::Compact),
        2 => Just(Step::Maintain),
        3 => Just(Step::Flush),
        6 => watch.prop_map(|(stream, from, to, back, (prev_kv, no_delete, progress))| Step::Watch { stream, from, to, back, prev_kv, no_delete, progress }),
        1 => (stream.clone(), 0..5_usize).prop_map(|(stream, place)| Step::Cancel { stream, place }),
        2 => stream.clone().prop_map(Step::Progress),
        2 => stream.clone().prop_map(Step::Tick),
        14 => (stream, 0..2000_usize).prop_map(|(stream, bytes)| Step::Poll { stream, bytes }),
        1 => Just(Step::Install),
    ]
}

/// What was asked of a watch and what came.
struct Expected {
    key: Bytes,
    end: Bytes,
    /// Next revision that it may get.
    next: i64,
    prev_kv: bool,
    no_delete: bool,
    overtaken: bool,
    /// Every event before this revision must have come.
    promised: i64,
}

struct Run {
    world: World,
    streams: Vec<WatchStream>,
    watches: Vec<BTreeMap<i64, Expected>>,
    /// All events, revision by revision; the values before them too.
    log: BTreeMap<i64, Vec<Event>>,
}

impl Run {
    fn new() -> Self {
        // The log of events is itself taken by a watcher that is polled after every change.
        let world = World::new(Options {
            compaction_batch_limit: 3,
            history_bytes: 2000,
            inbox_bytes: 1000,
            ..Options::default()
        });
        let reader = world.reader();
        Self {
            streams: (0..STREAMS).map(|_| reader.watch()).collect(),
            watches: (0..STREAMS).map(|_| BTreeMap::new()).collect(),
            world,
            log: BTreeMap::new(),
        }
    }

    fn write(&mut self, request: Request) {
        let before = self.pairs();
        self.world.apply(request).unwrap();
        let after = self.pairs();
        let revision = self.world.reader().revision();
        let mut events: Vec<(i64, Event)> = Vec::new();
        for (key, kv) in &after {
            if before.get(key) != Some(kv) {
                events.push((0, Event::new(EventType::Put, kv, before.get(key))));
            }
        }
        for (key, kv) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
            let deleted = catena_api::KeyValueView {
                key: key.clone(),
                mod_revision: revision,
                ..Default::default()
            };
            events.push((
                1,
                Event::new(EventType::Delete, &deleted.encode(), Some(kv)),
            ));
        }
        if !events.is_empty() {
            // The commands of this test change keys in ascending order, and never both put and delete.
            self.log.insert(
                revision,
                events.into_iter().map(|(_, event)| event).collect(),
            );
        }
    }

    fn pairs(&self) -> BTreeMap<Bytes, catena_api::KeyValue> {
        let (all, _) = self
            .world
            .reader()
            .range(&requests::range("\0", "\0"))
            .unwrap();
        all.kvs.into_iter().map(|kv| (kv.key(), kv)).collect()
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(key, size) => {
                self.write(Request::Put(requests::put(KEYS[key], &"v".repeat(size))))
            }
            Step::Delete(from, to) => {
                self.write(Request::DeleteRange(requests::delete(KEYS[from], KEYS[to])))
            }
            Step::Txn(keys) => {
                let put = |key: usize| pb::RequestOp {
                    request: Some(pb::request_op::Request::RequestPut(requests::put(
                        KEYS[key], "t",
                    ))),
                };
                self.write(Request::Txn(pb::TxnRequest {
                    success: keys.into_iter().map(put).collect(),
                    ..Default::default()
                }));
            }
            Step::Compact(back) => {
                let revision = self.world.reader().revision() - back;
                // Refused if it lies below the last one.
                self.world.apply(requests::compact(revision)).ok();
            }
            Step::Maintain => self.world.maintain(),
            Step::Flush => self.world.flush(),
            Step::Watch {
                stream,
                from,
                to,
                back,
                prev_kv,
                no_delete,
                progress,
            } => {
                self.watch(stream, (from, to), back, (prev_kv, no_delete, progress));
            }
            Step::Cancel { stream, place } => {
                let id = self.watches[stream].keys().nth(place).copied();
                if let Some(id) = id {
                    self.watches[stream].remove(&id);
                    assert!(self.streams[stream].cancel(id).unwrap().canceled);
                }
            }
            Step::Progress(stream) => self.streams[stream].progress(),
            Step::Tick(stream) => self.streams[stream].tick(),
            Step::Poll { stream, bytes } => {
                self.poll(stream, bytes);
            }
            Step::Install => {
                let mut leader = World::new(self.world.options.clone());
                leader.install(&self.world);
                self.world.install(&leader);
            }
        }
    }

    fn watch(
        &mut self,
        stream: usize,
        (from, to): (usize, usize),
        back: i64,
        flags: (bool, bool, bool),
    ) {
        let (prev_kv, no_delete, progress_notify) = flags;
        let end = match to {
            to if to < KEYS.len() => KEYS[to],
            to if to == KEYS.len() => "\0",
            _ => "",
        };
        let revision = self.world.reader().revision();
        let request = pb::WatchCreateRequest {
            key: requests::bytes(KEYS[from]),
            range_end: requests::bytes(end),
            start_revision: if back == 0 {
                0
            } else {
                (revision - back).max(1)
            },
            prev_kv,
            progress_notify,
            filters: if no_delete { vec![1] } else { vec![] },
            ..Default::default()
        };
        let response = self.streams[stream].create(&request);
        assert!(response.created);
        if response.canceled {
            assert!(!end.is_empty() && end != "\0" && end <= KEYS[from]);
            return;
        }
        let next = match request.start_revision {
            0 => revision + 1,
            start => start,
        };
        let expected = Expected {
            key: request.key,
            end: request.range_end,
            next,
            prev_kv,
            no_delete,
            overtaken: false,
            promised: 0,
        };
        self.watches[stream].insert(response.watch_id, expected);
    }

    /// Whether anything came.
    fn poll(&mut self, stream: usize, bytes: usize) -> bool {
        let deliveries = self.streams[stream].poll(bytes).unwrap();
        let came = !deliveries.is_empty();
        for delivery in deliveries {
            self.take(stream, delivery);
        }
        came
    }

    fn take(&mut self, stream: usize, delivery: Delivery) {
        let compacted = self.world.reader().compacted();
        match delivery.kind {
            DeliveryKind::Progress if delivery.watch_id == -1 => {
                for watch in self.watches[stream].values_mut() {
                    watch.promise(&self.log, delivery.revision);
                }
            }
            DeliveryKind::Progress => {
                if let Some(watch) = self.watches[stream].get_mut(&delivery.watch_id) {
                    watch.promise(&self.log, delivery.revision);
                }
            }
            DeliveryKind::Compacted { compact_revision } => {
                let watch = self.watches[stream].get_mut(&delivery.watch_id).unwrap();
                assert!(watch.next < compact_revision && compact_revision <= compacted);
                assert_eq!(delivery.revision, 0);
                watch.overtaken = true;
            }
            DeliveryKind::Events { events, .. } => {
                let watch = self.watches[stream].get_mut(&delivery.watch_id).unwrap();
                watch.check(&self.log, &events, compacted);
                assert!(delivery.revision >= watch.next - 1);
            }
        }
    }
}

impl Expected {
    fn wants(&self, event: &Event) -> bool {
        let key = event.kv().unwrap().key();
        let inside = match &self.end[..] {
            b"" => key == self.key,
            b"\0" => key >= self.key,
            _ => key >= self.key && key < self.end,
        };
        inside && !(self.no_delete && event.kind() == EventType::Delete)
    }

    /// What should come from `next` on, at most up to a revision.
    fn due<'a>(
        &'a self,
        log: &'a BTreeMap<i64, Vec<Event>>,
        upto: i64,
    ) -> impl Iterator<Item = (i64, &'a Event)> + 'a {
        let revisions = log.range(self.next..self.next.max(upto + 1));
        revisions
            .flat_map(|(revision, events)| events.iter().map(move |event| (*revision, event)))
            .filter(|(_, event)| self.wants(event))
    }

    fn check(&mut self, log: &BTreeMap<i64, Vec<Event>>, events: &[Event], compacted: i64) {
        assert!(!self.overtaken && !events.is_empty());
        let last = events.last().unwrap().kv().unwrap().view().mod_revision;
        assert!(
            last > self.promised,
            "an event after the progress that promised it"
        );
        let due: Vec<(i64, &Event)> = self.due(log, last).collect();
        assert_eq!(
            due.len(),
            events.len(),
            "gap, repetition or half a revision"
        );
        for ((revision, due), event) in due.into_iter().zip(events) {
            assert_eq!((event.kind(), event.kv()), (due.kind(), due.kv()));
            match (self.prev_kv, event.prev_kv()) {
                (false, previous) => assert_eq!(previous, None),
                // Left out only if that revision is compacted by now.
                (true, None) => assert!(due.prev_kv().is_none() || revision - 1 < compacted),
                (true, previous) => assert_eq!(previous, due.prev_kv()),
            }
        }
        self.next = last + 1;
    }

    fn promise(&mut self, log: &BTreeMap<i64, Vec<Event>>, revision: i64) {
        assert!(!self.overtaken);
        assert_eq!(
            self.due(log, revision).count(),
            0,
            "progress overtook events"
        );
        self.promised = self.promised.max(revision);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_watch_gets_its_events_once_and_in_order(steps in prop::collection::vec(step(), 1..150)) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
        }
        for stream in 0..STREAMS {
            for _ in 0..2000 {
                run.poll(stream, 300);
            }
            let revision = run.world.reader().revision();
            for watch in run.watches[stream].values().filter(|watch| !watch.overtaken) {
                prop_assert_eq!(watch.due(&run.log, revision).count(), 0, "something never came");
            }
        }
    }
}

/// Watches of all streams together are bounded, and room comes back with each that ends, however it ends.
#[test]
fn member_has_so_many_watches_and_no_more() {
    let world = World::new(Options {
        watches_max: 3,
        ..Options::default()
    });
    let reader = world.reader();
    let (mut one, mut other) = (reader.watch(), reader.watch());
    let create = |stream: &mut WatchStream| {
        let answer = stream.create(&pb::WatchCreateRequest {
            key: "k".into(),
            ..Default::default()
        });
        (answer.watch_id, answer.cancel_reason)
    };
    let refused = (-1, "etcdserver: too many watches on this member".to_owned());
    assert_eq!(create(&mut one).0, 0);
    assert_eq!(create(&mut one).0, 1);
    assert_eq!(create(&mut other).0, 0);
    assert_eq!(create(&mut one), refused);
    assert_eq!(create(&mut other), refused);
    other.cancel(0);
    assert_eq!(create(&mut other).0, 1);
    assert_eq!(create(&mut other), refused);
    drop(one);
    assert_eq!(create(&mut other).0, 2);
    assert_eq!(create(&mut other).0, 3);
    assert_eq!(create(&mut other), refused);
}
