//! The one binary of Catena: its sub-commands wire the crates together.
//!
//! Started under the name `etcd` it is `catena server`, started under the name `etcdutl` it is the tool for snapshot files, so that
//! a script, a unit file or an operator that runs those runs Catena unchanged.
//!
//! It is a library only so that its settings can be fuzzed (`tests/fuzz`).

mod advice;
mod bootstrap;
mod config;
mod ctl;
mod dev;
mod doctor;
#[cfg(fuzzing)]
pub mod fuzzing;
mod help;
mod man;
mod member;
mod notify;
mod run;
mod shutdown;
mod snapshot;
mod up;
mod version;

use std::{io::Write, path::Path, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

/// A store that etcd's clients and tools cannot tell from etcd, and the services that find one another through it.
#[derive(Debug, Parser)]
#[command(name = "catena", version = version::own())]
struct Catena {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one member, with etcd's flags (see `catena server --help`)
    Server,
    /// Run a whole cluster on this machine
    Up(up::Options),
    /// Run a store, the user service and the gateway on temporary data
    Dev(dev::Options),
    /// Run services: the user service, the gateway, or both
    ///
    /// Each registers in a store, or finds the others through it: a Catena cluster or a real etcd at --endpoints, or, with
    /// --registry embedded, a member that this process carries. That one takes all flags of `catena server` besides those listed here.
    ///
    /// Flags win over variables, variables over the file, the file over defaults; `catena config explain` shows what holds. A
    /// variable is CATENA_ and the flag in capitals, - as _: CATENA_USER_LISTEN. In a file, user-listen is listen in the table `[user]`.
    #[command(after_help = run::EXAMPLES)]
    Run(run::Options),
    /// Show what services would be told
    #[command(subcommand)]
    Config(run::explain::Config),
    /// Ask the registry, and tell it
    Ctl(ctl::Options),
    /// Look whether machine and store are fit for what `catena run` would start with the same words
    ///
    /// Checks configuration, ports, the limit of open files, how long the disk takes to make a write safe, whether every endpoint of the
    /// store answers, its quorum, and how far its clocks are from this one; says what to do about each. Exit code 1 if something cannot
    /// work.
    Doctor(run::Options),
    /// Print a shell's completions: `source <(catena completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for every command into a directory
    Man(man::Options),
    /// Make a member's data directory from a snapshot file
    Restore(snapshot::Options),
    /// Print the version
    Version,
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    // Before there is a task or a thread: see the release profile.
    catena_telemetry::panic::install_hook();
    let arguments: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let (program, rest) = arguments
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first, rest));
    let name = Path::new(program)
        .file_name()
        .and_then(|name| name.to_str());
    match (name, rest.first().map(String::as_str)) {
        (Some("etcd"), _) => member::main(rest),
        (Some("etcdutl"), _) => snapshot::etcdutl(&arguments),
        // etcd's flags are not clap's: see `config`.
        (_, Some("server")) => member::main(&rest[1..]),
        (_, Some("config")) if is_server(&rest[1..]) => told(run::explain::server(&rest[3..])),
        _ => own(&arguments),
    }
}

fn own(arguments: &[String]) -> ExitCode {
    let result = match Catena::parse_from(arguments).command {
        Command::Server => unreachable!("handled before"),
        Command::Up(options) => up::main(options),
        Command::Dev(options) => dev::main(options),
        Command::Run(options) => run::main(&options),
        Command::Config(options) => run::explain::main(&options),
        Command::Ctl(options) => ctl::run(options),
        Command::Doctor(options) => doctor::main(options),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Catena::command(), "catena", &mut text);
            print(String::from_utf8_lossy(&text).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man(options) => man::main(&options),
        Command::Restore(options) => snapshot::main(&options),
        Command::Version => {
            print(&format!("catena {}", version::own()));
            Ok(ExitCode::SUCCESS)
        }
    };
    told(result)
}

/// Whether `catena config` is asked about the server, whose flags are not clap's either.
fn is_server(arguments: &[String]) -> bool {
    matches!(arguments, [explain, server, ..] if explain == "explain" && server == "server")
}

fn told(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("catena: {error:#}");
        ExitCode::FAILURE
    })
}

/// Prints to stdout; a reader that went away is no reason to stop what is running.
fn print(text: &str) {
    let _reader_gone = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_no_contradictions() {
        Catena::command().debug_assert();
    }
}
