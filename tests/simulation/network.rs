//! The links between members.
//!
//! Every frame takes a random time, frames of one stream in order. A direction of a link may be cut, lossy, slow or frozen. What a
//! caller learns then is what TCP would tell it: nothing until its timeout, or that the connection failed. A member that crashes
//! closes its streams, and calls that it was serving end without an answer.

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

use crate::world::{self, Chance, Group};

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
}

impl Default for Link {
    fn default() -> Self {
        Self {
            micros_min: 100,
            micros_max: 1000,
            cut: false,
            frozen: false,
            lost_once_in: 0,
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
        let lost = link.lost_once_in > 0 && self.chance.once_in(link.lost_once_in);
        !lost && !self.link(from.member, to).cut && self.is_alive(from)
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

impl Port {
    /// Request there, answer back.
    async fn exchange(&self, to: u64, method: u32, body: Bytes) -> Result<Bytes, NetError> {
        let net = &self.net;
        if !net.carry(self.from, to).await {
            return future::pending().await;
        }
        let Some((end, service)) = net.serving(to) else {
            return Err(unreachable("connection refused"));
        };
        let (answer, answered) = oneshot::channel();
        let from = self.from.member;
        net.run(end, async move {
            // The caller may have given up.
            let _gone = answer.send(service.call(from, method, body).await);
        });
        let answer = answered.await.unwrap_or(Err(lost("the peer crashed")));
        match net.carry(end, self.from.member).await {
            true => answer,
            false if net.is_alive(end) => future::pending().await,
            false => Err(lost("the peer crashed")),
        }
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
                Either::Right(((), _)) => Err(NetError::Timeout),
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
            let (ours, theirs) = Stream::open(net, self.from, end);
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
    to: [mpsc::WeakSender<Result<Bytes, NetError>>; 2],
    broken: Mutex<bool>,
}

impl Stream {
    /// Opens a stream between two processes; gives the end of each.
    fn open(net: &Net, one: End, other: End) -> (Duplex, Duplex) {
        let (one_tx, from_one) = mpsc::channel(STREAM_FRAMES_MAX);
        let (other_tx, from_other) = mpsc::channel(STREAM_FRAMES_MAX);
        let (to_one, one_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let (to_other, other_rx) = mpsc::channel(STREAM_FRAMES_MAX);
        let stream = Arc::new(Self {
            net: net.clone(),
            ends: [one, other],
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
                if !self.deliver(way).await {
                    return;
                }
                if to.send(Ok(frame)).await.is_err() {
                    return;
                }
            }
        };
        // The pump ends by itself when either end is dropped or the stream breaks.
        world::spawn(carry);
    }

    /// Waits until a frame is across; false if the stream broke.
    async fn deliver(&self, (from, to): (End, End)) -> bool {
        let mut stuck_since = None;
        loop {
            let link = self.net.link(from.member, to.member);
            let across = !link.frozen && self.net.carry(from, to.member).await;
            if *self.broken.lock() {
                return false;
            }
            if across {
                return true;
            }
            let since = *stuck_since.get_or_insert_with(world::now);
            if !link.frozen && world::now() - since > BROKEN_AFTER {
                self.break_off("the connection timed out");
                return false;
            }
            world::sleep(RETRY).await;
        }
    }
}
