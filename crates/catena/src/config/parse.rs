//! The command line and the environment, as Go's `flag` package and etcd read them.

use super::{flags, notice::Notice, syntax::Kind, values::Values};

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    Help,
    Version,
}

/// A command line that was read to its end.
#[derive(Debug)]
pub(crate) struct CommandLine {
    pub(crate) wish: Wish,
    pub(crate) values: Values,
    /// The first argument that is no flag.
    pub(crate) stray: Option<String>,
}

/// Reads the arguments after the program's name. An error means exit code 2.
pub(crate) fn command_line(arguments: &[String]) -> Result<CommandLine, String> {
    let mut values = Values::default();
    let mut arguments = arguments.iter();
    let mut stray = None;
    while let Some(argument) = arguments.next() {
        let Some(name) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            stray = Some(argument.clone());
            break;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() {
            // `--` ends the flags.
            stray = arguments.next().cloned();
            break;
        }
        if name.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {argument}"));
        }
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (name, None),
        };
        if matches!(name, "h" | "help") {
            return Ok(CommandLine {
                wish: Wish::Help,
                values,
                stray,
            });
        }
        let flag = flags::find(name).ok_or_else(|| unknown(name))?;
        let value = match value {
            Some(value) => value,
            None if flag.kind.is_bare() => "true",
            None => arguments
                .next()
                .ok_or_else(|| format!("flag needs an argument: -{name}"))?,
        };
        values
            .set(flag, value, &format!("--{name}"))
            .map_err(|error| wrong_value(flag, value, &error))?;
    }
    let wish = match values.bool("version") && stray.is_none() {
        true => Wish::Version,
        false => Wish::Run,
    };
    Ok(CommandLine {
        wish,
        values,
        stray,
    })
}

fn unknown(name: &str) -> String {
    match flags::nearest(name) {
        Some(nearest) => {
            format!("flag provided but not defined: -{name} (did you mean --{nearest}?)")
        }
        None => format!("flag provided but not defined: -{name}"),
    }
}

fn wrong_value(flag: &flags::Flag, value: &str, error: &str) -> String {
    let name = flag.name;
    match flag.kind {
        Kind::Bool => format!("invalid boolean value \"{value}\" for -{name}: {error}"),
        _ => format!("invalid value \"{value}\" for flag -{name}: {error}"),
    }
}

/// What every variable of ours begins with.
const PREFIX: &str = "ETCD_";

/// The flag that a variable sets.
pub(crate) fn flag_of(variable: &str) -> Option<&'static flags::Flag> {
    let rest = variable.strip_prefix(PREFIX)?;
    if rest.contains(|c: char| c.is_ascii_lowercase() || c == '-') {
        return None;
    }
    flags::find(&rest.to_ascii_lowercase().replace('_', "-"))
}

/// Adds what the environment says to what the command line said. The error is etcd's.
pub(crate) fn environment(
    values: &mut Values,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<(), String> {
    let mut variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, text)| name.starts_with(PREFIX) && !text.is_empty())
        .collect();
    variables.sort();
    for (variable, _) in &variables {
        let shadowed = flag_of(variable).is_some_and(|flag| values.is_set(current_name(flag)));
        if shadowed && variable != "ETCD_VERSION" {
            return Err(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag): {variable}"
            ));
        }
    }
    for (variable, text) in variables {
        match flag_of(&variable).filter(|flag| flag.name != "version") {
            Some(flag) => {
                values
                    .set(flag, &text, &variable)
                    .map_err(|error| format!("invalid value \"{text}\" for {variable}: {error}"))?;
                values.notices.push(Notice::VariableUsed { variable });
            }
            None => values.notices.push(Notice::VariableUnknown { variable }),
        }
    }
    Ok(())
}

/// The name that a flag's value is kept under.
fn current_name(flag: &flags::Flag) -> &'static str {
    match flag.treatment {
        flags::Treatment::Renamed(name) => name,
        _ => flag.name,
    }
}

/// The configuration file that the command line or the environment names.
pub(crate) fn config_file(
    values: &Values,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let given = match values.text("config-file") {
        "" => variable("ETCD_CONFIG_FILE").unwrap_or_default(),
        path => path.to_owned(),
    };
    Some(given).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<CommandLine, String> {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        command_line(&arguments)
    }

    fn values(arguments: &[&str]) -> Values {
        read(arguments).unwrap().values
    }

    fn with_environment(arguments: &[&str], pairs: &[(&str, &str)]) -> Result<Values, String> {
        let mut values = values(arguments);
        let pairs = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        environment(&mut values, pairs)?;
        Ok(values)
    }

    #[test]
    fn one_and_two_dashes_and_both_ways_to_give_a_value_are_equal() {
        for arguments in [
            &["-name", "a"][..],
            &["--name", "a"],
            &["-name=a"],
            &["--name=a"],
            &["--name=b", "--name", "a"],
        ] {
            assert_eq!(values(arguments).text("name"), "a", "{arguments:?}");
        }
        // The value may look like a flag.
        assert_eq!(values(&["--name", "--data-dir"]).text("name"), "--data-dir");
        assert_eq!(values(&["--name="]).text("name"), "");
    }

    #[test]
    fn a_boolean_takes_no_argument_of_its_own() {
        assert!(values(&["--force-new-cluster"]).bool("force-new-cluster"));
        assert!(!values(&["--pre-vote=false"]).bool("pre-vote"));
        let line = read(&["--pre-vote", "false"]).unwrap();
        assert_eq!(line.stray.as_deref(), Some("false"));
        assert_eq!(
            read(&["--pre-vote=x"]).unwrap_err(),
            "invalid boolean value \"x\" for -pre-vote: parse error"
        );
    }

    #[test]
    fn wrong_command_lines_get_gos_words() {
        for (arguments, error) in [
            (&["--name"][..], "flag needs an argument: -name"),
            (&["---x"], "bad flag syntax: ---x"),
            (&["--=x"], "bad flag syntax: --=x"),
            (
                &["--frobnicate-it"],
                "flag provided but not defined: -frobnicate-it",
            ),
            (
                &["--nme", "x"],
                "flag provided but not defined: -nme (did you mean --name?)",
            ),
            (
                &["--heartbeat-interval", "abc"],
                "invalid value \"abc\" for flag -heartbeat-interval: parse error",
            ),
            (
                &["--initial-cluster-state", "foo"],
                "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
            ),
            (
                &["--listen-peer-urls", "foo"],
                "invalid value \"foo\" for flag -listen-peer-urls: URL scheme must be http, https, unix, or unixs: foo",
            ),
            (
                &["--max-concurrent-streams", "4294967296"],
                "invalid value \"4294967296\" for flag -max-concurrent-streams: value out of range",
            ),
        ] {
            assert_eq!(read(arguments).unwrap_err(), error, "{arguments:?}");
        }
    }

    #[test]
    fn help_and_version_end_the_reading() {
        assert_eq!(read(&["-h"]).unwrap().wish, Wish::Help);
        assert_eq!(
            read(&["--name", "a", "--help", "--nme"]).unwrap().wish,
            Wish::Help
        );
        assert!(read(&["--nme", "--help"]).is_err());
        assert_eq!(read(&["--version"]).unwrap().wish, Wish::Version);
        assert_eq!(
            read(&["--version", "x"]).unwrap().stray.as_deref(),
            Some("x")
        );
        assert_eq!(read(&["--", "x"]).unwrap().stray.as_deref(), Some("x"));
        assert_eq!(read(&["-"]).unwrap().stray.as_deref(), Some("-"));
    }

    #[test]
    fn old_names_set_the_current_flag_and_say_so() {
        let values = values(&[
            "--experimental-compaction-batch-limit=5",
            "--v",
            "--enable-v2",
        ]);
        assert_eq!(values.int("compaction-batch-limit"), 5);
        assert_eq!(
            values.notices,
            [
                Notice::Renamed {
                    flag: "experimental-compaction-batch-limit",
                    now: "--compaction-batch-limit".to_owned()
                },
                Notice::Gone { flag: "v" },
                Notice::Gone { flag: "enable-v2" },
            ]
        );
    }

    #[test]
    fn variables_set_flags_unless_empty() {
        let values = with_environment(
            &[],
            &[
                ("ETCD_NAME", "a"),
                ("ETCD_DATA_DIR", ""),
                ("PATH", "/bin"),
                ("ETCD_X_Y", "1"),
            ],
        )
        .unwrap();
        assert_eq!(values.text("name"), "a");
        assert!(!values.is_set("data-dir"));
        let unknown = Notice::VariableUnknown {
            variable: "ETCD_X_Y".to_owned(),
        };
        let used = Notice::VariableUsed {
            variable: "ETCD_NAME".to_owned(),
        };
        assert_eq!(values.notices, [used, unknown]);
    }

    #[test]
    fn a_variable_beside_its_flag_is_refused() {
        let error = with_environment(&["--name", "a"], &[("ETCD_NAME", "a")]).unwrap_err();
        assert!(
            error.starts_with("conflicting environment variable is shadowed"),
            "{error}"
        );
        assert!(error.ends_with("ETCD_NAME"), "{error}");
        // By an earlier name too.
        let old = ["--experimental-corrupt-check-time", "0s"];
        assert!(with_environment(&old, &[("ETCD_CORRUPT_CHECK_TIME", "0s")]).is_err());
    }

    #[test]
    fn a_wrong_variable_is_named() {
        assert_eq!(
            with_environment(&[], &[("ETCD_HEARTBEAT_INTERVAL", "y")]).unwrap_err(),
            "invalid value \"y\" for ETCD_HEARTBEAT_INTERVAL: parse error"
        );
    }

    #[test]
    fn the_variable_for_the_version_is_ignored() {
        let values = with_environment(&[], &[("ETCD_VERSION", "v3.5.0")]).unwrap();
        assert!(!values.bool("version"));
        assert_eq!(values.notices.len(), 1);
    }

    #[test]
    fn the_configuration_file_is_named_by_flag_or_variable() {
        let none = |_: &str| None;
        let variable = |_: &str| Some("/etc/etcd.yml".to_owned());
        assert_eq!(config_file(&values(&[]), none), None);
        assert_eq!(
            config_file(&values(&[]), variable).as_deref(),
            Some("/etc/etcd.yml")
        );
        let given = values(&["--config-file", "a.yml"]);
        assert_eq!(config_file(&given, variable).as_deref(), Some("a.yml"));
    }
}
