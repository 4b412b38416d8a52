//! The benchmark: the same load on Catena, on two real etcds and on a bare gRPC server, on the same machine in turn.
//!
//! ```text
//! cargo run --release -p catena-benches -- one --op put --clients 64 --target catena --members 1 --seconds 5
//! ```
//!
//! - [`wire`]: a gRPC client that costs a few microseconds a call;
//! - [`load`]: clients, closed and open loops, and what they ask for;
//! - [`subject`]: the servers, as the tests' framework starts them, and the [`floor`];
//! - [`cell`]: one operation by so many clients; [`rounds`]: cells on all subjects in turn;
//! - [`scenario`]: what is no throughput: watchers, memory, maintenance, snapshots;
//! - [`growth`]: the same with a hundred times as much of something: keys, watchers, connections, leases, log;
//! - [`micro`]: what each request pays, piece by piece;
//! - [`services`]: the gateway and the user service beside bare servers;
//! - [`report`]: ratios with their spread, tables and plots.
//!
//! Figures compare only within one run: a machine is twice as fast an hour later. Timings are never asserted.

mod wire;

mod histogram;
mod process;
mod scratch;

mod load;

mod floor;
mod program;
mod subject;

mod cell;
mod machine;
mod report;
mod rounds;
mod scenario;

mod growth;

mod micro;

mod services;

mod command;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::command::{Full, Growth, Micro, One, Quick, Scenarios, Services};
use crate::scratch::Scratch;

/// What to run.
#[derive(Debug, Parser)]
#[command(about = "The same load on Catena, on real etcds and on a bare gRPC server, side by side")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All of it: about 40 minutes; the report goes to benches/results.
    Full(Full),
    /// The working tree beside the commit before it, in under three minutes once both are built.
    Quick(Quick),
    /// One operation against one subject.
    One(One),
    /// Scenarios of one store: watchers, a Kubernetes-shaped mix, a long history, a snapshot.
    Scenarios(Scenarios),
    /// How the stores grow: many keys, watchers, connections, leases, large values, a long log, a member far behind.
    Growth(Growth),
    /// What each request pays, piece by piece: log, apply, key index, event hub, encoding.
    Micro(Micro),
    /// The gateway and the user service beside bare axum and tonic with the same query: about two minutes.
    Services(Services),
    /// Serves as one of the two; `services` starts it.
    #[command(hide = true)]
    ServicesSubject {
        /// Which.
        role: services::Role,
        /// The URL of the database.
        database: String,
    },
    /// Serves fixed answers; the other commands start it.
    #[command(hide = true)]
    Floor,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Of those that another command starts, that one ends and removes what is left.
    let hidden = matches!(
        arguments.command,
        Command::Floor | Command::ServicesSubject { .. }
    );
    let _scratch = (!hidden).then(Scratch::new).transpose()?;
    match arguments.command {
        Command::Full(full) => full.run(),
        Command::Quick(quick) => quick.run(),
        Command::One(one) => one.run(),
        Command::Scenarios(scenarios) => scenarios.run(),
        Command::Growth(growth) => growth.run(),
        Command::Micro(micro) => micro.run(),
        Command::Services(services) => services.run(),
        Command::ServicesSubject { role, database } => services::serve(role, &database),
        Command::Floor => floor::serve(),
    }
}
