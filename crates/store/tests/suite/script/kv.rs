//! Keys and values, and what is asked of them.

use std::error::Error;

use catena_api::etcd::etcdserverpb::{self as pb, request_op::Request as Op};
use catena_store::{Request, check};
use goldenscript::{Argument, ArgumentConsumer, Command, Context};

use super::{
    Outcome, Script,
    parse::{compare, delete, put, range},
    take,
};
use crate::format;

/// Operations that the scripts allow in a transaction.
const TXN_OPS_MAX: usize = 8;

impl Script {
    pub(super) fn run_kv(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        match name {
            "put" => {
                let request = put(args)?;
                check::put(&request)?;
                self.apply(Request::Put(request))
            }
            "del" => {
                let request = delete(args)?;
                check::delete_range(&request)?;
                self.apply(Request::DeleteRange(request))
            }
            "range" => {
                let request = range(args)?;
                check::range(&request)?;
                let (response, revision) = self.world.reader().range(&request)?;
                Ok(format!("{}\nat {revision}", format::range(&response)))
            }
            "stream" => {
                let chunk_bytes = take(args, "chunk")?.unwrap_or(1000);
                let request = range(args)?;
                check::range_stream(&request)?;
                let mut lines = Vec::new();
                for chunk in self.world.reader().range_stream(&request, chunk_bytes)? {
                    let chunk = chunk?;
                    let keys: Vec<String> =
                        chunk.kvs.iter().map(|kv| format::text(&kv.key())).collect();
                    let last = chunk.header.map_or(String::new(), |header| {
                        format!(
                            " | revision {}, count {}, more {}",
                            header.revision, chunk.count, chunk.more
                        )
                    });
                    lines.push(format!("{}{last}", keys.join(" ")));
                }
                Ok(lines.join("\n"))
            }
            "define" => {
                let name = args.next_pos().ok_or("name is missing")?.to_owned();
                let request = self.txn(args)?;
                self.defined.insert(name, request);
                Ok(String::new())
            }
            _ => {
                let request = self.txn(args)?;
                check::txn(&request, TXN_OPS_MAX)?;
                if check::is_read_only(&request) {
                    let (response, revision) = self.world.reader().txn(&request)?;
                    return Ok(format!(
                        "read at {revision}: {}",
                        format::transaction(&response)
                    ));
                }
                self.apply(Request::Txn(request))
            }
        }
    }

    fn txn(&self, args: &mut ArgumentConsumer<'_>) -> Result<pb::TxnRequest, Box<dyn Error>> {
        let mut request = pb::TxnRequest::default();
        while let Some((kind, text)) = args.next_key() {
            match kind {
                "if" => request.compare.push(compare(text)?),
                "then" => request.success.push(self.op(text)?),
                "else" => request.failure.push(self.op(text)?),
                _ => return Err(format!("unknown part {kind}").into()),
            }
        }
        Ok(request)
    }

    pub(super) fn op(&self, text: &str) -> Result<pb::RequestOp, Box<dyn Error>> {
        let words = text
            .split_whitespace()
            .map(|word| match word.split_once('=') {
                Some((key, value)) => Argument::KeyValue(key.into(), value.into()),
                None => Argument::Positional(word.into()),
            });
        let (mut name, mut rest) = (String::new(), Vec::new());
        for word in words {
            match (name.is_empty(), word) {
                (true, Argument::Positional(word)) => name = word,
                (_, word) => rest.push(word),
            }
        }
        let command = command(rest);
        let mut args = command.consume_args();
        let request = match name.as_str() {
            "put" => Some(Op::RequestPut(put(&mut args)?)),
            "del" => Some(Op::RequestDeleteRange(delete(&mut args)?)),
            "range" => Some(Op::RequestRange(range(&mut args)?)),
            "unset" => None,
            "txn" => {
                let name = args.next_pos().ok_or("name is missing")?;
                Some(Op::RequestTxn(
                    self.defined.get(name).ok_or("not defined")?.clone(),
                ))
            }
            _ => return Err(format!("unknown operation {name}").into()),
        };
        args.reject_next()?;
        Ok(pb::RequestOp { request })
    }
}

/// A command with these arguments, for its argument consumer.
fn command(args: Vec<Argument>) -> Command {
    let script = "x\n---\n";
    let mut taken = None;
    struct Take<'a>(&'a mut Option<Command>);
    impl goldenscript::Runner for Take<'_> {
        type Command = Command;
        fn run(&mut self, command: &Command, _: &Context) -> Outcome {
            *self.0 = Some(command.clone());
            Ok(String::new())
        }
    }
    goldenscript::generate(&mut Take(&mut taken), script).unwrap();
    let mut command = taken.unwrap();
    command.args = args;
    command
}
