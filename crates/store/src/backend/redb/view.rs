//! A read transaction of redb as a view.

use std::sync::{Arc, OnceLock};

use ::redb::{ReadOnlyTable, ReadTransaction};
use bytes::Bytes;

use super::{Redb, table};
use crate::{
    backend::{Bucket, View, Visit},
    error::Fatal,
};

type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// A snapshot; redb keeps its pages until it is dropped.
pub(super) struct Snapshot {
    /// Opened at first use: most views look at one or two.
    tables: [OnceLock<Table>; Bucket::ALL.len()],
    transaction: ReadTransaction,
    /// Last: the file closes after those who read it.
    redb: Arc<Redb>,
}

impl Snapshot {
    pub(super) fn new(redb: Arc<Redb>, transaction: ReadTransaction) -> Self {
        Self {
            tables: Default::default(),
            transaction,
            redb,
        }
    }

    fn table(&self, bucket: Bucket) -> Result<&Table, Fatal> {
        let slot = &self.tables[usize::from(bucket.tag())];
        if let Some(table) = slot.get() {
            return Ok(table);
        }
        let opened = self
            .transaction
            .open_table(table(bucket))
            .map_err(|e| self.redb.fatal(e))?;
        Ok(slot.get_or_init(|| opened))
    }
}

impl View for Snapshot {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        let found = self
            .table(bucket)?
            .get(key)
            .map_err(|e| self.redb.fatal(e))?;
        Ok(found.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Visit,
    ) -> Result<(), Fatal> {
        let table = self.table(bucket)?;
        for pair in table.range(from..).map_err(|e| self.redb.fatal(e))? {
            let (key, value) = pair.map_err(|e| self.redb.fatal(e))?;
            let key = key.value();
            if to.is_some_and(|to| key >= to) || visit(key, value.value()) == Visit::Stop {
                break;
            }
        }
        Ok(())
    }
}
