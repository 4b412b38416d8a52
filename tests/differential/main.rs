//! The same random steps on Catena and on the real etcd 3.7.1, answer by answer.
//!
//! ```text
//! cargo test -p catena-tests --test differential                                      20,000 steps of a new seed
//! cargo test -p catena-tests --test differential -- --ops 200000 --seed 7             more steps, of a known seed
//! cargo test -p catena-tests --test differential -- --ops 900 --seed 7 --only 3,17    these of them alone
//! cargo test -p catena-tests --test differential -- --subject etcd                    etcd beside itself: proves the comparison
//! cargo test -p catena-tests --test differential -- --subject etcd-3.5                which differs: proves that it is seen
//! ```
//!
//! A difference is shrunk and printed as a script of steps, with the command that repeats it.

mod generate;
mod operation;
mod render;
mod run;
mod shrink;
mod side;
mod watches;

use std::{env, process::ExitCode};

use anyhow::{Context, Result, bail};
use framework::{
    Target, leave_out,
    peers::{Missing, Release},
};
use run::Difference;
use tokio::runtime;

const OPS: usize = 20_000;

struct Settings {
    ops: usize,
    seed: u64,
    only: Option<Vec<usize>>,
    subject: Target,
    list: bool,
}

fn main() -> Result<ExitCode> {
    let settings = Settings::read(env::args().skip(1))?;
    if settings.list {
        println!("differential: test");
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match runtime.block_on(compare(&settings)) {
        Ok(code) => Ok(code),
        Err(error) => {
            let missing = error.downcast::<Missing>()?;
            leave_out("differential", &missing)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn compare(settings: &Settings) -> Result<ExitCode> {
    let Settings {
        ops, seed, subject, ..
    } = *settings;
    let reference = Target::Etcd(Release::V37);
    println!("{subject} beside {reference}: {ops} steps of seed {seed}");
    let operations = generate::operations(seed, ops);
    let kept = settings.only.clone().unwrap_or_else(|| (0..ops).collect());
    let steps: Vec<_> = kept
        .iter()
        .filter_map(|place| operations.get(*place).cloned())
        .collect();
    let Some(difference) = run::run(reference, subject, &steps).await? else {
        println!("no difference");
        return Ok(ExitCode::SUCCESS);
    };
    println!(
        "they differ at step {}:\n{}\nshrinking",
        difference.place, difference.text
    );
    let (kept, difference) =
        shrink::shrink(reference, subject, &operations, kept, difference).await?;
    print(settings, &kept, &difference);
    Ok(ExitCode::FAILURE)
}

fn print(settings: &Settings, kept: &[usize], difference: &Difference) {
    for step in &difference.steps {
        println!("{}", terse(&format!("{step:?}")));
    }
    println!("{}", difference.text);
    let only = kept
        .iter()
        .map(usize::to_string)
        .collect::<Vec<_>>()
        .join(",");
    let (ops, seed) = (settings.ops, settings.seed);
    println!(
        "again: cargo test -p catena-tests --test differential -- --ops {ops} --seed {seed} --only {only}"
    );
}

/// Leaves out fields that have their default value, as far as a reader would trip over them.
fn terse(step: &str) -> String {
    const DEFAULTS: [&str; 21] = [
        ", range_end: b\"\"",
        ", limit: 0",
        ", revision: 0",
        ", sort_order: None",
        ", sort_target: Key",
        ", serializable: false",
        ", keys_only: false",
        ", count_only: false",
        ", min_mod_revision: 0",
        ", max_mod_revision: 0",
        ", min_create_revision: 0",
        ", max_create_revision: 0",
        ", lease: 0",
        ", prev_kv: false",
        ", ignore_value: false",
        ", ignore_lease: false",
        ", start_revision: 0",
        ", progress_notify: false",
        ", filters: []",
        ", watch_id: 0",
        ", fragment: false",
    ];
    DEFAULTS
        .iter()
        .fold(step.to_owned(), |step, default| step.replace(default, ""))
}

impl Settings {
    /// Reads the arguments; those of cargo's own harness that change nothing here are passed over.
    fn read(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut settings = Self {
            ops: OPS,
            seed: rand::random(),
            only: None,
            subject: Target::Catena,
            list: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
            match arg.as_str() {
                "--ops" => settings.ops = value()?.parse()?,
                "--seed" => settings.seed = value()?.parse()?,
                "--only" => {
                    let places = value()?;
                    settings.only = Some(
                        places
                            .split(',')
                            .map(str::parse)
                            .collect::<Result<_, _>>()?,
                    );
                }
                "--subject" => {
                    settings.subject = match value()?.as_str() {
                        "etcd" => Target::Etcd(Release::V37),
                        "etcd-3.5" => Target::Etcd(Release::V35),
                        "catena" => Target::Catena,
                        other => bail!("no such subject: {other}"),
                    };
                }
                "--list" => settings.list = true,
                _ => {}
            }
        }
        Ok(settings)
    }
}
