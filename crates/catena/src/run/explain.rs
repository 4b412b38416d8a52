//! `catena config explain`: every setting, its value, and where that comes from.

use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};

use super::{
    flags::Options,
    live,
    report::table,
    settings::{Settings, StoreSettings},
    store::Store,
};
use crate::config::{self, Gathered, flags};

/// What `catena config` can be told.
#[derive(clap::Subcommand, Clone, Debug)]
pub(crate) enum Config {
    /// Show every setting of `catena run` as given here, its value, and where that comes from
    ///
    /// Takes the arguments of `catena run`, and shows what a process started with them would be told. `catena config explain server`
    /// does the same for `catena server` and etcd's flags.
    Explain {
        #[command(flatten)]
        options: Options,
        /// Ask the store too: what documents say that such a process would follow
        #[arg(long)]
        live: bool,
    },
}

/// Prints the table. Settings that cannot be followed are an error, after the table.
pub(crate) fn main(config: &Config) -> Result<ExitCode> {
    let Config::Explain { options, live } = config;
    let mut values = super::gather(options)?;
    let (mut rows, mut refused) = (values.explain(), Vec::new());
    if *live {
        values.name_services();
        let said = said(values.settings()?)?;
        for row in &mut rows {
            if let Some(document) = said.rows.iter().find(|[name, ..]| *name == row[0]) {
                row.clone_from(document);
            }
        }
        refused = said.refused;
    }
    crate::print(table(&headed(rows)).trim_end());
    for line in refused {
        crate::print(&line);
    }
    // Which services are to run is no question of this command.
    match options.what.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => values.settings().map(|_settings| ExitCode::SUCCESS),
    }
}

/// What documents say to processes with these settings.
#[tokio::main(flavor = "current_thread")]
async fn said(settings: Settings) -> Result<live::Said> {
    if matches!(settings.store, StoreSettings::Embedded(_)) {
        bail!(
            "the store is in the process itself: say --registry etcd, and with --endpoints where that process serves it"
        );
    }
    let (store, kv) = Store::open(settings.store.clone()).await?;
    live::said(kv, &settings, &store.place()).await
}

/// The same for `catena server`, whose command line is etcd's.
pub(crate) fn server(arguments: &[String]) -> Result<ExitCode> {
    let values = match config::gather(arguments).map_err(|error| anyhow!("{error}"))? {
        Gathered::Values(values) => values,
        Gathered::Help | Gathered::Version => {
            crate::print(
                "catena config explain server takes the flags of `catena server`, and shows them all.",
            );
            return Ok(ExitCode::SUCCESS);
        }
    };
    let rows = flags::all().filter(|flag| flag.is_current()).map(|flag| {
        let origin = values.origin(flag.name).unwrap_or("default");
        [flag.name, values.text(flag.name), origin].map(str::to_owned)
    });
    crate::print(table(&headed(rows.collect())).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// With a head, and with something to see where a value is empty.
fn headed(mut rows: Vec<[String; 3]>) -> Vec<[String; 3]> {
    for [_, value, _] in &mut rows {
        if value.is_empty() {
            "\"\"".clone_into(value);
        }
    }
    rows.insert(0, ["SETTING", "VALUE", "FROM"].map(str::to_owned));
    rows
}
