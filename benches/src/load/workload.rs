//! What clients ask for.

use crate::wire::{Connection, More};

use super::{
    Requests, Swap,
    requests::{Fields, Value, txn_answer},
};

/// Clients' requests and what becomes of the answers. A client has at most one request in flight.
pub(crate) trait Workload {
    /// Opens what stands beside the requests on a connection, before the first of them.
    fn begin(&mut self, _place: usize, _connection: &mut Connection) {}

    /// Puts a client's next request into a connection's buffer; `open` is the stream of its request before, if it still stands.
    /// Gives the request's stream.
    fn send(&mut self, client: usize, connection: &mut Connection, open: Option<u32>) -> u32;

    /// Takes a part of a message to a client.
    fn piece(&mut self, _client: usize, _bytes: &[u8], _last: bool) {}

    /// Takes a part of a message on a stream that is no client's.
    fn other(&mut self, _connection: usize, _stream: u32, _bytes: &[u8], _last: bool) {}

    /// When a request is answered.
    fn answered_by(&self) -> AnsweredBy {
        AnsweredBy::End
    }

    /// Whether the answer that is now complete is the wanted one.
    fn accept(&mut self, _client: usize) -> bool {
        true
    }
}

/// When a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    /// By a message; the stream stays open for the next request.
    Message,
    /// By the end of the stream, behind a message.
    End,
}

/// Unary calls whose answers do not matter beyond their success, in turn.
#[derive(Debug)]
pub(crate) struct Cycle {
    path: &'static str,
    requests: Requests,
    next: usize,
}

impl Cycle {
    /// Calls of `path`.
    pub(crate) fn new(path: &'static str, requests: Requests) -> Self {
        Self {
            path,
            requests,
            next: 0,
        }
    }
}

impl Workload for Cycle {
    fn send(&mut self, _client: usize, connection: &mut Connection, _open: Option<u32>) -> u32 {
        let request = self.requests.get(self.next);
        self.next += 1;
        connection.call(self.path, request, More::Ends)
    }
}

/// Each client swaps the value of its own key, on the condition that it is as the client left it.
#[derive(Debug)]
pub(crate) struct Swaps {
    clients: Vec<(Swap, bool)>,
}

/// The path of transactions.
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";

impl Swaps {
    /// One swap for each client.
    pub(crate) fn new(swaps: impl IntoIterator<Item = Swap>) -> Self {
        Self {
            clients: swaps.into_iter().map(|swap| (swap, false)).collect(),
        }
    }
}

impl Workload for Swaps {
    fn send(&mut self, client: usize, connection: &mut Connection, _open: Option<u32>) -> u32 {
        let (swap, swapped) = &mut self.clients[client];
        *swapped = false;
        connection.call(TXN, swap.message(), More::Ends)
    }

    /// The answer fits into one frame.
    fn piece(&mut self, client: usize, bytes: &[u8], _last: bool) {
        let (swap, swapped) = &mut self.clients[client];
        if let Some((revision, true)) = txn_answer(bytes) {
            swap.expect(revision);
            *swapped = true;
        }
    }

    fn accept(&mut self, client: usize) -> bool {
        self.clients[client].1
    }
}

/// Each client keeps leases of its own alive in turn, on a stream that stays open.
#[derive(Debug)]
pub(crate) struct Renewals {
    requests: Requests,
    clients: Vec<(usize, bool)>,
}

impl Renewals {
    /// Of a multiple of the clients' number of leases, each client has as many.
    pub(crate) fn new(requests: Requests, clients: usize) -> Self {
        Self {
            requests,
            clients: (0..clients).map(|client| (client, false)).collect(),
        }
    }
}

impl Workload for Renewals {
    fn send(&mut self, client: usize, connection: &mut Connection, open: Option<u32>) -> u32 {
        let clients = self.clients.len();
        let (next, alive) = &mut self.clients[client];
        let request = self.requests.get(*next);
        *next += clients;
        *alive = false;
        if let Some(stream) = open {
            connection.send(stream, request, More::Follows);
            return stream;
        }
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        connection.call(path, request, More::Follows)
    }

    /// A lease that is gone is answered with a time to live of zero, which is not on the wire.
    fn piece(&mut self, client: usize, bytes: &[u8], _last: bool) {
        let ttl = |(tag, value)| tag == 3 && matches!(value, Value::Number(1..));
        self.clients[client].1 = Fields(bytes).any(ttl);
    }

    fn answered_by(&self) -> AnsweredBy {
        AnsweredBy::Message
    }

    fn accept(&mut self, client: usize) -> bool {
        self.clients[client].1
    }
}
