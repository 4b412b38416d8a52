//! What stands open and asks for nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{Keys, fan};
use crate::wire::{Event, Fleet};

/// All stands by then, or the server has refused some of it.
const STANDS_WITHIN: Duration = Duration::from_secs(60);

/// Connections that lie idle, some with watchers; dropping it closes them.
///
/// Nobody reads from them while a load runs beside: what little servers send to an idle connection waits in its socket.
pub(crate) struct Idle {
    fleet: Fleet,
    /// Messages that have come.
    messages: usize,
}

impl Idle {
    /// Connections without a call. They stand as soon as each was taken by its server.
    pub(crate) fn connections(addresses: &[SocketAddr], count: usize) -> Result<Self> {
        let mut idle = Self {
            fleet: Fleet::connect(addresses, count).context("connecting")?,
            messages: 0,
        };
        idle.wait(0)?;
        Ok(idle)
    }

    /// Watchers of a key each, each on a stream of its own, spread over connections. They stand as soon as each was answered.
    pub(crate) fn watchers(
        addresses: &[SocketAddr],
        keys: Keys,
        connections: usize,
    ) -> Result<Self> {
        let mut idle = Self::connections(addresses, connections)?;
        for place in 0..keys.count {
            let connection = &mut idle.fleet.connections[place % connections];
            fan::watch(connection, keys.key(place), bytes::Bytes::new());
        }
        for connection in &mut idle.fleet.connections {
            connection.flush()?;
        }
        idle.wait(keys.count)?;
        Ok(idle)
    }

    /// Whether all of it still stands: no connection was closed, no stream ended, no event came.
    pub(crate) fn check(&mut self) -> Result<()> {
        let had = self.messages;
        for place in 0..self.fleet.connections.len() {
            self.receive(place)?;
        }
        ensure!(self.messages == had, "an idle watcher was sent an event");
        Ok(())
    }

    fn wait(&mut self, messages: usize) -> Result<()> {
        let end = Instant::now() + STANDS_WITHIN;
        let mut ready = Vec::new();
        let standing = self.fleet.connections.iter();
        let mut greeted = standing.filter(|had| had.is_greeted()).count();
        while greeted < self.fleet.connections.len() || self.messages < messages {
            let (all, came) = (self.fleet.connections.len(), self.messages);
            ensure!(
                Instant::now() < end,
                "{greeted} of {all} connections and {came} of {messages} watchers stand after {STANDS_WITHIN:?}"
            );
            self.fleet.wait(end, &mut ready)?;
            for place in &ready {
                let was = self.fleet.connections[*place].is_greeted();
                self.receive(*place)?;
                greeted += usize::from(!was && self.fleet.connections[*place].is_greeted());
            }
        }
        Ok(())
    }

    fn receive(&mut self, place: usize) -> Result<()> {
        let connection = &mut self.fleet.connections[place];
        let (mut messages, mut ended) = (0, 0);
        let received = connection.receive(|event| match event {
            Event::Piece { last, .. } => messages += usize::from(last),
            Event::Ended { .. } => ended += 1,
        });
        received.with_context(|| format!("idle connection {place}"))?;
        ensure!(ended == 0, "{ended} streams ended on connection {place}");
        self.messages += messages;
        Ok(connection.flush()?)
    }
}
