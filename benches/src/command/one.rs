//! One cell, to try something or to hold a profiler to.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::runtime::Runtime;

use crate::{
    cell::Cell,
    load::{Dataset, Keys, Op, Pace, connections},
    subject::Subject,
};

/// One cell.
#[derive(Args, Debug)]
pub(crate) struct One {
    /// The operation.
    #[arg(long)]
    op: Op,
    /// How many clients ask.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// Over how many connections; without it, as many as in the table.
    #[arg(long)]
    connections: Option<usize>,
    /// Whose servers answer.
    #[arg(long, default_value = "catena")]
    target: Subject,
    /// How many servers.
    #[arg(long, default_value_t = 1)]
    members: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long to warm up before.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Requests a second by a timetable; without it, each client asks again when it is answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Keys that the servers hold.
    #[arg(long, default_value_t = 10_000)]
    keys: usize,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    value_bytes: usize,
    /// A server program in place of the one that would be built or fetched.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

impl One {
    /// Measures the cell on a new cluster and prints its figures.
    pub(crate) fn run(self) -> Result<()> {
        ensure!(
            self.target.answers(self.op),
            "the floor has no answer for it"
        );
        let runtime = Runtime::new()?;
        let program = self
            .program
            .map_or_else(|| self.target.program(), |program| Ok(Some(program)))?;
        let running = runtime.block_on(self.target.start(self.members, program))?;
        let (addresses, servers) = (running.addresses()?, running.servers()?);
        let dataset = Dataset {
            keys: Keys {
                prefix: "bench/",
                count: self.keys,
            },
            value_bytes: self.value_bytes,
        };
        if self.target != Subject::Floor {
            let laid = dataset.lay(&addresses, &servers);
            laid.context("laying down the keys")?;
        }
        let cell = Cell {
            op: self.op,
            clients: self.clients,
            connections: self.connections.unwrap_or(connections(self.clients)),
            pace: self
                .rate
                .map_or(Pace::Closed, |per_sec| Pace::Open { per_sec }),
            warm_up: Duration::from_secs_f64(self.warm_up_seconds),
            length: Duration::from_secs_f64(self.seconds),
        };
        eprintln!("{} of {servers}", self.target.title());
        let about = (self.target, self.members);
        let figures = cell.measure(about, &dataset, &addresses, &servers)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&figures)?);
        } else {
            println!("{figures}");
        }
        Ok(())
    }
}
