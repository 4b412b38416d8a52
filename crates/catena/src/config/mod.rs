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
pub(crate) mod syntax;
mod validate;
mod values;

pub(crate) use host::of_default_route;
pub(crate) use notice::Notice;
pub(crate) use parse::flag_of as flag_of_variable;
pub(crate) use settings::Settings;
pub(crate) use syntax::{Kind, cluster_of};
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
    Ok(match gather(arguments)? {
        Gathered::Values(values) => {
            let settings = settings::settings(values).map_err(Error::Settings)?;
            Asked::Run(Box::new(settings))
        }
        Gathered::Help => Asked::Help,
        Gathered::Version => Asked::Version,
    })
}

/// What stands on the command line and where it points to, not yet checked as a whole.
#[derive(Debug)]
pub(crate) enum Gathered {
    Values(Values),
    Help,
    Version,
}

/// Reads command line, environment and file.
pub(crate) fn gather(arguments: &[String]) -> Result<Gathered, Error> {
    let CommandLine {
        wish,
        mut values,
        stray,
    } = parse::command_line(arguments).map_err(Error::Usage)?;
    match (wish, stray) {
        (Wish::Help, _) => return Ok(Gathered::Help),
        (_, Some(stray)) => {
            return Err(Error::Settings(format!("\"{stray}\" is not a valid flag")));
        }
        (Wish::Version, None) => return Ok(Gathered::Version),
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
    Ok(Gathered::Values(values))
}

/// A value for a flag, and the place that it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub(crate) flag: &'static flags::Flag,
    pub(crate) text: String,
    pub(crate) origin: String,
}

/// Settings from values of any origin, of which the last one for a flag wins.
pub(crate) fn of_layers(layers: &[Layer]) -> Result<Settings, Error> {
    let mut values = Values::default();
    for Layer { flag, text, origin } in layers {
        let set = values.set(flag, text, origin);
        set.map_err(|error| {
            Error::Settings(format!("invalid value \"{text}\" of {origin}: {error}"))
        })?;
    }
    settings::settings(values).map_err(Error::Settings)
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
