//! How a member is told what to do: etcd's flags, `ETCD_*` variables and configuration file, to the letter.
//!
//! ```text
//! arguments ─ parse ─┐
//! environment ─ parse┼─► Values ─ validate ─► Settings { ServerConfig, LogConfig, notices }
//! file ─ config_file ┘      ▲
//!                           └ flags: the table of all flags, their kinds, defaults and treatments
//! ```
//!
//! A configuration file excludes all other flags and variables. A variable beside its flag is an error. What is worth a line in the
//! log is collected as [`Notice`]s, since logging itself is set up from the settings.

mod config_file;
pub(crate) mod flags;
mod gates;
mod host;
mod notice;
mod parse;
mod settings;
mod syntax;
mod validate;
mod values;

pub(crate) use notice::Notice;
pub(crate) use settings::Settings;
pub(crate) use syntax::cluster_of;
#[cfg(fuzzing)]
pub(crate) use values::Values;

use parse::{CommandLine, Wish};

/// What came of reading the command line.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Start a member.
    Run(Box<Settings>),
    /// Print the help text.
    Help,
    /// Print the version.
    Version,
}

/// Why no member is started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line cannot be read: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// It can be read, but not followed: exit code 1.
    #[error("{0}")]
    Settings(String),
}

/// Reads all that tells a member what to do.
pub(crate) fn read(arguments: &[String]) -> Result<Asked, Error> {
    let CommandLine {
        wish,
        mut values,
        stray,
    } = parse::command_line(arguments).map_err(Error::Usage)?;
    match (wish, stray) {
        (Wish::Help, _) => return Ok(Asked::Help),
        (_, Some(stray)) => {
            return Err(Error::Settings(format!("\"{stray}\" is not a valid flag")));
        }
        (Wish::Version, None) => return Ok(Asked::Version),
        (Wish::Run, None) => {}
    }
    let variable = |name: &str| std::env::var(name).ok();
    match parse::config_file(&values, variable) {
        Some(path) => values = from_file(&path).map_err(Error::Settings)?,
        None => {
            // A name or value that is no UTF-8 cannot be one of ours.
            let variables = std::env::vars_os().filter_map(|(name, text)| {
                Some((name.into_string().ok()?, text.into_string().ok()?))
            });
            parse::environment(&mut values, variables).map_err(Error::Settings)?;
        }
    }
    let settings = settings::settings(values).map_err(Error::Settings)?;
    Ok(Asked::Run(Box::new(settings)))
}

/// Settings from flags alone, for members that another part of this program starts.
pub(crate) fn of_flags(flags: &[String]) -> Result<Settings, Error> {
    let line = parse::command_line(flags).map_err(Error::Usage)?;
    settings::settings(line.values).map_err(Error::Settings)
}

/// Values from arguments and variables.
#[cfg(fuzzing)]
pub(crate) fn of_arguments(
    arguments: &[String],
    variables: &[(String, String)],
) -> Result<Values, Error> {
    let mut values = parse::command_line(arguments).map_err(Error::Usage)?.values;
    parse::environment(&mut values, variables.iter().cloned()).map_err(Error::Settings)?;
    Ok(values)
}

/// Values from the contents of a configuration file.
#[cfg(fuzzing)]
pub(crate) fn of_contents(contents: &str) -> Result<Values, Error> {
    config_file::read(contents).map_err(Error::Settings)
}

/// Settings from values.
#[cfg(fuzzing)]
pub(crate) fn of_values(values: Values) -> Result<Settings, Error> {
    settings::settings(values).map_err(Error::Settings)
}

fn from_file(path: &str) -> Result<values::Values, String> {
    let contents =
        std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let mut values = config_file::read(&contents).map_err(|error| format!("{path}: {error}"))?;
    values.notices.push(Notice::ConfigFile {
        path: path.to_owned(),
    });
    Ok(values)
}
