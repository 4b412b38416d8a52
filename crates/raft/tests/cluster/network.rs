//! A network in memory, whose links can be cut.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, Network, STREAM_FRAMES_MAX, Service};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc};

/// Number of the peer method that is a snapshot.
const SNAPSHOT: u32 = 6;

#[derive(Default)]
struct State {
    services: HashMap<u64, Arc<dyn Service>>,
    cut: HashSet<(u64, u64)>,
    frozen: HashSet<u64>,
    /// Attempts to open a stream, by the member called.
    streams: HashMap<u64, usize>,
    /// Calls, by link.
    calls: HashMap<(u64, u64), usize>,
    /// Whom the last call was for, and what it said, by caller and method.
    said: HashMap<(u64, u32), (u64, Bytes)>,
    /// Links whose next answer is lost.
    losing: HashSet<(u64, u64)>,
    /// What answers to calls on these links wait for.
    held: HashMap<(u64, u64), Arc<Semaphore>>,
    /// What the frames of snapshots to these members wait for.
    held_snapshots: HashMap<u64, Arc<Semaphore>>,
    /// Snapshots that were begun, by the member that takes them.
    snapshots: HashMap<u64, usize>,
    /// Frames to damage, one in each of the next snapshots to a member.
    rotting: HashMap<u64, VecDeque<usize>>,
}

/// All members' services.
#[derive(Clone, Default)]
pub(crate) struct Hub {
    state: Arc<Mutex<State>>,
}

impl Hub {
    /// The network as one member sees it.
    pub(crate) fn network(&self, from: u64) -> Arc<dyn Network> {
        Arc::new(Way {
            hub: self.clone(),
            from,
        })
    }

    pub(crate) fn plug(&self, id: u64, service: Arc<dyn Service>) {
        self.state.lock().services.insert(id, service);
    }

    pub(crate) fn unplug(&self, id: u64) {
        self.state.lock().services.remove(&id);
    }

    /// Cuts a member off from the others, or lets it in again.
    pub(crate) fn isolate(&self, id: u64, isolated: bool) {
        let mut state = self.state.lock();
        let others: Vec<u64> = state.services.keys().copied().collect();
        for other in others {
            for link in [(id, other), (other, id)] {
                match isolated {
                    true => state.cut.insert(link),
                    false => state.cut.remove(&link),
                };
            }
        }
    }

    /// Cuts one direction of a link, for what is sent from now on.
    pub(crate) fn deafen(&self, to: u64, from: u64) {
        self.state.lock().cut.insert((from, to));
    }

    /// Stops a member's traffic as a stopped process does: who calls it waits in vain.
    pub(crate) fn freeze(&self, id: u64, frozen: bool) {
        let mut state = self.state.lock();
        match frozen {
            true => state.frozen.insert(id),
            false => state.frozen.remove(&id),
        };
    }

    /// Loses the answer to the next call on a link; the call is done.
    pub(crate) fn lose_answer(&self, from: u64, to: u64) {
        self.state.lock().losing.insert((from, to));
    }

    /// Whether an answer is still to be lost.
    pub(crate) fn is_losing(&self) -> bool {
        !self.state.lock().losing.is_empty()
    }

    /// Holds the answers to calls on a link, which are done at once, until they are let go.
    pub(crate) fn hold_answers(&self, from: u64, to: u64) {
        let nothing_yet = Arc::new(Semaphore::new(0));
        self.state.lock().held.insert((from, to), nothing_yet);
    }

    /// Lets the answers on a link go.
    pub(crate) fn let_go(&self, from: u64, to: u64) {
        if let Some(held) = self.state.lock().held.remove(&(from, to)) {
            held.add_permits(Semaphore::MAX_PERMITS);
        }
    }

    /// How often a member has called another one.
    pub(crate) fn calls(&self, from: u64, to: u64) -> usize {
        let calls = &self.state.lock().calls;
        calls.get(&(from, to)).copied().unwrap_or_default()
    }

    /// What a member said in its last call of a method.
    pub(crate) fn said(&self, from: u64, method: u32) -> Option<Bytes> {
        let state = self.state.lock();
        state
            .said
            .get(&(from, method))
            .map(|(_, said)| said.clone())
    }

    /// Whom a member called last with a method.
    pub(crate) fn asked(&self, from: u64, method: u32) -> Option<u64> {
        let state = self.state.lock();
        state.said.get(&(from, method)).map(|(to, _)| *to)
    }

    /// How often somebody has tried to open a stream to a member.
    pub(crate) fn streams(&self, to: u64) -> usize {
        self.state
            .lock()
            .streams
            .get(&to)
            .copied()
            .unwrap_or_default()
    }

    /// Holds the snapshots to a member on their way until they are let go.
    pub(crate) fn hold_snapshots(&self, to: u64) {
        let nothing_yet = Arc::new(Semaphore::new(0));
        self.state.lock().held_snapshots.insert(to, nothing_yet);
    }

    /// Lets the snapshots to a member go.
    pub(crate) fn let_snapshots_go(&self, to: u64) {
        if let Some(held) = self.state.lock().held_snapshots.remove(&to) {
            held.add_permits(Semaphore::MAX_PERMITS);
        }
    }

    /// How many snapshots to a member were begun.
    pub(crate) fn snapshots(&self, to: u64) -> usize {
        let snapshots = &self.state.lock().snapshots;
        snapshots.get(&to).copied().unwrap_or_default()
    }

    /// Flips a bit in one frame, whose number is given, of each of the next snapshots to a member.
    pub(crate) fn damage_snapshots(&self, to: u64, frames: &[usize]) {
        let frames = frames.iter().copied().collect();
        self.state.lock().rotting.insert(to, frames);
    }

    /// How many snapshots to a member are still to be damaged.
    pub(crate) fn still_to_damage(&self, to: u64) -> usize {
        let rotting = &self.state.lock().rotting;
        rotting.get(&to).map_or(0, VecDeque::len)
    }

    fn is_frozen(&self, from: u64, to: u64) -> bool {
        let state = self.state.lock();
        state.frozen.contains(&from) || state.frozen.contains(&to)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        let state = self.state.lock();
        state.cut.contains(&(from, to)) || !state.services.contains_key(&to)
    }

    fn service(&self, from: u64, to: u64) -> Result<Arc<dyn Service>, NetError> {
        let unreachable = || NetError::Unreachable(format!("{to:x} is not there"));
        if self.is_cut(from, to) {
            return Err(unreachable());
        }
        let state = self.state.lock();
        state.services.get(&to).cloned().ok_or_else(unreachable)
    }
}

struct Way {
    hub: Hub,
    from: u64,
}

impl Network for Way {
    fn call(
        &self,
        to: u64,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(async move {
            let service = self.hub.service(self.from, to)?;
            if self.hub.is_frozen(self.from, to) {
                tokio::time::sleep(timeout).await;
                return Err(NetError::Timeout);
            }
            let held = {
                let mut state = self.hub.state.lock();
                let link = (self.from, to);
                *state.calls.entry(link).or_default() += 1;
                state.said.insert((self.from, method), (to, body.clone()));
                if state.losing.remove(&link) {
                    let from = self.from;
                    tokio::spawn(async move { service.call(from, method, body).await });
                    return Err(NetError::Lost("the answer is lost".to_owned()));
                }
                state.held.get(&link).cloned()
            };
            let answer = tokio::time::timeout(timeout, service.call(self.from, method, body)).await;
            if let Some(held) = held {
                held.acquire().await.expect("nobody closes it").forget();
            }
            // An answer does not come through a cut either.
            match answer {
                Ok(answer) if !self.hub.is_cut(to, self.from) => answer,
                Ok(_) | Err(_) => Err(NetError::Timeout),
            }
        })
    }

    fn stream(&self, to: u64, method: u32) -> BoxFuture<'_, Result<Duplex, NetError>> {
        Box::pin(async move {
            *self.hub.state.lock().streams.entry(to).or_default() += 1;
            let service = self.hub.service(self.from, to)?;
            let fate = match method {
                SNAPSHOT => {
                    let mut state = self.hub.state.lock();
                    *state.snapshots.entry(to).or_default() += 1;
                    Fate {
                        damage: state.rotting.get_mut(&to).and_then(VecDeque::pop_front),
                        held: state.held_snapshots.get(&to).cloned(),
                    }
                }
                _ => Fate::default(),
            };
            let (ours, theirs) = {
                let (tx, from_us) = mpsc::channel(STREAM_FRAMES_MAX);
                let (to_them, rx_them) = mpsc::channel(STREAM_FRAMES_MAX);
                let (tx_them, from_them) = mpsc::channel(STREAM_FRAMES_MAX);
                let (to_us, rx) = mpsc::channel(STREAM_FRAMES_MAX);
                let (hub, there, back) = (&self.hub, (self.from, to), (to, self.from));
                tokio::spawn(carry(hub.clone(), there, from_us, to_them, fate));
                tokio::spawn(carry(hub.clone(), back, from_them, to_us, Fate::default()));
                let theirs = Duplex {
                    tx: tx_them,
                    rx: rx_them,
                };
                (Duplex { tx, rx }, theirs)
            };
            tokio::spawn(service.stream(self.from, method, theirs));
            Ok(ours)
        })
    }
}

/// What happens to the frames of a stream.
#[derive(Default)]
struct Fate {
    /// The number of the one that is damaged.
    damage: Option<usize>,
    /// What each of them waits for.
    held: Option<Arc<Semaphore>>,
}

/// The frame with a bit flipped in its middle.
fn damaged(frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 1;
    }
    bytes.into()
}

async fn carry(
    hub: Hub,
    (from, to): (u64, u64),
    mut rx: mpsc::Receiver<Bytes>,
    tx: mpsc::Sender<Result<Bytes, NetError>>,
    fate: Fate,
) {
    let mut number = 0;
    while let Some(mut frame) = rx.recv().await {
        if let Some(held) = &fate.held {
            held.acquire().await.expect("nobody closes it").forget();
        }
        if fate.damage == Some(number) {
            frame = damaged(&frame);
        }
        number += 1;
        if hub.is_frozen(from, to) {
            continue;
        }
        if hub.is_cut(from, to) || tx.send(Ok(frame)).await.is_err() {
            return;
        }
    }
}
