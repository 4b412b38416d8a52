//! Facts about processes that are killed. The test's own binary is started again as the victim.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use super::*;

/// Tells the victim what to do: engine, then directory.
const VICTIM: &str = "CATENA_TEST_VICTIM";

/// Pairs of each batch; all get the number of the batch as their value.
const PAIRS: u32 = 200;

/// Writes batches and says so, until it is killed.
#[test]
fn victim() {
    let Ok(what) = env::var(VICTIM) else { return };
    let mut words = what.splitn(3, ' ');
    let engine = Engine::from_name(words.next().unwrap()).unwrap();
    let defragments = words.next().unwrap() == "defragment";
    let backend = open_at(engine, Path::new(words.next().unwrap())).unwrap();
    let next = newest_batch(backend.as_ref()).map_or(0, |newest| newest + 1);
    std::thread::scope(|scope| {
        if defragments {
            scope.spawn(|| {
                loop {
                    backend.defragment().unwrap();
                    println!("defragmented");
                }
            });
        }
        for number in next..u32::MAX {
            backend.write(&batch(number)).unwrap();
            println!("wrote {number}");
        }
    });
}

/// Each batch also leaves a key of its own, so that missing ones show.
pub(super) fn batch(number: u32) -> Vec<Change> {
    let value = || number.to_be_bytes().repeat(20);
    let mut batch: Vec<_> = (0..PAIRS)
        .map(|n| put(Bucket::Key, n.to_be_bytes(), value()))
        .collect();
    batch.push(put(Bucket::Lease, number.to_be_bytes(), value()));
    batch
}

/// The number of the last batch, after checking that all up to it are there, whole, and nothing else is.
pub(super) fn newest_batch(backend: &dyn Backend) -> Option<u32> {
    let view = backend.view().unwrap();
    let own = pairs(view.as_ref(), Bucket::Lease);
    let shared = pairs(view.as_ref(), Bucket::Key);
    let newest = own.len().checked_sub(1)? as u32;
    assert_eq!(own.last().unwrap().0[..], newest.to_be_bytes());
    assert_eq!(shared.len(), PAIRS as usize);
    let value = newest.to_be_bytes().repeat(20);
    assert!(
        shared.iter().all(|(_, found)| *found == value),
        "a batch is there in part"
    );
    Some(newest)
}

fn start(engine: Engine, what: &str, dir: &Path) -> Child {
    let path = dir.display();
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "--nocapture",
            "backend::conformance::kill::victim",
        ])
        .env(VICTIM, format!("{} {what} {path}", engine.name()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets the victim go on until it has said `done` `count` times, then kills it; the last batch that it acknowledged.
fn kill_after(mut victim: Child, done: &str, count: usize) -> u32 {
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut seen = 0;
    let mut newest = 0;
    let mut note = |line: &str| {
        if let Some(number) = line
            .rsplit_once("wrote ")
            .and_then(|(_, number)| number.parse().ok())
        {
            newest = number;
        }
        seen += usize::from(line.contains(done));
        seen >= count
    };
    while !note(
        &lines
            .next()
            .expect("the victim goes on until it is killed")
            .unwrap(),
    ) {}
    victim.kill().unwrap();
    victim.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        note(&line);
    }
    newest
}

fn survives(engine: Engine, what: &str, done: &str, counts: &[usize]) {
    let bench = Bench::new(engine);
    for &count in counts {
        let acknowledged = kill_after(start(engine, what, bench.path()), done, count);
        let backend = bench.open();
        let found = newest_batch(backend.as_ref()).unwrap();
        assert!(
            found == acknowledged || found == acknowledged + 1,
            "batch {acknowledged} was acknowledged, {found} is the last one there"
        );
    }
}

pub(super) fn killed_writer_loses_nothing_acknowledged(engine: Engine) {
    survives(engine, "write", "wrote", &[1, 5, 13, 40, 3]);
}

pub(super) fn killed_defragmentation_leaves_one_whole_engine(engine: Engine) {
    survives(engine, "defragment", "defragmented", &[1, 3, 2]);
    survives(engine, "defragment", "wrote", &[7, 15]);
}
