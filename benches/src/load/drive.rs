//! The loop that drives a load.

use std::{
    collections::VecDeque,
    mem,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    histogram::Histogram,
    process::{Sample, Servers},
    wire::{Event, Fleet},
};

use super::{AnsweredBy, Load, Outcome, Pace, Stop, Workload};

/// A request that is answered so late is lost, and the run with it.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// One client: its request in flight and what came of it.
#[derive(Debug)]
struct Client {
    connection: usize,
    /// The stream of its request, or the one that stands open.
    stream: Option<u32>,
    /// When the request was due. Latency counts from there.
    due: Instant,
    busy: bool,
    /// Whether a message has come to the request.
    told: bool,
}

/// A load that runs.
struct Drive<'a> {
    load: &'a Load,
    workload: &'a mut dyn Workload,
    servers: &'a Servers,
    fleet: Fleet,
    clients: Vec<Client>,
    /// For each connection, its streams and whose they are. A connection has few, so they are searched from end to end.
    streams: Vec<Vec<(u32, usize)>>,
    /// Clients that were answered in one read; empty between reads.
    done: Vec<usize>,
    /// Clients without a request, in an open loop.
    idle: Vec<usize>,
    /// Requests that are due and wait for a client, in an open loop.
    waiting: VecDeque<Instant>,
    next_due: Option<Instant>,
    began: Instant,
    /// When a server said something last.
    heard: Instant,
    first: Option<Sample>,
    latencies: Histogram,
    errors: u64,
    sent: u64,
    answers: u64,
}

/// Runs a load to its end.
pub(super) fn run(
    load: &Load,
    workload: &mut dyn Workload,
    addresses: &[SocketAddr],
    servers: &Servers,
) -> Result<Outcome> {
    let fleet = Fleet::connect(addresses, load.connections).context("connecting")?;
    let began = Instant::now();
    let client = |place| Client {
        connection: place % load.connections,
        stream: None,
        due: began,
        busy: false,
        told: false,
    };
    let mut drive = Drive {
        load,
        workload,
        servers,
        fleet,
        clients: (0..load.clients).map(client).collect(),
        streams: vec![Vec::new(); load.connections],
        done: Vec::new(),
        idle: Vec::new(),
        waiting: VecDeque::new(),
        next_due: None,
        began,
        heard: began,
        first: None,
        latencies: Histogram::default(),
        errors: 0,
        sent: 0,
        answers: 0,
    };
    drive.begin()?;
    drive.run()
}

impl Drive<'_> {
    /// Gives every client its first request, or lets it wait for one.
    fn begin(&mut self) -> Result<()> {
        if self.load.warm_up.is_zero() {
            self.first = Some(self.servers.sample()?);
        }
        for (place, connection) in self.fleet.connections.iter_mut().enumerate() {
            self.workload.begin(place, connection);
        }
        let now = Instant::now();
        match self.load.pace {
            Pace::Closed => (0..self.clients.len()).for_each(|client| self.again(client, now)),
            Pace::Open { .. } => {
                self.idle = (0..self.clients.len()).rev().collect();
                self.next_due = Some(now);
            }
        }
        for connection in &mut self.fleet.connections {
            connection.flush()?;
        }
        Ok(())
    }

    fn run(mut self) -> Result<Outcome> {
        let mut ready = Vec::new();
        loop {
            let now = Instant::now();
            if self.first.is_none() && now >= self.began + self.load.warm_up {
                self.first = Some(self.servers.sample()?);
            }
            if self.is_over(now) {
                return self.finish();
            }
            let silent = now - self.heard;
            ensure!(silent < ANSWERED_WITHIN, "no answer for {silent:?}");
            self.arrivals(now)?;
            self.fleet.wait(self.wake_at(), &mut ready)?;
            for connection in &ready {
                self.serve(*connection)?;
            }
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        match self.load.stop {
            Stop::After(length) => now >= self.began + self.load.warm_up + length,
            Stop::Answers(wanted) => self.answers >= wanted,
        }
    }

    /// When something is to be done even if no server says anything.
    fn wake_at(&self) -> Instant {
        let warm = self.began + self.load.warm_up;
        let edge = match (self.first, self.load.stop) {
            (None, _) => warm,
            (Some(_), Stop::After(length)) => warm + length,
            (Some(_), Stop::Answers(_)) => self.heard + ANSWERED_WITHIN,
        };
        self.next_due.map_or(edge, |due| due.min(edge))
    }

    /// Sends what the timetable of an open loop has come to.
    fn arrivals(&mut self, now: Instant) -> Result<()> {
        let Pace::Open { per_sec } = self.load.pace else {
            return Ok(());
        };
        let apart = Duration::from_secs_f64(1.0 / per_sec);
        while let Some(due) = self.next_due.filter(|due| *due <= now) {
            self.next_due = Some(due + apart);
            match self.idle.pop() {
                Some(client) => {
                    self.send(client, due);
                    let connection = self.clients[client].connection;
                    self.fleet.connections[connection].flush()?;
                }
                None => self.waiting.push_back(due),
            }
        }
        Ok(())
    }

    /// A client's next request in a closed loop, unless all that are wanted have been sent.
    fn again(&mut self, client: usize, now: Instant) {
        match self.load.stop {
            Stop::Answers(wanted) if self.sent >= wanted => {}
            Stop::Answers(_) | Stop::After(_) => self.send(client, now),
        }
    }

    fn send(&mut self, client: usize, due: Instant) {
        self.sent += 1;
        let state = &mut self.clients[client];
        let connection = &mut self.fleet.connections[state.connection];
        let stream = self.workload.send(client, connection, state.stream);
        if state.stream != Some(stream) {
            self.streams[state.connection].push((stream, client));
        }
        *state = Client {
            connection: state.connection,
            stream: Some(stream),
            due,
            busy: true,
            told: false,
        };
    }

    /// Takes what a connection says, gives its clients their next requests and sends them in one write.
    fn serve(&mut self, connection: usize) -> Result<()> {
        let by = self.workload.answered_by();
        let (streams, clients) = (&mut self.streams[connection], &mut self.clients);
        let workload = &mut *self.workload;
        let mut done = mem::take(&mut self.done);
        let received = self.fleet.connections[connection].receive(|event| match event {
            Event::Piece {
                stream,
                bytes,
                last,
            } => {
                let Some((_, client)) = streams.iter().find(|(had, _)| *had == stream) else {
                    return workload.other(connection, stream, bytes, last);
                };
                workload.piece(*client, bytes, last);
                clients[*client].told |= last;
                if last && by == AnsweredBy::Message {
                    done.push(*client);
                }
            }
            Event::Ended { stream } => {
                let place = streams.iter().position(|(had, _)| *had == stream);
                if let Some(place) = place {
                    let (_, client) = streams.swap_remove(place);
                    clients[client].stream = None;
                    done.push(client);
                }
            }
        });
        received.with_context(|| format!("connection {connection}"))?;
        let now = Instant::now();
        self.heard = now;
        for client in done.drain(..) {
            self.answered(client, now);
        }
        self.done = done;
        Ok(self.fleet.connections[connection].flush()?)
    }

    fn answered(&mut self, client: usize, now: Instant) {
        let state = &mut self.clients[client];
        if !state.busy {
            return;
        }
        state.busy = false;
        let good = state.told && self.workload.accept(client);
        self.answers += 1;
        if self.first.is_some() {
            self.latencies.record(now - state.due);
            self.errors += u64::from(!good);
        }
        match self.load.pace {
            Pace::Closed => self.again(client, now),
            Pace::Open { .. } => match self.waiting.pop_front() {
                Some(due) => self.send(client, due),
                None => self.idle.push(client),
            },
        }
    }

    /// What was measured. Requests that still wait count with the time they have waited, or an open loop would hide the worst.
    fn finish(mut self) -> Result<Outcome> {
        let last = self.servers.sample()?;
        let first = self.first.unwrap_or(last);
        let oldest = self.clients.iter().filter(|client| client.busy);
        let oldest = oldest.map(|client| client.due).min();
        let waited = oldest.map_or(Duration::ZERO, |due| last.at.saturating_duration_since(due));
        ensure!(waited < ANSWERED_WITHIN, "a request waits for {waited:?}");
        let answers = self.latencies.len();
        if self.load.pace != Pace::Closed {
            let asked = self.clients.iter().filter(|client| client.busy);
            for due in asked.map(|client| &client.due).chain(&self.waiting) {
                self.latencies
                    .record(last.at.saturating_duration_since(*due));
            }
        }
        Ok(Outcome {
            answers,
            errors: self.errors,
            late: self.waiting.len() as u64,
            latencies: self.latencies,
            used: first.until(&last),
            rss_bytes: self.servers.rss_bytes()?,
        })
    }
}
