//! Makes a history while a run goes on.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use super::{Args, End, Fault, Final, History, Meta, Operation, Outcome, Proc, Record, Watch};

/// Records what happens in a run; clones share one history.
///
/// Times are the caller's, in nanoseconds since the run began. They are taken before the first byte is sent and after the last is
/// read, not under the recorder's lock.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    records: Vec<Record>,
    /// Operations that were called and have not returned.
    open: BTreeMap<u64, Operation>,
    operations: u64,
    clients: u64,
    watches: u64,
}

impl Recorder {
    /// Begins a history.
    pub fn new(meta: Meta) -> Self {
        let inner = Inner {
            records: vec![Record::Meta(Meta { v: 1, ..meta })],
            open: BTreeMap::new(),
            operations: 0,
            clients: 0,
            watches: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// The number of a new client, or of the successor of one whose operation ended as unknown; also of a new watch stream.
    pub fn new_client(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.clients += 1;
        inner.clients
    }

    /// The number of a new watch.
    pub fn new_watch(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.watches += 1;
        inner.watches
    }

    /// An operation is about to be sent. Returns its id, for [`Recorder::finish`].
    pub fn call(
        &self,
        client: u64,
        endpoint: &str,
        args: Args,
        token: Option<String>,
        now_ns: u64,
    ) -> u64 {
        let mut operation = Operation {
            id: 0,
            client,
            endpoint: endpoint.to_owned(),
            call_ns: now_ns,
            return_ns: None,
            args,
            outcome: Outcome::Unknown(None),
            token,
        };
        // Hashes long values, which others need not wait for.
        operation.args.record();
        let mut inner = self.inner.lock();
        inner.operations += 1;
        let id = inner.operations;
        operation.id = id;
        inner.open.insert(id, operation);
        id
    }

    /// An operation ended. Returns it as it is recorded, for [`Mix::learn`](crate::mix::Mix::learn); `None` if there is no such
    /// open operation.
    pub fn finish(&self, id: u64, outcome: Outcome, now_ns: u64) -> Option<Operation> {
        let mut inner = self.inner.lock();
        let mut operation = inner.open.remove(&id)?;
        operation.return_ns = match outcome {
            Outcome::Ok(_) | Outcome::Fail(_) => Some(now_ns),
            Outcome::Unknown(_) => None,
        };
        operation.outcome = outcome;
        inner.records.push(Record::Op(operation.clone()));
        Some(operation)
    }

    /// Something happened on a watch.
    pub fn watch(&self, watch: Watch) {
        self.inner.lock().records.push(Record::Watch(watch));
    }

    /// A fault began or ended.
    pub fn fault(&self, fault: Fault) {
        self.inner.lock().records.push(Record::Fault(fault));
    }

    /// Something happened to a process.
    pub fn process(&self, process: Proc) {
        self.inner.lock().records.push(Record::Proc(process));
    }

    /// What a member holds at the end.
    pub fn last(&self, last: Final) {
        self.inner.lock().records.push(Record::Final(last));
    }

    /// How many operations were called.
    pub fn operations(&self) -> u64 {
        self.inner.lock().operations
    }

    /// The history so far, ended: operations that are still open are unknown.
    pub fn history(&self, now_ns: u64) -> History {
        let inner = self.inner.lock();
        let mut records = inner.records.clone();
        records.extend(inner.open.values().cloned().map(Record::Op));
        let unknown = |record: &&Record| matches!(record, Record::Op(op) if op.unknown());
        let end = End {
            ns: now_ns,
            lines: records.len() as u64 + 1,
            ops: inner.operations,
            unknown: records.iter().filter(unknown).count() as u64,
        };
        records.push(Record::End(end));
        History { records }
    }
}
