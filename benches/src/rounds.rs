//! Rounds: the same cells on each contender in turn, several times over.
//!
//! What a machine does at one moment to one contender it does, a round later, to another: contenders take turns, and the one that
//! begins is another in each round.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use crate::{
    cell::{Cell, Figures},
    load::{Dataset, Keys, Op, Pace, connections},
    report::Line,
    subject::{Running, Subject},
};

/// Not measured at the beginning of each cell: connections are made and caches filled.
const WARM_UP: Duration = Duration::from_millis(400);
/// Clients in an open loop: more than any server needs to reach its limit, few enough that the queue stands in the generator.
const OPEN_CLIENTS: usize = 256;

/// What all cells read and write.
pub(crate) const DATASET: Dataset = Dataset {
    keys: Keys {
        prefix: "bench/",
        count: 10_000,
    },
    value_bytes: 256,
};

/// A subject that takes part.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// Whose servers.
    pub(crate) subject: Subject,
    /// Their program; the floor has none.
    pub(crate) program: Option<PathBuf>,
}

impl Contender {
    /// A subject with its own program, which is built or fetched here, before any clock runs.
    pub(crate) fn own(subject: Subject) -> Result<Self> {
        let program = subject.program()?;
        Ok(Self { subject, program })
    }
}

/// Contenders and what has been measured of them.
#[derive(Debug)]
pub(crate) struct Rounds<'a> {
    /// Where servers are started.
    pub(crate) runtime: &'a Runtime,
    /// Who takes part.
    pub(crate) contenders: Vec<Contender>,
    /// All figures, round by round.
    pub(crate) measured: Vec<Figures>,
}

impl Rounds<'_> {
    /// One more round of `cells` on clusters of so many members, each new and empty but for the keys.
    pub(crate) fn closed(
        &mut self,
        round: usize,
        members: usize,
        cells: &[(Op, usize)],
        length: Duration,
    ) -> Result<()> {
        let cell = |(op, clients): &(Op, usize)| Cell {
            op: *op,
            clients: *clients,
            connections: connections(*clients),
            pace: Pace::Closed,
            warm_up: WARM_UP,
            length,
        };
        let cells: Vec<_> = cells.iter().map(cell).collect();
        let can = |subject| members == 1 || subject != Subject::Floor;
        self.each(round, members, can, &cells)
    }

    /// One more round of loads offered by a timetable, at shares of what the better peer reached in a closed loop of 64 clients.
    pub(crate) fn open(
        &mut self,
        round: usize,
        ops: &[Op],
        shares: &[f64],
        length: Duration,
    ) -> Result<()> {
        let mut cells = Vec::new();
        for op in ops {
            let best = self.best(*op).context("no peer was measured")?;
            cells.extend(shares.iter().map(|share| Cell {
                op: *op,
                clients: OPEN_CLIENTS,
                connections: connections(OPEN_CLIENTS),
                pace: Pace::Open {
                    per_sec: (best * share / 100.0).round() * 100.0,
                },
                warm_up: WARM_UP,
                length,
            }));
        }
        self.each(round, 1, |subject| subject != Subject::Floor, &cells)
    }

    /// The throughput of the better peer. Taken from the first round, so that all rounds offer the same.
    fn best(&self, op: Op) -> Option<f64> {
        let line = Line {
            members: 1,
            op,
            clients: 64,
            offered_per_sec: None,
        };
        let first = |subject| {
            let mut figures = self.measured.iter();
            let first = figures.find(|had| had.subject == subject && Line::of(had) == line)?;
            Some(first.answered_per_sec)
        };
        let peers = Subject::PEERS.into_iter().filter_map(first);
        peers.reduce(f64::max)
    }

    fn each(
        &mut self,
        round: usize,
        members: usize,
        takes_part: impl Fn(Subject) -> bool,
        cells: &[Cell],
    ) -> Result<()> {
        let mut contenders = self.contenders.clone();
        let first = round % contenders.len();
        contenders.rotate_left(first);
        for contender in contenders {
            if takes_part(contender.subject) {
                let about = format!("{}, {members} members", contender.subject.title());
                self.measure(contender, members, cells).context(about)?;
            }
        }
        Ok(())
    }

    fn measure(&mut self, contender: Contender, members: usize, cells: &[Cell]) -> Result<()> {
        let subject = contender.subject;
        let start = subject.start(members, contender.program);
        let running: Running = self.runtime.block_on(start)?;
        let (addresses, servers) = (running.addresses()?, running.servers()?);
        if subject != Subject::Floor {
            DATASET.lay(&addresses, &servers)?;
        }
        for cell in cells.iter().filter(|cell| subject.answers(cell.op)) {
            let about = (subject, members);
            let figures = cell.measure(about, &DATASET, &addresses, &servers);
            let figures = figures.with_context(|| format!("{:?}", cell.op))?;
            println!("{figures}");
            self.measured.push(figures);
        }
        Ok(())
    }
}
