//! What answers the other members.

use std::sync::Arc;

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, Service};

use crate::{METHOD_FREE, members, method, propose, read::ReadGate, shared::Shared, wire};

/// Dispatches by method. A member that was removed is refused, whatever it asks.
pub(crate) struct PeerService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reads: Arc<ReadGate>,
}

impl Service for PeerService {
    fn call(&self, from: u64, method: u32, body: Bytes) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(async move {
            // A leader that was removed still has to hand over; consensus knows whether it is the leader.
            if method != method::TRANSFER {
                self.shared.check_present(from)?;
            }
            match method {
                method::PROPOSE => {
                    let answer = propose::forwarded(&self.shared, body).await;
                    Ok(wire::encode_plain(&answer))
                }
                method::READ_INDEX => {
                    let answer = self.reads.answer(&self.shared, from, &body).await;
                    Ok(wire::encode_plain(&answer))
                }
                method::TELL_VOTE => Ok(self.shared.machine.wal.vote().unwrap_or_default()),
                method::MEMBERS => members::forwarded(&self.shared, &body).await,
                METHOD_FREE.. => self.shared.handle(from, method, body).await,
                _ => self.shared.consensus.answer(from, method, body).await,
            }
        })
    }

    fn stream(&self, from: u64, method: u32, stream: Duplex) -> BoxFuture<'static, ()> {
        if self.shared.check_present(from).is_err() {
            return Box::pin(std::future::ready(()));
        }
        match method {
            method::APPEND => self.shared.consensus.receive_entries(from, stream),
            method::SNAPSHOT => self.shared.consensus.receive_snapshot(from, stream),
            other => {
                tracing::warn!(from = format_args!("{from:x}"), other, "unknown stream");
                Box::pin(std::future::ready(()))
            }
        }
    }
}
