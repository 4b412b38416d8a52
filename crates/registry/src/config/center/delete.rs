//! Taking documents away.

use catena_client::{
    pb::TxnRequest,
    request::{self, Operation},
};

use super::{
    ConfigCenter, Expect, absent,
    publish::{TRIES_MAX, check_expected, conflict, unchanged},
};
use crate::config::{DocumentName, Result, key::Kind};

impl ConfigCenter {
    /// Takes a document away, and what is given in its place to some of its instances. Its history stays, and who publishes it again
    /// goes on counting from there.
    pub async fn delete(&self, name: &DocumentName, expect: Expect) -> Result<()> {
        let mut sent = false;
        for _ in 0..TRIES_MAX {
            let (read, _) = self.read(name).await?;
            if read.content.is_none() {
                // It may have been ours that took place, and its answer that got lost.
                return if sent { Ok(()) } else { Err(absent(name)) };
            }
            check_expected(name, &read, expect)?;
            let gray = request::delete_prefix(name.prefix(Kind::Gray));
            let txn = TxnRequest {
                compare: vec![
                    unchanged(name, Kind::Document, &read.content),
                    unchanged(name, Kind::Meta, &read.meta),
                ],
                success: vec![
                    request::delete(name.key(Kind::Document)).op(),
                    request::delete(name.key(Kind::Meta)).op(),
                    gray.op(),
                ],
                failure: Vec::new(),
            };
            sent = true;
            if self.send(txn).await? {
                return Ok(());
            }
        }
        let (read, _) = self.read(name).await?;
        Err(conflict(name, &read))
    }
}
