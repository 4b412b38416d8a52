//! Compaction, hashes, and the way to the engine and back.

use catena_api::etcd::etcdserverpb::request_op::Request as Op;
use catena_store::{Request, backend::Bucket, quota};
use goldenscript::ArgumentConsumer;

use super::{Outcome, Script, number, take};
use crate::world::World;

impl Script {
    pub(super) fn run_store(&mut self, name: &str, args: &mut ArgumentConsumer<'_>) -> Outcome {
        match name {
            "compact" => {
                let revision = number(args)?;
                self.apply(crate::requests::compact(revision))
            }
            "maintain" => match take(args, "slices")? {
                None => {
                    self.world.maintain();
                    Ok(String::new())
                }
                Some(slices) => {
                    let more = (0..slices)
                        .map(|_: usize| self.world.store.maintain())
                        .last();
                    Ok(format!("more {}", more.transpose()?.unwrap_or(false)))
                }
            },
            "hash" => {
                let hash = self
                    .world
                    .reader()
                    .hash_kv(take(args, "rev")?.unwrap_or(0))?;
                let (compacted, at) = (hash.compact_revision, hash.hash_revision);
                Ok(format!("{} compacted {compacted} revision {at}", hash.hash))
            }
            "hashes" => {
                let hashes = self.world.reader().compaction_hashes().into_iter();
                let hashes = hashes.map(|hash| {
                    format!(
                        "{} compacted {} revision {}",
                        hash.hash, hash.compact_revision, hash.hash_revision
                    )
                });
                Ok(hashes.collect::<Vec<_>>().join("\n"))
            }
            "seal" => Ok(format!("{}", self.world.seal())),
            "commit" => Ok(format!("{}", self.world.commit())),
            "flush" => {
                self.world.flush();
                Ok(String::new())
            }
            "restart" => {
                self.streams.clear();
                self.world.restart();
                self.feed = self.world.reader().lease_feed();
                self.run_store("status", args)
            }
            "records" => Ok(format!("{}", self.world.backend.len(Bucket::Key))),
            "cost" => {
                let text = args.next_pos().ok_or("operation is missing")?;
                let op = self.op(text)?;
                let request = match op.request.ok_or("unset")? {
                    Op::RequestPut(put) => Request::Put(put),
                    Op::RequestTxn(txn) => Request::Txn(txn),
                    Op::RequestDeleteRange(delete) => Request::DeleteRange(delete),
                    Op::RequestRange(_) => return Err("ranges cost nothing".into()),
                };
                Ok(format!("{}", quota::cost(&request)))
            }
            "catch-up-by-snapshot" => {
                let mut follower = World::new(self.world.options.clone());
                follower.install(&self.world);
                let (ours, theirs) = (self.world.reader(), follower.reader());
                assert_eq!(ours.hash()?, theirs.hash()?);
                std::mem::swap(&mut self.world, &mut follower);
                self.run_store("status", args)
            }
            "leap" => {
                let mut leader = World::new(self.world.options.clone());
                leader.install(&self.world);
                for place in 0..number(args)? {
                    let put = crate::requests::put("a", &format!("leap {place}"));
                    leader.apply(Request::Put(put))?;
                }
                self.world.install(&leader);
                self.run_store("status", args)
            }
            "status" => {
                let reader = self.world.reader();
                let (revision, compacted) = (reader.revision(), reader.compacted());
                let index = reader.applied().map(|position| position.index);
                Ok(format!(
                    "revision {revision}, compacted {compacted}, applied {index:?}"
                ))
            }
            _ => Err(format!("unknown command {name}").into()),
        }
    }
}
