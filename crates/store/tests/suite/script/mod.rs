//! Commands of the scripts.

mod cluster;
mod engine;
mod kv;
mod lease;
mod parse;
mod watch;

use std::{collections::BTreeMap, error::Error};

use catena_api::etcd::etcdserverpb as pb;
use catena_store::{LeaseFeed, Options, Request, WatchStream};
use goldenscript::{ArgumentConsumer, Command, Context};

use crate::{format, world::World};

type Outcome = Result<String, Box<dyn Error>>;

pub(crate) struct Script {
    world: World,
    streams: BTreeMap<String, WatchStream>,
    /// Transactions by name, to be nested.
    defined: BTreeMap<String, pb::TxnRequest>,
    feed: LeaseFeed,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self::with(Options {
            compaction_batch_limit: 2,
            history_bytes: 1000,
            inbox_bytes: 1000,
            ..Options::default()
        })
    }

    fn with(options: Options) -> Self {
        let world = World::new(options);
        Self {
            feed: world.reader().lease_feed(),
            world,
            streams: BTreeMap::new(),
            defined: BTreeMap::new(),
        }
    }

    fn apply(&mut self, request: Request) -> Outcome {
        let outcome = self.world.apply_all(vec![request], None).remove(0);
        let response = outcome.result?;
        Ok(format!(
            "{}: {}",
            outcome.revision,
            format::response(&response)
        ))
    }

    fn stream(&mut self, name: &str) -> &mut WatchStream {
        let reader = self.world.reader();
        self.streams
            .entry(name.to_owned())
            .or_insert_with(|| reader.watch())
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, context: &Context) -> Outcome {
        let mut args = command.consume_args();
        let stream = context.prefix.clone().unwrap_or_default();
        let output = match command.name.as_str() {
            "put" | "del" | "txn" | "range" | "stream" | "define" => {
                self.run_kv(&command.name, &mut args)
            }
            "grant" | "revoke" | "checkpoint" | "lease" | "leases" | "feed" => {
                self.run_lease(&command.name, &mut args)
            }
            "watch" | "cancel" | "progress" | "tick" | "poll" | "respond" | "close" => {
                self.run_watch(&command.name, &stream, &mut args)
            }
            "member" | "alarm" | "version" | "membership" => {
                self.run_cluster(&command.name, &mut args)
            }
            _ => self.run_store(&command.name, &mut args),
        }?;
        args.reject_next()?;
        Ok(output)
    }
}

fn take<T: std::str::FromStr>(
    args: &mut ArgumentConsumer<'_>,
    key: &str,
) -> Result<Option<T>, Box<dyn Error>>
where
    T::Err: Error + 'static,
{
    Ok(args.take_key(key).map(str::parse).transpose()?)
}

fn number<T: std::str::FromStr>(args: &mut ArgumentConsumer<'_>) -> Result<T, Box<dyn Error>>
where
    T::Err: Error + 'static,
{
    Ok(args.next_pos().ok_or("number is missing")?.parse()?)
}

/// Runs a script and compares its output with what the file says.
pub(crate) fn run(name: &str) {
    let path = format!("{}/tests/scripts/{name}", env!("CARGO_MANIFEST_DIR"));
    goldenscript::run(&mut Script::new(), path).unwrap();
}
