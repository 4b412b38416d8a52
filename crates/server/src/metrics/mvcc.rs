//! Operations of clients.

use catena_api::etcd::etcdserverpb::{self as pb, response_op::Response as Operation};
use catena_store::Response;
use catena_telemetry::metrics::{
    Registry,
    prometheus::{Error, IntCounter},
};

/// Operations of clients. They are counted by the member that answers; etcd counts writes on every member that applies them, so sums
/// over a cluster are its multiples of ours.
pub(crate) struct MvccMetrics {
    pub(crate) ranges: IntCounter,
    puts: IntCounter,
    deletes: IntCounter,
    txns: IntCounter,
}

impl MvccMetrics {
    pub(super) fn register(r: &Registry) -> Result<Self, Error> {
        let counter = |what: &str| {
            let help = format!("Total number of {what}s seen by this member.");
            r.counter(&format!("etcd_mvcc_{what}_total"), &help)
        };
        Ok(Self {
            ranges: counter("range")?,
            puts: counter("put")?,
            deletes: counter("delete")?,
            txns: counter("txn")?,
        })
    }

    /// Counts what an answer says was done.
    pub(crate) fn count(&self, answer: &Response) {
        match answer {
            Response::Put(_) => self.puts.inc(),
            Response::DeleteRange(_) => self.deletes.inc(),
            Response::Txn(txn) => self.count_txn(txn),
            Response::Compact(_)
            | Response::LeaseGrant(_)
            | Response::LeaseRevoke(_)
            | Response::Alarm(_)
            | Response::Done => {}
        }
    }

    /// Counts a transaction with more than one operation, and its operations.
    pub(crate) fn count_txn(&self, txn: &pb::TxnResponse) {
        if txn.responses.len() > 1 {
            self.txns.inc();
        }
        for operation in &txn.responses {
            match &operation.response {
                Some(Operation::ResponseRange(_)) => self.ranges.inc(),
                Some(Operation::ResponsePut(_)) => self.puts.inc(),
                Some(Operation::ResponseDeleteRange(_)) => self.deletes.inc(),
                Some(Operation::ResponseTxn(nested)) => self.count_txn(nested),
                None => {}
            }
        }
    }
}
