//! The help text of the server, written from the table of flags.

use std::fmt::Write;

use crate::config::flags::{TOPICS, Treatment};

/// What `--help` prints.
pub(crate) fn text() -> String {
    let mut text = String::from(
        "Usage:

  catena server [flags]
    Start a member. Started under the name etcd, the program does the same without the word `server`.

  catena server --version
    Show the version.

  catena server -h | --help
    Show this text.

  catena server --config-file
    Path to the configuration file. If there is one, other command line flags and environment variables are ignored.
    Durations in it are whole numbers of nanoseconds.

Each flag can be set by a variable too: ETCD_ and its name in capitals, - as _.
",
    );
    for topic in TOPICS {
        line(&mut text, format_args!("\n{}:", topic.title));
        for flag in topic.flags {
            line(
                &mut text,
                format_args!("  --{} '{}'", flag.name, flag.default),
            );
            line(
                &mut text,
                format_args!("    {}{}", flag.about, remark(flag.treatment)),
            );
        }
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes all that is written");
}

fn remark(treatment: Treatment) -> String {
    match treatment {
        Treatment::Tuning(why) => format!(" (Without effect: {why}.)"),
        Treatment::Refused(why) => format!(" (Refused: {why}.)"),
        Treatment::Built | Treatment::Renamed(_) | Treatment::Gate(_) | Treatment::Gone => {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_current_flag_is_explained() {
        let text = text();
        for flag in TOPICS.iter().flat_map(|topic| topic.flags) {
            assert!(
                text.contains(&format!("\n  --{} '", flag.name)),
                "{}",
                flag.name
            );
            assert!(flag.about.ends_with('.'), "{}", flag.name);
        }
    }
}
