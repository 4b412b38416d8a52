//! The mixed load: clients of all operations, and watchers.
//!
//! Everybody records what was asked and answered; nobody tries an operation twice. The members are looked up for each operation in
//! [`Seats`], so that they can join and leave meanwhile.

mod client;
mod execute;
mod seats;
mod watcher;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use framework::{
    history::{Filter, Recorder, WatchArgs},
    wait_until,
};
use parking_lot::Mutex;
use rand::{Rng, rngs::StdRng};
use tokio::{task::JoinHandle, time::timeout};

pub(crate) use client::{AnyMix, Desk};
pub(crate) use execute::execute;
pub(crate) use seats::{Seat, Seats};
use watcher::{Progress, Wish};

/// Clients of keys and leases.
const CLIENTS: usize = 8;
/// Watchers beside the witnesses: with one witness there are eight.
const WATCHERS: usize = 7;
/// A stopped client has ended by then: it may wait for an answer.
const ENDED_WITHIN: Duration = Duration::from_secs(30);
/// A healed cluster has sent every event by then.
const WATCHED_WITHIN: Duration = Duration::from_secs(60);

/// Clients and watchers that run.
pub(crate) struct Load {
    /// What they share.
    pub(crate) desk: Desk,
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<(String, Progress, JoinHandle<()>)>,
}

impl Load {
    /// No clients yet.
    pub(crate) fn new(seats: &Seats, recorder: &Recorder, mix: AnyMix) -> Self {
        let desk = Desk {
            seats: seats.clone(),
            recorder: recorder.clone(),
            mix: Arc::new(Mutex::new(mix)),
            done: Arc::default(),
            stopped: Arc::default(),
        };
        Self {
            desk,
            clients: Vec::new(),
            watchers: Vec::new(),
        }
    }

    /// Adds a witness of a member, which stays with it until the member leaves.
    pub(crate) fn add_witness(&mut self, seat: &Arc<Seat>) {
        let everything = WatchArgs {
            key: "\0".into(),
            range_end: "\0".into(),
            start_revision: 1,
            prev_kv: true,
            ..WatchArgs::default()
        };
        let wish = Wish {
            args: everything,
            witness_of: Some(seat.clone()),
            seed: 0,
        };
        self.watch(format!("witness of {}", seat.name), wish);
    }

    /// Starts the clients, and the watchers that are no witnesses.
    pub(crate) fn start(&mut self, random: &mut StdRng) {
        for _ in 0..CLIENTS {
            let client = client::client(self.desk.clone(), random.random());
            self.clients.push(tokio::spawn(client));
        }
        for number in 0..WATCHERS {
            let wish = Wish {
                args: part(number),
                witness_of: None,
                seed: random.random(),
            };
            self.watch(format!("watcher {number}"), wish);
        }
    }

    /// Operations that were done.
    pub(crate) fn done(&self) -> u64 {
        self.desk.done.load(Ordering::Relaxed)
    }

    /// Ends the clients.
    pub(crate) async fn stop_clients(&mut self) -> Result<()> {
        self.desk.stopped.store(true, Ordering::Release);
        for client in self.clients.drain(..) {
            let ended = timeout(ENDED_WITHIN, client).await;
            ended.context("a client does not end")??;
        }
        Ok(())
    }

    /// Waits until every watcher has everything up to `revision`, and ends them.
    pub(crate) async fn stop_watchers(&mut self, revision: i64) -> Result<()> {
        for (_, progress, _) in &self.watchers {
            progress.end_at(revision);
        }
        let ended = wait_until(
            "all watches arrive at the end",
            WATCHED_WITHIN,
            async || {
                let all = self
                    .watchers
                    .iter()
                    .all(|(_, progress, _)| progress.is_ended());
                all.then_some(())
            },
        );
        let ended = ended.await;
        let late: Vec<_> = self
            .watchers
            .iter()
            .filter(|(_, progress, _)| !progress.is_ended())
            .map(|(name, progress, _)| format!("{name} at {}", progress.seen()))
            .collect();
        ensure!(
            ended.is_ok(),
            "not all watches arrive at revision {revision}: {}",
            late.join(", ")
        );
        self.watchers.clear();
        Ok(())
    }

    fn watch(&mut self, name: String, wish: Wish) {
        let progress = Progress::default();
        let task = watcher::watcher(self.desk.clone(), wish, progress.clone());
        self.watchers.push((name, progress, tokio::spawn(task)));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
        self.watchers.iter().for_each(|(_, _, task)| task.abort());
    }
}

/// A part of everything: each watcher asks for another, so that every option of a watch is in use.
fn part(number: usize) -> WatchArgs {
    let all = WatchArgs {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: 1,
        ..WatchArgs::default()
    };
    match number % 6 {
        0 => WatchArgs {
            prev_kv: true,
            progress_notify: true,
            ..all
        },
        1 => WatchArgs {
            filters: vec![Filter::NoDelete],
            ..all
        },
        2 => WatchArgs {
            filters: vec![Filter::NoPut],
            prev_kv: true,
            ..all
        },
        3 => WatchArgs {
            fragment: true,
            ..all
        },
        4 => WatchArgs {
            start_revision: 0,
            prev_kv: true,
            ..all
        },
        _ => WatchArgs {
            key: "k".into(),
            range_end: "l".into(),
            ..all
        },
    }
}
