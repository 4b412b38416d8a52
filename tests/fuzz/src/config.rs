//! What an operator says: arguments and variables, or a configuration file.
//!
//! An input is text. Its first line says which: `file`, and the rest is the file; else each further line is an argument, or a variable
//! if it begins with `ETCD_`.

use catena::fuzzing::{self, Read};

use crate::{
    memory::{Bound, bounded},
    refused,
};

/// Settings, and texts that are copied into them, into errors and into flags; a YAML document takes much more than its text.
const BOUND: Bound = Bound {
    fixed: 1 << 20,
    per_byte: 4096,
};

/// The first line of an input that is a file.
const FILE: &str = "file";

/// What a variable begins with.
const VARIABLE: &str = "ETCD_";

/// One input.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (kind, rest) = text.split_once('\n').unwrap_or((text, ""));
    bounded(BOUND, input, || match kind {
        FILE => file(rest),
        _ => flags(rest),
    });
}

/// A file is read the same way twice, or refused. Its settings need not be those of flags: etcd checks the two differently.
fn file(contents: &str) {
    match fuzzing::file(contents) {
        Ok(read) => {
            let again = fuzzing::file(contents).expect("it was read before");
            assert_eq!(again.settings, read.settings);
        }
        Err(error) => refused(error),
    }
}

fn flags(text: &str) {
    let is_variable = |line: &&str| line.starts_with(VARIABLE) && line.contains('=');
    let (variables, arguments): (Vec<&str>, Vec<&str>) = text.lines().partition(is_variable);
    let variables: Vec<(String, String)> = variables
        .into_iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect();
    let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
    match fuzzing::flags(&arguments, &variables) {
        Ok(Read { settings, flags }) => {
            let again = fuzzing::flags(&flags, &[]).expect("flags of our own are right");
            assert_eq!(again.settings, settings, "{flags:?}");
        }
        Err(error) => refused(error),
    }
}
