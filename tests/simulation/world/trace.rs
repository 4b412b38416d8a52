//! The trace of a run: one line an event, so that two runs of a seed can be compared byte for byte and one can be read.
//!
//! Every event is hashed. The lines themselves are kept only when two runs are compared or a person asks; the last ones are always
//! there for whoever has to explain a failure.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use openraft_rt_sim::SimInstant;

use super::seeds::step;

/// Events that are told with a failure.
const LAST_EVENTS: usize = 200;

/// Lines before the first difference that are told with it.
const CONTEXT_LINES: usize = 10;

/// What is longer is cut; a number stands for the rest.
const LINE_BYTES_MAX: usize = 600;

/// What becomes of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All but the last are forgotten.
    Last,
    /// All are kept.
    All,
    /// All are kept, and printed as they come.
    Print,
}

/// What happened in one run.
pub(crate) struct Trace {
    keep: Keep,
    hasher: DefaultHasher,
    lines: VecDeque<String>,
    count: u64,
}

impl Trace {
    fn new(keep: Keep) -> Self {
        Self {
            keep,
            // Its keys are fixed: the same lines give the same hash in every process.
            hasher: DefaultHasher::new(),
            lines: VecDeque::new(),
            count: 0,
        }
    }

    fn add(&mut self, at: Duration, what: &str) {
        let mut line = match self.lines.len() >= LAST_EVENTS && self.keep == Keep::Last {
            true => self.lines.pop_front().unwrap_or_default(),
            false => String::new(),
        };
        line.clear();
        let (shown, rest) = what.split_at(what.floor_char_boundary(LINE_BYTES_MAX));
        let (secs, micros) = (at.as_secs(), at.subsec_micros());
        let nanos = at.subsec_nanos() % 1000;
        write!(line, "{secs:>3}.{micros:06}_{nanos:03} {shown}").expect("a string takes all");
        if !rest.is_empty() {
            let (bytes, digest) = (rest.len(), digest(rest.as_bytes()));
            write!(line, " … {bytes} bytes more, {digest:08x}").expect("a string takes all");
        }
        line.hash(&mut self.hasher);
        self.count += 1;
        if self.keep == Keep::Print {
            println!("{line}");
        }
        self.lines.push_back(line);
    }

    /// Of all lines.
    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How many lines there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The last lines.
    pub(crate) fn last(&self) -> impl Iterator<Item = &str> {
        let skip = self.lines.len().saturating_sub(LAST_EVENTS);
        self.lines.iter().skip(skip).map(String::as_str)
    }

    /// Where two runs part, told; nothing if they are the same byte for byte.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let pairs = self.lines.iter().zip(&other.lines);
        let same = pairs.take_while(|(one, two)| one == two).count();
        if same == self.lines.len() && same == other.lines.len() {
            return None;
        }
        let mut told = format!("two runs part after {same} events:\n");
        for line in self.lines.range(same.saturating_sub(CONTEXT_LINES)..same) {
            let _written = writeln!(told, "  both:   {line}");
        }
        for (who, lines) in [("first", &self.lines), ("second", &other.lines)] {
            let line = lines.get(same).map_or("has ended", String::as_str);
            let _written = writeln!(told, "  {who}: {line}");
        }
        Some(told)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Begins the trace of a run in this thread.
pub(super) fn begin(keep: Keep) {
    CURRENT.set(Some(Trace::new(keep)));
}

/// Ends it.
pub(super) fn end() -> Trace {
    CURRENT.take().expect("a trace was begun")
}

/// Tells what happens. What it says must be the same in every run of a seed: no address, no real time, no order of a hash map.
pub(crate) fn tell(what: impl FnOnce() -> String) {
    let Some(now) = SimInstant::try_now() else {
        // The run is over, and what is left of it is being dropped.
        return;
    };
    step();
    let what = what();
    CURRENT.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            trace.add(now.elapsed_since_start(), &what);
        }
    });
}

/// A number that stands for some bytes in a trace.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish() >> 32
}
