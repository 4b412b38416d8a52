//! Watches; the prefix of a command names the stream.

use catena_api::etcd::etcdserverpb as pb;
use goldenscript::ArgumentConsumer;

use super::{Outcome, Script, number, take};
use crate::{format, requests::bytes};

impl Script {
    pub(super) fn run_watch(
        &mut self,
        name: &str,
        stream: &str,
        args: &mut ArgumentConsumer<'_>,
    ) -> Outcome {
        match name {
            "watch" => {
                let filters: Vec<i32> = args
                    .take_key("filters")
                    .map(|list| {
                        list.split(',')
                            .map(|f| i32::from(f == "nodelete"))
                            .collect()
                    })
                    .unwrap_or_default();
                let request = pb::WatchCreateRequest {
                    start_revision: take(args, "start")?.unwrap_or(0),
                    watch_id: take(args, "id")?.unwrap_or(0),
                    progress_notify: take(args, "progress")?.unwrap_or(false),
                    prev_kv: take(args, "prev_kv")?.unwrap_or(false),
                    fragment: take(args, "fragment")?.unwrap_or(false),
                    filters,
                    key: bytes(args.next_pos().unwrap_or("")),
                    range_end: bytes(args.next_pos().unwrap_or("")),
                };
                let response = self.stream(stream).create(&request);
                Ok(format::watch_response(&response))
            }
            "cancel" => {
                let id = number(args)?;
                let response = self.stream(stream).cancel(id);
                Ok(response.map_or("no such watch".into(), |response| {
                    format::watch_response(&response)
                }))
            }
            "progress" => {
                self.stream(stream).progress();
                Ok(String::new())
            }
            "tick" => {
                self.stream(stream).tick();
                Ok(String::new())
            }
            "close" => {
                self.streams.remove(stream);
                Ok(String::new())
            }
            "respond" => {
                let limit = number(args)?;
                let deliveries = self.stream(stream).poll(usize::MAX)?;
                let responses = deliveries
                    .into_iter()
                    .flat_map(|delivery| delivery.into_responses(limit));
                let responses: Vec<String> = responses
                    .map(|response| format::watch_response(&response))
                    .collect();
                Ok(responses.join("\n"))
            }
            _ => {
                let bytes = take(args, "bytes")?.unwrap_or(usize::MAX);
                let deliveries = self.stream(stream).poll(bytes)?;
                let deliveries: Vec<String> = deliveries.iter().map(format::delivery).collect();
                Ok(match deliveries.is_empty() {
                    true => "nothing".into(),
                    false => deliveries.join("\n"),
                })
            }
        }
    }
}
