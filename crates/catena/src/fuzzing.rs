//! Doors for the fuzzers in `tests/fuzz`; in no other build.

use crate::config::{self, Error};

/// What a member would be started with, as text; and flags that say the same.
#[derive(Debug)]
pub struct Read {
    /// The settings.
    pub settings: String,
    /// The flags.
    pub flags: Vec<String>,
}

/// Reads arguments and variables.
pub fn flags(arguments: &[String], variables: &[(String, String)]) -> Result<Read, String> {
    read(config::of_arguments(arguments, variables))
}

/// Reads the contents of a configuration file.
pub fn file(contents: &str) -> Result<Read, String> {
    read(config::of_contents(contents))
}

fn read(values: Result<config::Values, Error>) -> Result<Read, String> {
    let values = values.map_err(|error| error.to_string())?;
    let flags = values.as_flags();
    let settings = config::of_values(values).map_err(|error| error.to_string())?;
    Ok(Read {
        settings: format!("{:?} {:?}", settings.server, settings.log),
        flags,
    })
}
