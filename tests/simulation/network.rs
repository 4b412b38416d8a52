//! The links between members.
//!
//! Every frame takes a random time: frames of one stream stay in order, calls and streams overtake each other. A direction of a link
//! may be cut, lossy, slow or frozen, and may deliver a call twice, the second time much later. What a caller learns then is what TCP
//! would tell it: nothing until its timeout, or that the connection failed. A member that crashes closes its streams, and calls that it
//! was serving end without an answer.
//!
//! A snapshot on its way may be damaged, as when the disk that it is read from returns other bytes than were written: its frames have
//! checksums for that. What else members send is made of what they hold in memory.
//!
//! Doubles are those of a sender that tries again or of a proxy, so only calls may have them, and only calls that ask for nothing but a
//! vote or a sign of life: everything else relies on the order and uniqueness that a connection gives, as it may.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use catena_runtime::{BoxFuture, Duplex, NetError, Network, STREAM_FRAMES_MAX, Service};
use futures_util::future::{self, Either};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::world::{self, Chance, Event, Group, covered, digest};

/// How long a stream survives a cut before its ends are told.
const BROKEN_AFTER: Duration = Duration::from_secs(1);

/// How often a stream looks whether its link is whole again.
const RETRY: Duration = Duration::from_millis(10);

/// One direction of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) micros_min: u64,
    pub(crate) micros_max: u64,
    /// Nothing passes.
    pub(crate) cut: bool,
    /// Streams hold what they carry, and say nothing.
    pub(crate) frozen: bool,
    /// One frame in so many is lost; none if it is 0. A stream sends it again, later.
    pub(crate) lost_once_in: u64,
    /// One call in so many that may be delivered twice is; none if it is 0.
    pub(crate) doubled_once_in: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            micros_min: 100,
            micros_max: 1000,
            cut: false,
            frozen: false,
            lost_once_in: 0,
            doubled_once_in: 0,
        }
    }
}

struct Attached {
    service: Arc<dyn Service>,
    /// What runs on behalf of others.
    tasks: Group,
}

#[derive(Default)]
struct State {
    links: BTreeMap<(u64, u64), Link>,
    attached: BTreeMap<u64, Attached>,
    /// Counts processes: what an older one sends goes nowhere.
    processes: BTreeMap<u64, u64>,
    streams: Vec<Weak<Stream>>,
    /// Calls and frames, to tell them apart.
    sent: u64,
    /// The last call that arrived, by link.
    arrived: BTreeMap<(u64, u64), u64>,
}

/// All links.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<State>>,
    chance: Chance,
}

impl Net {
    pub(crate) fn new(chance: &Chance) -> Self {
        Self {
            state: Arc::default(),
            chance: chance.fork(),
        }
    }

    /// The network as the process of `member` that now starts sees it.
    pub(crate) fn port(&self, member: u64) -> Arc<dyn Network> {
        let mut state = self.state.lock();
        let process = state.processes.entry(member).or_default();
        *process += 1;
        Arc::new(Port {
            net: self.clone(),
            from: End {
                member,
                process: *process,
            },
        })
    }

    /// Lets `service` answer for the running process of `member`.
    pub(crate) fn attach(&self, member: u64, service: Arc<dyn Service>) {
        let attached = Attached {
            service,
            tasks: Group::default(),
        };
        self.state.lock().attached.insert(member, attached);
    }

    /// Ends the process of `member`: its streams close, its calls end.
    pub(crate) fn crash(&self, member: u64) {
        let mut state = self.state.lock();
        *state.processes.entry(member).or_default() += 1;
        let attached = state.attached.remove(&member);
        let streams = std::mem::take(&mut state.streams);
        let (gone, left) = streams.into_iter().partition(|stream| {
            stream
                .upgrade()
                .is_some_and(|stream| stream.has_end(member))
        });
        state.streams = left;
        drop(state);
        if let Some(attached) = attached {
            attached.tasks.abort();
        }
        for stream in gone.iter().filter_map(Weak::upgrade) {
            stream.break_off("the peer crashed");
        }
    }

    /// Changes the link from one member to another.
    pub(crate) fn set(&self, from: u64, to: u64, change: impl FnOnce(&mut Link)) {
        change(self.state.lock().links.entry((from, to)).or_default());
    }

    /// Cuts or mends both directions between two groups.
    pub(crate) fn partition(&self, one: &[u64], other: &[u64], cut: bool) {
        for from in one {
            for to in other {
                self.set(*from, *to, |link| link.cut = cut);
                self.set(*to, *from, |link| link.cut = cut);
            }
        }
    }

    /// Makes all links whole.
    pub(crate) fn heal(&self) {
        self.state.lock().links.clear();
    }

    /// Streams to a member that are open at both ends.
    pub(crate) fn streams_to(&self, member: u64) -> usize {
        let state = self.state.lock();
        let streams = state.streams.iter().filter_map(Weak::upgrade);
        streams
            .filter(|stream| stream.ends[1].member == member)
            .count()
    }

    fn link(&self, from: u64, to: u64) -> Link {
        let state = self.state.lock();
        state.links.get(&(from, to)).copied().unwrap_or_default()
    }

    /// Carries one frame; false if it is lost on the way.
    async fn carry(&self, from: End, to: u64) -> bool {
        let link = self.link(from.member, to);
        let spread = link.micros_max.saturating_sub(link.micros_min);
        let time = Duration::from_micros(link.micros_min) + self.chance.micros(spread);
        world::sleep(time).await;
        let held = || self.link(from.member, to).frozen;
        if held() {
            covered(Event::MessageHeld);
        }
        while held() {
            world::sleep(RETRY).await;
        }
        let cut = self.link(from.member, to).cut;
        if cut {
            covered(Event::MessageCut);
        }
        let lost = link.lost_once_in > 0 && self.chance.once_in(link.lost_once_in);
        if lost {
            covered(Event::MessageLost);
        }
        !lost && !cut && self.is_alive(from)
    }

    /// A number for what is sent.
    fn sends(&self) -> u64 {
        let mut state = self.state.lock();
        state.sent += 1;
        state.sent
    }

    /// Notes whether a call has overtaken another on its link.
    fn arrives(&self, from: u64, to: u64, number: u64) {
        let mut state = self.state.lock();
        let last = state.arrived.entry((from, to)).or_default();
        if *last > number {
            covered(Event::MessageReordered);
        }
        *last = number.max(*last);
    }

    fn is_alive(&self, end: End) -> bool {
        self.state.lock().processes.get(&end.member) == Some(&end.process)
    }

    /// The running process of a member that answers.
    fn serving(&self, member: u64) -> Option<(End, Arc<dyn Service>)> {
        let state = self.state.lock();
        let service = state.attached.get(&member)?.service.clone();
        let process = *state.processes.get(&member)?;
        Some((End { member, process }, service))
    }

    /// Runs something on behalf of another member, as long as this process lives.
    fn run(&self, on: End, work: impl Future<Output = ()> + Send + 'static) {
        let state = self.state.lock();
        if state.processes.get(&on.member) == Some(&on.process)
            && let Some(attached) = state.attached.get(&on.member)
        {
            world::spawn(attached.tasks.join(work));
        }
    }
}

/// A process of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    member: u64,
    process: u64,
}

struct Port {
    net: Net,
    from: End,
}

fn unreachable(why: &str) -> NetError {
    NetError::Unreachable(why.to_owned())
}

fn lost(why: &str) -> NetError {
    NetError::Lost(why.to_owned())
}

/// Calls that may be delivered twice: votes, votes on trial, heartbeats.
const DOUBLED: [u32; 3] = [1, 2, 4];

/// The method of a stream that is a snapshot.
const SNAPSHOT: u32 = 6;

/// One frame of a snapshot in so many is damaged.
const DAMAGED_ONCE_IN: u64 = 25;

/// Longest time after which a call is delivered again.
const DOUBLE_MICROS_MAX: u64 = 3_000_000;

impl Port {
    /// Request there, answer back.
    async fn exchange(&self, to: u64, method: u32, body: Bytes) -> Result<Bytes, NetError> {
        let (net, from) = (&self.net, self.from.member);
        let number = net.sends();
        let told = |what: &str, body: &Bytes| {
            let (bytes, digest) = (body.len(), digest(body));
            world::tell(|| {
                format!(
                    "call {number} {from:x}>{to:x} method {method} {what}: {bytes} bytes {digest:08x}"
                )
            });
        };
        told("asks", &body);
        if !net.carry(self.from, to).await {
            told("is lost", &body);
            return future::pending().await;
        }
        net.arrives(from, to, number);
        let Some((end, service)) = net.serving(to) else {
            covered(Event::CallUnreachable);
            return Err(unreachable("connection refused"));
        };
        told("arrives", &body);
        self.double((end, &service), method, &body);
        let (answer, answered) = oneshot::channel();
        net.run(end, async move {
            // The caller may have given up.
            let _gone = answer.send(service.call(from, method, body).await);
        });
        let answer = answered.await.unwrap_or(Err(lost("the peer crashed")));
        match net.carry(end, from).await {
            true => {
                let nothing = Bytes::new();
                told("is answered", answer.as_ref().unwrap_or(&nothing));
                answer
            }
            false if net.is_alive(end) => future::pending().await,
            false => Err(lost("the peer crashed")),
        }
    }

    /// Delivers a call a second time, later; nobody waits for that answer.
    fn double(&self, (end, service): (End, &Arc<dyn Service>), method: u32, body: &Bytes) {
        let (net, from) = (&self.net, self.from.member);
        let once_in = net.link(from, end.member).doubled_once_in;
        if !DOUBLED.contains(&method) || once_in == 0 || !net.chance.once_in(once_in) {
            return;
        }
        let (service, body) = (service.clone(), body.clone());
        let later = net.chance.micros(DOUBLE_MICROS_MAX);
        net.run(end, async move {
            world::sleep(later).await;
            world::tell(|| {
                format!(
                    "a call {from:x}>{:x} method {method} arrives again",
                    end.member
                )
            });
            covered(Event::MessageDuplicated);
            let _unheard = service.call(from, method, body).await;
        });
    }
}

impl Network for Port {
    fn call(
        &self,
        to: u64,
        method: u32,
        body: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, NetError>> {
        Box::pin(async move {
            if !self.net.is_alive(self.from) {
                return Err(unreachable("this process has crashed"));
            }
            let exchange = std::pin::pin!(self.exchange(to, method, body));
            let timeout = std::pin::pin!(world::sleep(timeout));
            match future::select(exchange, timeout).await {
                Either::Left((answer, _)) => answer,
                Either::Right(((), _)) => {
                    covered(Event::CallTimeout);
                    Err(NetError::Timeout)
                }
            }
        })
    }

    fn stream(&self, to: u64, method: u32) -> BoxFuture<'_, Result<Duplex, NetError>> {
        Box::pin(async move {
            let net = &self.net;
            if !net.carry(self.from, to).await || !net.carry(self.from, to).await {
                return Err(unreachable("connection timed out"));
            }
            let Some((end, service)) = net.serving(to) else {
                return Err(unreachable("connection refused"));
            };
            let (ours, theirs) = Stream::open(net, (self.from, end), method);
            net.run(end, service.stream(self.from.member, method, theirs));
            Ok(ours)
        })
    }
}

type Frames = mpsc::Sender<Result<Bytes, NetError>>;

/// An open stream, as long as something still comes through.
struct Stream {
    net: Net,
    ends: [End; 2],
    method: u32,
    to: [mpsc::WeakSender<Result<Bytes, NetError>>; 2],
    broken: Mutex<bool>,
}

impl Stream {
    /// Opens a stream between two processes; gives the end of each.
    fn open(net: &Net, (one, other): (End, End), method: u32) -> (Duplex, Duplex) {
        let (one_tx, from_one) = mpsc::channel(STREAM_FRAMES_MAX);
        let (other_tx, from_other) = mpsc::channel(STREAM_FRAMES_MAX);
        let (to_one, one_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let (to_other, other_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let stream = Arc::new(Self {
            net: net.clone(),
            ends: [one, other],
            method,
            to: [to_one.downgrade(), to_other.downgrade()],
            broken: Mutex::new(false),
        });
        let mut state = net.state.lock();
        state.streams.retain(|stream| stream.strong_count() > 0);
        state.streams.push(Arc::downgrade(&stream));
        drop(state);
        stream.clone().pump((one, other), from_one, to_other);
        stream.pump((other, one), from_other, to_one);
        let one = Duplex {
            tx: one_tx,
            rx: one_rx,
        };
        let other = Duplex {
            tx: other_tx,
            rx: other_rx,
        };
        (one, other)
    }

    fn has_end(&self, member: u64) -> bool {
        self.ends.iter().any(|end| end.member == member)
    }

    /// Tells both ends, and carries nothing more.
    fn break_off(&self, why: &str) {
        *self.broken.lock() = true;
        covered(Event::StreamBroken);
        let [one, other] = self.ends.map(|end| end.member);
        world::tell(|| format!("stream {one:x}-{other:x} breaks: {why}"));
        for to in self.to.iter().filter_map(mpsc::WeakSender::upgrade) {
            // A full queue means that its reader learns it by the end of the stream.
            let _full = to.try_send(Err(lost(why)));
        }
    }

    /// Carries the frames of one direction until an end closes it.
    fn pump(self: Arc<Self>, way: (End, End), mut from: mpsc::Receiver<Bytes>, to: Frames) {
        let carry = async move {
            loop {
                let closed = std::pin::pin!(to.closed());
                let next = std::pin::pin!(from.recv());
                let Either::Left((Some(frame), _)) = future::select(next, closed).await else {
                    return;
                };
                if !self.deliver(way, &frame).await {
                    return;
                }
                let frame = self.damaged(way, frame);
                if to.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
        };
        // The pump ends by itself when either end is dropped or the stream breaks.
        world::spawn(carry);
    }

    /// A frame as it arrives: one of a snapshot may have another bit.
    fn damaged(&self, (from, _): (End, End), frame: Bytes) -> Bytes {
        let is_read_from_disk = self.method == SNAPSHOT && from == self.ends[0];
        let chance = &self.net.chance;
        if !is_read_from_disk || frame.is_empty() || !chance.once_in(DAMAGED_ONCE_IN) {
            return frame;
        }
        let mut frame = frame.to_vec();
        let byte = chance.below(frame.len() as u64) as usize;
        frame[byte] ^= 1 << chance.below(8);
        world::tell(|| format!("a frame of a snapshot is damaged at byte {byte}"));
        covered(Event::SnapshotDamaged);
        frame.into()
    }

    /// Waits until a frame is across; false if the stream broke.
    async fn deliver(&self, (from, to): (End, End), frame: &Bytes) -> bool {
        let number = self.net.sends();
        let told = |what: &str| {
            let (from, to, bytes) = (from.member, to.member, frame.len());
            world::tell(|| {
                format!(
                    "frame {number} {from:x}>{to:x} {what}: {bytes} bytes {:08x}",
                    digest(frame)
                )
            });
        };
        told("leaves");
        let mut stuck_since = None;
        loop {
            // What is held is not even on its way, so that a stream says nothing however long it is.
            let link = self.net.link(from.member, to.member);
            let across = !link.frozen && self.net.carry(from, to.member).await;
            if *self.broken.lock() {
                return false;
            }
            if across {
                told("arrives");
                return true;
            }
            let since = *stuck_since.get_or_insert_with(world::now);
            if link.frozen {
                covered(Event::MessageHeld);
            } else if world::now() - since > BROKEN_AFTER {
                self.break_off("the connection timed out");
                return false;
            } else {
                covered(Event::MessageResent);
            }
            world::sleep(RETRY).await;
        }
    }
}
