//! Random streams of records against a plain model, with crashes between them.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What a caller may do, relative to the log as it is then.
#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, bytes: usize },
    Truncate { back: u64 },
    TruncateAll,
    Purge { of: u64 },
    PurgeBeyond { by: u64 },
    Vote(u8),
    Commit(u8),
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..20u64, 0..600usize).prop_map(|(count, bytes)| Step::Append { count, bytes }),
        3 => (0..30u64).prop_map(|back| Step::Truncate { back }),
        1 => Just(Step::TruncateAll),
        3 => (0..30u64).prop_map(|of| Step::Purge { of }),
        1 => (0..50u64).prop_map(|by| Step::PurgeBeyond { by }),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => any::<u8>().prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Bytes>,
    purged: Option<u64>,
    vote: Option<u8>,
    commit: Option<u8>,
    written: u64,
}

impl Model {
    fn records(&mut self, step: &Step) -> Vec<Record> {
        let first = self.entries.keys().next().copied();
        let last = self.entries.keys().last().copied();
        match *step {
            Step::Append { count, bytes } => {
                let next = last.or(self.purged).map_or(1, |last| last + 1);
                let append = |index| {
                    self.written += 1;
                    let data = Bytes::from(format!("{}{}", self.written, "y".repeat(bytes)));
                    self.entries.insert(index, data.clone());
                    entry(index, data)
                };
                (next..next + count).map(append).collect()
            }
            Step::Truncate { back } => {
                let keep_to = last.unwrap_or(5).saturating_sub(back);
                self.entries.retain(|index, _| *index <= keep_to);
                vec![truncate(keep_to)]
            }
            Step::TruncateAll => {
                self.entries.clear();
                vec![Record::Truncate { keep_to: None }]
            }
            Step::Purge { of } => self.purge(first.map_or(of, |first| first + of)),
            Step::PurgeBeyond { by } => self.purge(last.unwrap_or(0) + by),
            Step::Vote(vote) => {
                self.vote = Some(vote);
                vec![Record::Vote(vec![vote].into())]
            }
            Step::Commit(commit) => {
                self.commit = Some(commit);
                vec![Record::Commit(vec![commit].into())]
            }
            Step::Reopen | Step::Crash => Vec::new(),
        }
    }

    fn purge(&mut self, upto: u64) -> Vec<Record> {
        self.purged = self.purged.max(Some(upto));
        self.entries.retain(|index, _| *index > upto);
        vec![purge(upto)]
    }

    fn assert_like(&self, wal: &Wal) {
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|(i, data)| (*i, data.clone()))
            .collect();
        assert_eq!(read_all(wal), entries);
        assert_eq!(wal.purged().map(|(upto, _)| upto), self.purged);
        assert_eq!(wal.vote().map(|vote| vote[0]), self.vote);
        assert_eq!(wal.commit().map(|commit| commit[0]), self.commit);
    }
}

async fn run(steps: Vec<Step>, cache_bytes: usize) {
    let options = Options {
        cache_bytes,
        ..options()
    };
    let runtime = Runtime::system();
    let mut dir = tempfile::tempdir().unwrap();
    let (mut wal, _) = Wal::open(&runtime, dir.path(), options.clone()).unwrap();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Reopen => {
                wal.close().await;
                wal = Wal::open(&runtime, dir.path(), options.clone()).unwrap().0;
            }
            Step::Crash => {
                wal.sync().await.unwrap();
                let copy = crashed(dir.path());
                wal.close().await;
                dir = copy;
                wal = Wal::open(&runtime, dir.path(), options.clone()).unwrap().0;
            }
            ref change => {
                wal.append(model.records(change), |result| result.unwrap())
                    .await
                    .unwrap();
            }
        }
        model.assert_like(&wal);
    }
    wal.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_appended(
        steps in prop::collection::vec(step(), 1..40),
        cache_bytes in prop_oneof![Just(0), Just(2000), Just(1 << 20)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps, cache_bytes));
    }
}
