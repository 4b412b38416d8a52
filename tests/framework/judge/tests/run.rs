//! A run against the small store: clients, members that lag and restart, watches that are resumed; all in virtual time.

use std::collections::BTreeMap;

use bytes::Bytes;
use catena_api::errors;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tonic::Status;

use super::{
    lies::{Liar, Lie},
    store::Store,
    watchers::Watchers,
};
use crate::{
    history::{
        Answer, Args, Fault, Final, Get, Header, History, MemberInfo, Meta, Outcome, Pair, Phase,
        Proc, ProcEvent, Proof, Put, Ranged, Recorder, Reply, outcome_of,
    },
    mix::{Call, Mix, Settings},
};

const MEMBERS: u64 = 3;
const CLIENTS: usize = 8;
const MS: u64 = 1_000_000;
/// Many times as long as a member needs to send what it has.
pub(super) const WATCH_LATE_MS: u64 = 100;
/// One operation in so many has an unknown outcome.
const UNKNOWN_ONE_IN: u32 = 20;

enum Event {
    Call(usize),
    Apply {
        slot: usize,
        id: u64,
        member: u64,
        args: Args,
    },
    ApplyUnknown(Args),
    Return {
        slot: usize,
        id: u64,
        outcome: Outcome,
    },
    Advance(u64),
    Leases,
    Restart,
}

/// What a run is to be like.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) operations: u64,
    pub(super) liar: Liar,
}

pub(super) struct Run {
    rng: StdRng,
    mix: Mix<Box<dyn FnMut(u64) -> u64>>,
    store: Store,
    recorder: Recorder,
    /// The client number of each slot.
    clients: Vec<u64>,
    /// The revision at which each member is.
    applied: Vec<i64>,
    watchers: Watchers,
    agenda: BTreeMap<(u64, u64), Event>,
    entries: u64,
    now: u64,
    operations: u64,
}

/// Runs a plan; whether the lie was told, if there was one.
pub(super) fn history(plan: Plan) -> (History, bool) {
    let mut run = Run::new(plan);
    while let Some(((ns, _), event)) = run.agenda.pop_first() {
        run.now = ns;
        run.step(event);
    }
    run.end()
}

fn endpoint(member: u64) -> String {
    format!("m{member}:2379")
}

impl Run {
    fn new(plan: Plan) -> Self {
        let mut mix_rng = StdRng::seed_from_u64(plan.seed ^ 0x5eed);
        let below: Box<dyn FnMut(u64) -> u64> =
            Box::new(move |bound| mix_rng.random_range(0..bound));
        let settings = Settings {
            ttl_min: 1,
            ttl_max: 3,
            long_value_bytes: 400,
            compact: 10,
            lease_put: 60,
            ..Settings::default()
        };
        let members = (0..MEMBERS).map(|member| MemberInfo {
            name: format!("m{member}"),
            id: 100 + member,
            endpoint: endpoint(member),
        });
        let meta = Meta {
            seed: plan.seed.to_string(),
            members: members.collect(),
            settings: BTreeMap::from([
                ("lease_late_ms".to_owned(), 500.into()),
                ("watch_late_ms".to_owned(), WATCH_LATE_MS.into()),
            ]),
            ..Meta::default()
        };
        let recorder = Recorder::new(meta);
        let mut run = Self {
            rng: StdRng::seed_from_u64(plan.seed),
            mix: Mix::new(below, settings),
            store: Store::new(plan.liar),
            clients: (0..CLIENTS).map(|_| recorder.new_client()).collect(),
            applied: vec![1; 3],
            watchers: Watchers::new(recorder.clone()),
            recorder,
            agenda: BTreeMap::new(),
            entries: 0,
            now: MS,
            operations: plan.operations,
        };
        for member in 0..MEMBERS {
            run.watchers.witness(member, &endpoint(member), MS);
            run.plan(MS, Event::Advance(member));
        }
        for slot in 0..CLIENTS {
            run.plan(2 * MS, Event::Call(slot));
        }
        run.plan(MS, Event::Leases);
        run.plan(300 * MS, Event::Restart);
        run
    }

    fn plan(&mut self, after: u64, event: Event) {
        self.entries += 1;
        self.agenda.insert((self.now + after, self.entries), event);
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.rng.random_range(0..bound)
    }

    fn soon(&mut self) -> u64 {
        MS / 10 + self.below(5 * MS)
    }

    /// Whether anything is to happen but that members learn what has.
    fn goes_on(&self) -> bool {
        let mut events = self.agenda.values();
        events.any(|event| !matches!(event, Event::Advance(_)))
    }

    fn busy(&self) -> bool {
        self.operations > 0
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Call(slot) => self.call(slot),
            Event::Apply {
                slot,
                id,
                member,
                args,
            } => {
                let outcome = self.apply(member, &args);
                let after = self.soon();
                self.plan(after, Event::Return { slot, id, outcome });
            }
            Event::ApplyUnknown(args) => {
                // Errors of an operation whose client is gone reach nobody.
                let _ = self.store.apply(&args, self.now);
                let plain = matches!(&args, Args::Put(put) if put.lease == 0);
                if plain && self.store.liar.tells(Lie::UnknownAppliedTwice) {
                    let _ = self.store.apply(&args, self.now);
                }
            }
            Event::Return { slot, id, outcome } => {
                let unknown = matches!(outcome, Outcome::Unknown(_));
                if let Some(operation) = self.recorder.finish(id, outcome, self.now) {
                    self.mix.learn(&operation);
                }
                if unknown {
                    self.clients[slot] = self.recorder.new_client();
                }
                let after = self.soon();
                self.plan(after, Event::Call(slot));
            }
            Event::Advance(member) => {
                self.advance(member);
                if self.goes_on() {
                    let after = self.soon();
                    self.plan(after, Event::Advance(member));
                }
            }
            Event::Leases => self.leases(),
            Event::Restart => self.restart(),
        }
    }

    fn call(&mut self, slot: usize) {
        if !self.busy() {
            return;
        }
        self.operations -= 1;
        let client = self.clients[slot];
        let Call { args, token } = self.mix.next(client);
        let member = self.below(MEMBERS);
        let early = matches!(args, Args::Put(Put { lease: 0, .. }))
            && self.store.revision() > 50
            && self.store.liar.tells(Lie::AppliedBeforeCall);
        if early {
            let outcome = self.apply(member, &args);
            self.advance(0);
            self.now += 10 * MS;
            let id = self
                .recorder
                .call(client, &endpoint(member), args, token, self.now);
            return self.plan(MS, Event::Return { slot, id, outcome });
        }
        let id = self
            .recorder
            .call(client, &endpoint(member), args.clone(), token, self.now);
        let after = self.soon();
        if self.rng.random_ratio(1, UNKNOWN_ONE_IN) {
            let outcome = Outcome::Unknown(None);
            self.plan(after, Event::Return { slot, id, outcome });
            if self.rng.random_ratio(1, 2) {
                let late = self.below(400 * MS);
                self.plan(late, Event::ApplyUnknown(args));
            }
            return;
        }
        self.plan(
            after,
            Event::Apply {
                slot,
                id,
                member,
                args,
            },
        );
    }

    fn apply(&mut self, member: u64, args: &Args) -> Outcome {
        let plain = matches!(args, Args::Put(put) if put.lease == 0);
        if plain && self.store.liar.tells(Lie::RefusedAndApplied) {
            let _ = self.store.apply(args, self.now);
            return outcome_of(&errors::NO_SPACE.into());
        }
        if plain && self.store.liar.tells(Lie::AnsweredAndLost) {
            let reply = Reply::Put(crate::history::Stored::default());
            let revision = self.store.revision() + 1;
            return self.answer(member, revision, reply);
        }
        let at = usize::try_from(member).expect("three members");
        let answered = match args {
            Args::Get(get) => return self.read(at, member, get),
            args => self.store.apply(args, self.now),
        };
        let revision = match args {
            // Its header is read apart from its work.
            Args::LeaseKeepalive(_) | Args::LeaseTtl(_) => self.applied[at],
            _ => self.store.revision(),
        };
        let changed = answered.as_ref().is_ok_and(Reply::changed);
        if changed && plain && self.store.liar.tells(Lie::AppliedTwice) {
            let _ = self.store.apply(args, self.now);
        }
        match answered {
            Ok(reply) => self.answer(member, revision, reply),
            Err(error) => outcome_of(&Status::from(error)),
        }
    }

    fn read(&mut self, at: usize, member: u64, get: &Get) -> Outcome {
        let mut present = match get.serializable {
            true => self.applied[at],
            false => self.store.revision(),
        };
        let (newest, old) = (self.store.revision(), present - 15);
        if get.serializable && old > 1 && self.store.liar.tells(Lie::SerializableGoesBack) {
            present = old;
        }
        if !get.serializable && old > 1 && self.store.liar.tells(Lie::StaleRead) {
            present = newest - 15;
        }
        let read = self.store.read(get, present);
        match read {
            Ok(ranged) => {
                let ranged = self.distort(get, ranged, present);
                self.answer(member, present, Reply::Get(ranged))
            }
            Err(error) => outcome_of(&Status::from(error)),
        }
    }

    /// Reads that show what never was.
    fn distort(&mut self, get: &Get, mut ranged: Ranged, present: i64) -> Ranged {
        let single = get.revision == 0 && get.range_end.is_empty() && !ranged.kvs.is_empty();
        if single && !get.serializable && self.store.liar.tells(Lie::ReadOfLost) {
            ranged.kvs[0].value = "never there".into();
        }
        let old = self.store.at((present - 30).max(1)).get(&get.key).cloned();
        let differs = old
            .as_ref()
            .is_some_and(|old| Some(old) != ranged.kvs.first());
        if single && get.serializable && differs && self.store.liar.tells(Lie::SerializableMixed) {
            ranged.kvs = old.into_iter().collect();
        }
        ranged
    }

    /// A member answers from what it has applied.
    fn answer(&mut self, member: u64, revision: i64, reply: Reply) -> Outcome {
        let at = usize::try_from(member).expect("three members");
        self.applied[at] = self.applied[at].max(revision.min(self.store.revision()));
        Outcome::Ok(Answer {
            reply,
            header: Header {
                revision: Some(revision),
                term: Some(2),
                member: Some(100 + member),
            },
        })
    }

    fn advance(&mut self, member: u64) {
        let at = usize::try_from(member).expect("three members");
        let gap = self.store.revision() - self.applied[at];
        let lag = i64::try_from(self.rng.random_range(0..4_u64)).expect("small");
        self.applied[at] += (gap - lag).max(0);
        if self.busy() && self.below(200) == 0 && self.watchers.room() {
            let args = self.mix.watch();
            self.watchers
                .open(member, &endpoint(member), args, self.applied[at], self.now);
        }
        self.watchers.serve(
            member,
            self.applied[at],
            &self.store,
            self.now,
            &mut self.rng,
        );
    }

    fn leases(&mut self) {
        let due: Vec<_> = self
            .store
            .leases
            .iter()
            .map(|(id, lease)| (*id, *lease))
            .collect();
        for (id, lease) in due {
            let keys = self.store.now().values().any(|pair| pair.lease == id);
            if lease.deadline_ns <= self.now {
                if !keys || !self.store.liar.keeps(Lie::LeaseNeverEnds) {
                    self.store.end_lease(id);
                }
            } else if keys
                && lease.deadline_ns > self.now + 700 * MS
                && self.store.liar.tells(Lie::LeaseEndsEarly)
            {
                self.store.end_lease(id);
            }
        }
        self.mischief();
        if self.busy()
            || !self.store.leases.is_empty() && !self.store.liar.keeps(Lie::LeaseNeverEnds)
        {
            self.plan(50 * MS, Event::Leases);
        }
    }

    /// Changes that nobody asked for.
    fn mischief(&mut self) {
        let put = Args::Put(Put {
            key: Bytes::from_static(b"k05"),
            value: "nobody".into(),
            ..Put::default()
        });
        if self.store.revision() < 100 {
            return;
        }
        if self.store.liar.tells(Lie::WrittenByNobody) {
            let _ = self.store.apply(&put, self.now);
        }
        if self.store.liar.tells(Lie::RevisionSkipped) {
            let _ = self.store.apply(&put, self.now);
            self.store.log.last_mut().expect("just written").clear();
        }
        let victim = self
            .store
            .now()
            .values()
            .find(|pair| pair.lease == 0)
            .cloned();
        if let Some(victim) = victim
            && self.store.liar.tells(Lie::DeletedByNobody)
        {
            let delete = crate::history::Delete {
                key: victim.key,
                ..crate::history::Delete::default()
            };
            let _ = self.store.apply(&Args::Delete(delete), self.now);
        }
    }

    /// A member falls back a little and comes again; its watches are resumed elsewhere or there.
    fn restart(&mut self) {
        if !self.busy() {
            return;
        }
        let member = self.below(MEMBERS);
        let at = usize::try_from(member).expect("three members");
        self.fault(member, Phase::Start);
        let back = i64::try_from(self.below(20)).expect("small");
        self.applied[at] = (self.applied[at] - back).max(1);
        self.recorder.process(Proc {
            ns: self.now,
            name: format!("m{member}"),
            member: None,
            event: ProcEvent::Start,
            pid: 0,
            incarnation: 1,
            exit: None,
        });
        self.fault(member, Phase::End);
        let to = self.below(MEMBERS);
        self.watchers.move_away(member, to, &endpoint(to), self.now);
        let after = 200 * MS + self.below(600 * MS);
        self.plan(after, Event::Restart);
    }

    fn fault(&self, member: u64, phase: Phase) {
        self.recorder.fault(Fault {
            ns: self.now,
            name: "restart".to_owned(),
            phase,
            targets: vec![format!("m{member}")],
            args: BTreeMap::new(),
            proof: Some(Proof {
                kind: "exit".to_owned(),
                value: 137.into(),
            }),
        });
    }

    fn end(mut self) -> (History, bool) {
        self.now += MS;
        let revision = self.store.revision();
        for member in 0..MEMBERS {
            self.watchers
                .serve(member, revision, &self.store, self.now, &mut self.rng);
            let kvs: Vec<Pair> = self.store.now().values().cloned().collect();
            self.recorder.last(Final {
                endpoint: endpoint(member),
                member: 100 + member,
                revision,
                compact_revision: self.store.compacted,
                hash: 7,
                hash_revision: revision,
                kvs,
            });
        }
        let end = self.now + 20_000 * MS;
        (self.recorder.history(end), self.store.liar.told)
    }
}
