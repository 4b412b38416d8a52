//! The command line of `catena run` and `catena config explain`, made from the tables of keys and of etcd's flags.

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

use super::keys::{KEYS, Key};
use crate::config::{
    Kind,
    flags::{self, Flag},
};

/// etcd's flags that concern its command line alone.
const NOT_FOR_MEMBERS: [&str; 2] = ["config-file", "version"];

/// What was given on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Settings of services.
    pub(crate) own: Vec<(&'static Key, String)>,
    /// Settings of the member that the process carries.
    pub(crate) member: Vec<(&'static Flag, String)>,
}

/// What `catena run` can be told.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct Options {
    /// user, gateway, or both; and a TOML file with settings, whose key `services` may name them instead
    #[arg(value_name = "SERVICE|FILE.toml")]
    pub(crate) what: Vec<String>,

    #[command(flatten)]
    pub(crate) given: Given,
}

/// The flags of the member: those that no setting of the services has taken.
pub(crate) fn of_members() -> impl Iterator<Item = &'static Flag> {
    flags::all().filter(|flag| {
        let taken = KEYS.iter().any(|key| key.flag == flag.name);
        !taken && !NOT_FOR_MEMBERS.contains(&flag.name)
    })
}

impl clap::FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let text = |id: &str| {
            let from_user = matches.value_source(id) == Some(ValueSource::CommandLine);
            let text = matches.get_one::<String>(id).filter(|_| from_user);
            text.cloned()
        };
        let own = KEYS.iter();
        self.own = own.filter_map(|key| Some((key, text(key.flag)?))).collect();
        self.member = of_members()
            .filter_map(|flag| Some((flag, text(flag.name)?)))
            .collect();
        Ok(())
    }
}

impl clap::Args for Given {
    fn augment_args(command: Command) -> Command {
        let own = KEYS.iter().map(|key| {
            // The default is told, but not given: what is given has a place that it comes from.
            let help = match key.default {
                "" => key.about.to_owned(),
                default => format!("{} [default: {default}]", key.about),
            };
            argument(key.flag, key.kind)
                .value_name(key.value)
                .help(help)
                .help_heading(key.topic)
        });
        let member = of_members().map(|flag| argument(flag.name, flag.kind).hide(true));
        command.args(own).args(member)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A flag with a value; a boolean one may stand alone.
fn argument(name: &'static str, kind: Kind) -> Arg {
    let argument = Arg::new(name).long(name).action(ArgAction::Set);
    match kind.is_bare() {
        true => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        false => argument.overrides_with(name),
    }
}
