//! Leases.

use catena_store::{LeaseCheckpoint, Request};
use goldenscript::ArgumentConsumer;

use super::{Outcome, Script, number};
use crate::format;

impl Script {
    pub(super) fn run_lease(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        match name {
            "grant" => {
                let (id, ttl) = (number(args)?, number(args)?);
                self.apply(crate::requests::grant(id, ttl))
            }
            "revoke" => {
                let id = number(args)?;
                self.apply(crate::requests::revoke(id))
            }
            "checkpoint" => {
                let (id, remaining_ttl_secs) = (number(args)?, number(args)?);
                self.apply(Request::LeaseCheckpoint(vec![LeaseCheckpoint {
                    id,
                    remaining_ttl_secs,
                }]))
            }
            "lease" => Ok(match self.world.reader().lease(number(args)?) {
                None => "none".into(),
                Some(lease) => {
                    let keys: Vec<String> = lease.keys.iter().map(format::text).collect();
                    let (ttl, remaining) = (lease.ttl_secs, lease.remaining_ttl_secs);
                    format!(
                        "ttl {ttl}, remaining {remaining}, keys [{}]",
                        keys.join(" ")
                    )
                }
            }),
            "feed" => {
                let changes = std::iter::from_fn(|| self.feed.try_next());
                let changes: Vec<String> = changes.map(|change| format!("{change:?}")).collect();
                Ok(changes.join("\n"))
            }
            _ => {
                let ids = self
                    .world
                    .reader()
                    .leases()
                    .into_iter()
                    .map(|lease| lease.id);
                Ok(format!("{:?}", ids.collect::<Vec<_>>()))
            }
        }
    }
}
