//! Running seeds: each in a world of its own, one thread a seed, as many at a time as there are cores.
//!
//! A failing seed is printed with its last events and the command that runs it again. One that hangs fails too, in each way in which
//! a run can hang: time goes on and nothing ends ([`LASTS_MAX`]), tasks wake each other and time hardly goes on ([`STEPS_MAX`]; at
//! one instant the executor itself counts), all wait for each other (the executor says so), or one task never yields, which only
//! another thread can see ([`STILL_MAX`]).

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    process::{self, Command},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future;
use openraft_rt::AsyncRuntime;
use openraft_rt_sim::SimRuntime;
use parking_lot::Mutex;

use super::{
    chance::Chance,
    coverage::{self, Coverage},
    now,
    options::options,
    sleep,
    trace::{self, Keep, Trace},
};

/// One seed in so many runs twice.
const TWICE_ONCE_IN: u64 = 10;

/// After so many failures no other seed begins: they all say the same.
const FAILURES_MAX: usize = 3;

/// After so many seeds it is said how far they are.
const PROGRESS_EACH: u64 = 50;

/// How often a run is asked whether one of its tasks has panicked.
const PANIC_LOOK: Duration = Duration::from_millis(20);

/// Longest run, in its own time. All that a scenario waits for has a bound of its own, and these together are less than half of this.
const LASTS_MAX: Duration = Duration::from_secs(1200);

/// Most steps of a run: waits that begin and events that are told.
const STEPS_MAX: u64 = 20_000_000;

/// Longest time, in that of the real clock, in which a run takes no step. A judge that searches takes seconds.
const STILL_MAX: Duration = Duration::from_secs(600);

/// How often it is looked whether runs take steps.
const STILL_LOOK: Duration = Duration::from_millis(500);

/// Runs `scenario` with each of `count` seeds, each in a world of its own.
pub(crate) fn with_seeds<F: Future<Output = ()>>(
    test: &str,
    count: u64,
    scenario: impl Fn(Chance) -> F + Sync,
) {
    Set::new(test, count).run(&scenario);
}

/// Like [`with_seeds`], but every tenth seed runs twice, and all that is to happen ([`coverage::Event`]) must have happened, unless
/// fewer seeds were asked for.
pub(crate) fn campaign<F: Future<Output = ()>>(
    test: &str,
    count: u64,
    scenario: impl Fn(Chance) -> F + Sync,
) {
    let mut set = Set::new(test, count);
    set.twice_once_in = Some(TWICE_ONCE_IN);
    let complete = set.end - set.next.load(Ordering::Relaxed) >= count;
    set.run(&scenario);
    let coverage = set.coverage.into_inner();
    println!("{coverage}");
    let missing = coverage.missing();
    assert!(
        !complete || missing.is_empty(),
        "never happened: {missing:?}"
    );
}

/// Seeds of one test.
struct Set<'a> {
    test: &'a str,
    next: AtomicU64,
    end: u64,
    twice_once_in: Option<u64>,
    done: AtomicU64,
    failed: Mutex<Vec<u64>>,
    coverage: Mutex<Coverage>,
}

impl<'a> Set<'a> {
    fn new(test: &'a str, count: u64) -> Self {
        let options = options();
        Self {
            test,
            next: AtomicU64::new(options.from),
            end: options.from + options.seeds.unwrap_or(count),
            twice_once_in: None,
            done: AtomicU64::new(0),
            failed: Mutex::default(),
            coverage: Mutex::default(),
        }
    }

    /// Panics if a seed failed.
    fn run<F: Future<Output = ()>>(&self, scenario: &(impl Fn(Chance) -> F + Sync)) {
        notice_panics();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let seeds = self.end - self.next.load(Ordering::Relaxed);
        // One after the other where somebody reads along.
        let threads = match options().trace {
            true => 1,
            false => threads.min(seeds as usize),
        };
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let workers = (0..threads).map(|_| {
                let steps = Arc::<Steps>::default();
                let taken = steps.clone();
                let worker = scope.spawn(move || {
                    STEPS.set(taken);
                    while self.one(scenario) {}
                });
                (worker, steps)
            });
            let (workers, steps): (Vec<_>, Vec<_>) = workers.unzip();
            let over = &over;
            let guard = scope.spawn(move || self.guard(&steps, over));
            for worker in workers {
                worker.join().expect("a run catches its panics");
            }
            over.store(true, Ordering::Relaxed);
            guard.thread().unpark();
        });
        let failed = self.failed.lock();
        assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    }

    /// Runs the next seed; false if there is none.
    fn one<F: Future<Output = ()>>(&self, scenario: &impl Fn(Chance) -> F) -> bool {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        if seed >= self.end || self.failed.lock().len() >= FAILURES_MAX {
            return false;
        }
        let by_rule = self
            .twice_once_in
            .is_some_and(|times| seed.is_multiple_of(times));
        let twice = by_rule || options().twice;
        let keep = match twice {
            _ if options().trace => Keep::Print,
            true => Keep::All,
            false => Keep::Last,
        };
        let first = run(scenario, seed, keep);
        let mut failure = first.failure();
        if twice && failure.is_none() {
            let second = run(scenario, seed, Keep::All);
            failure = first.trace.difference(&second.trace).or(second.failure());
        }
        if let Some(failure) = failure {
            self.tell(seed, &failure);
        }
        self.coverage.lock().add(&first.coverage);
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(PROGRESS_EACH) {
            println!("{}: {done} seeds are done", self.test);
        }
        true
    }

    fn tell(&self, seed: u64, failure: &str) {
        self.failed.lock().push(seed);
        eprintln!(
            "{failure}seed {seed} failed at commit {commit}; again:\n  cargo test -p catena-tests --test simulation -- {test} --seed {seed} --trace",
            commit = commit(),
            test = self.test
        );
    }

    /// Ends the process if a run takes no step for too long: its thread is lost, and whoever waits for it learns nothing.
    fn guard(&self, workers: &[Arc<Steps>], over: &AtomicBool) {
        let mut last: Vec<_> = workers.iter().map(|_| ((0, 0), Instant::now())).collect();
        while !over.load(Ordering::Relaxed) {
            thread::park_timeout(STILL_LOOK);
            for (steps, (before, since)) in workers.iter().zip(&mut last) {
                let now = steps.now();
                if now != *before {
                    (*before, *since) = (now, Instant::now());
                } else if now.0 != 0 && since.elapsed() > STILL_MAX {
                    let seed = now.0 - 1;
                    self.tell(seed, &format!("no step of it in {STILL_MAX:?}: it hangs\n"));
                    process::exit(1);
                }
            }
        }
    }
}

/// What the run of one thread has done.
#[derive(Default)]
struct Steps {
    /// The seed and one; 0 if none runs.
    seed: AtomicU64,
    taken: AtomicU64,
}

impl Steps {
    fn begin(&self, seed: u64) {
        self.taken.store(0, Ordering::Relaxed);
        self.seed.store(seed + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.seed.store(0, Ordering::Relaxed);
    }

    fn now(&self) -> (u64, u64) {
        let [seed, taken] = [&self.seed, &self.taken].map(|part| part.load(Ordering::Relaxed));
        (seed, taken)
    }
}

/// Counts a step of the run of this thread. Whoever takes one too many goes no further, so a loop ends here.
pub(crate) fn step() {
    let taken = STEPS.with_borrow(|steps| steps.taken.fetch_add(1, Ordering::Relaxed));
    // What has failed already may take its last steps, also while it is being dropped.
    if taken >= STEPS_MAX && !PANICKED.get() {
        panic!("the run hangs: {taken} steps, and no end");
    }
}

/// The commit that is checked out, for who reads a failure later.
fn commit() -> String {
    let git = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        Ok(_) | Err(_) => "unknown".to_owned(),
    }
}

/// What one run left.
struct Ran {
    panicked: bool,
    trace: Trace,
    coverage: Coverage,
}

impl Ran {
    fn failure(&self) -> Option<String> {
        let last = || self.trace.last().map(|line| format!("  {line}\n"));
        let end = || {
            format!(
                "  {} events, hash {:016x}\n",
                self.trace.count(),
                self.trace.hash()
            )
        };
        self.panicked.then(|| last().chain([end()]).collect())
    }
}

fn run<F: Future<Output = ()>>(scenario: &impl Fn(Chance) -> F, seed: u64, keep: Keep) -> Ran {
    coverage::take();
    trace::begin(keep);
    RUNNING.set(Some(seed));
    PANICKED.set(false);
    STEPS.with_borrow(|steps| steps.begin(seed));
    let ended = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut runtime = SimRuntime::with_seed(seed);
        runtime.block_on(watched(scenario(Chance::new(seed))));
    }));
    STEPS.with_borrow(|steps| steps.end());
    RUNNING.set(None);
    Ran {
        panicked: PANICKED.take() || ended.is_err(),
        trace: trace::end(),
        coverage: coverage::take(),
    }
}

/// Ends a run soon after one of its tasks has panicked, whoever would have waited for that task, and one that does not end.
async fn watched(scenario: impl Future<Output = ()>) {
    let scenario = std::pin::pin!(scenario);
    let panicked = std::pin::pin!(async {
        while !PANICKED.get() {
            sleep(PANIC_LOOK).await;
            let lasts = now();
            assert!(lasts < LASTS_MAX, "the run hangs: {lasts:?}, and no end");
        }
    });
    // Which of the two it was, the panic itself says.
    let _ended = future::select(scenario, panicked).await;
}

thread_local! {
    /// A panic of a task reaches only who joins it, and nobody joins those of openraft.
    static PANICKED: Cell<bool> = const { Cell::new(false) };
    /// The seed that runs in this thread.
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
    /// Its steps.
    static STEPS: RefCell<Arc<Steps>> = RefCell::default();
}

fn notice_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if let Some(seed) = RUNNING.get() {
                PANICKED.set(true);
                eprintln!("seed {seed}:");
            }
            before(panic);
        }));
    });
}

/// Two runs that part are told where they do; two that do not are the same.
pub(crate) fn runs_that_part_are_told_apart() {
    let told = AtomicU64::new(0);
    let honest = async |chance: Chance| {
        for _ in 0..3 {
            sleep(chance.micros(100)).await;
            trace::tell(|| format!("draws {}", chance.below(1000)));
        }
    };
    let dishonest = async |chance: Chance| {
        honest(chance).await;
        trace::tell(|| format!("from outside: {}", told.fetch_add(1, Ordering::Relaxed)));
    };
    let [one, again, other] = [7, 7, 8].map(|seed| run(&honest, seed, Keep::All));
    assert_eq!(one.trace.difference(&again.trace), None);
    assert_eq!(one.trace.hash(), again.trace.hash());
    assert!(
        one.trace.difference(&other.trace).is_some(),
        "another seed is another run"
    );
    let [one, again] = [7, 7].map(|seed| run(&dishonest, seed, Keep::All));
    let difference = one.trace.difference(&again.trace).unwrap();
    assert!(difference.contains("part after 3 events"), "{difference}");
    assert!(difference.contains("from outside: 1"), "{difference}");
    assert_ne!(one.trace.hash(), again.trace.hash());
}

/// A task that panics fails its run, though nobody waits for it, and ends it soon.
pub(crate) fn a_panic_of_a_task_fails_the_run() {
    let scenario = async |_: Chance| {
        super::spawn(async {
            trace::tell(|| "goes wrong".to_owned());
            panic!("as it should");
        });
        sleep(Duration::from_secs(1_000_000)).await;
    };
    notice_panics();
    let ran = run(&scenario, 1, Keep::Last);
    let failure = ran.failure().unwrap();
    assert!(failure.contains("goes wrong"), "{failure}");
}

/// A run whose time goes on for ever fails, and so does one in which tasks are busy and time hardly goes on.
pub(crate) fn a_run_that_hangs_fails() {
    let waits = async |_: Chance| loop {
        sleep(Duration::from_secs(1)).await;
    };
    let spins = async |_: Chance| {
        // As if most of its steps were behind it.
        STEPS.with_borrow(|steps| steps.taken.store(STEPS_MAX - 1000, Ordering::Relaxed));
        loop {
            sleep(Duration::from_nanos(1)).await;
        }
    };
    notice_panics();
    assert!(run(&waits, 1, Keep::Last).failure().is_some());
    assert!(run(&spins, 1, Keep::Last).failure().is_some());
}
