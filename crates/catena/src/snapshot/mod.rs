//! Snapshot files, offline: `catena restore`, and `etcdutl snapshot restore|status` when started under the name `etcdutl`.

mod restore;
mod status;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context, Result};
use catena_runtime::{Disk, File, OpenMode, Runtime};
use catena_telemetry::log::{self, Format, LogConfig};
use clap::{Parser, Subcommand};

pub(crate) use restore::Options;

use crate::version;

/// etcdutl's exit code for wrong arguments.
const EXIT_BAD_ARGUMENTS: u8 = 128;

/// etcdutl's exit code for what is not there.
const EXIT_UNSUPPORTED: u8 = 4;

/// An administrative command line utility for snapshot files.
#[derive(Debug, Parser)]
#[command(name = "etcdutl", version = version::own())]
struct Etcdutl {
    /// Output format (fields, json, simple, table)
    #[arg(short, long, global = true, default_value = "simple")]
    write_out: String,

    /// Time to wait for a lock on the file; snapshot files are not locked
    #[arg(long, global = true, hide = true)]
    timeout: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manages snapshot files
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Prints the version
    Version,
}

#[derive(Debug, Subcommand)]
enum SnapshotCommand {
    /// Gets the status of a snapshot file
    Status {
        /// The snapshot file
        file: PathBuf,
    },
    /// Restores a snapshot file to a member's data directory
    Restore(Box<Options>),
}

/// Runs as etcdutl.
pub(crate) fn etcdutl(arguments: &[String]) -> ExitCode {
    let etcdutl = match Etcdutl::try_parse_from(arguments) {
        Ok(etcdutl) => etcdutl,
        Err(error) => {
            // A closed terminal is no reason for another code.
            let _closed = error.print();
            return match error.exit_code() {
                0 => ExitCode::SUCCESS,
                _ if error.kind() == clap::error::ErrorKind::MissingRequiredArgument => {
                    ExitCode::from(EXIT_BAD_ARGUMENTS)
                }
                _ => ExitCode::FAILURE,
            };
        }
    };
    let result = match etcdutl.command {
        Command::Snapshot(SnapshotCommand::Status { file }) => {
            match status::Format::of(&etcdutl.write_out) {
                Some(format) => status::print(&file, format),
                None => {
                    eprintln!(
                        "Error: {} not supported as output format",
                        etcdutl.write_out
                    );
                    return ExitCode::from(EXIT_UNSUPPORTED);
                }
            }
        }
        Command::Snapshot(SnapshotCommand::Restore(options)) => restore_file(&options),
        Command::Version => {
            crate::print(&version::as_etcdutl());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            let bad_arguments = error.is::<restore::BadArguments>();
            ExitCode::from(if bad_arguments { EXIT_BAD_ARGUMENTS } else { 1 })
        }
    }
}

/// `catena restore`.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    restore_file(options)?;
    Ok(ExitCode::SUCCESS)
}

fn restore_file(options: &Options) -> Result<()> {
    log::init(&LogConfig {
        format: Format::Console,
        ..LogConfig::default()
    })?;
    restore::run(options)
}

fn open(path: &std::path::Path) -> Result<Arc<dyn File>> {
    let disk = Runtime::system().disk;
    let file = Disk::open(disk.as_ref(), path, OpenMode::Read);
    file.with_context(|| format!("cannot open {}", path.display()))
}
