//! Connections that one thread serves.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Instant,
};

use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

use super::Connection;

/// Connections told in one wait; the others are told in the next.
const EVENTS_MAX: usize = 128;
/// What the timer's events carry in the place of a connection's index.
const TIMER: u64 = u64::MAX;

/// Connections and a timer behind one epoll set.
///
/// Edge-triggered, so that a socket that is written to again after it was full needs no change of the set.
pub(crate) struct Fleet {
    pub(crate) connections: Vec<Connection>,
    epoll: OwnedFd,
    /// epoll's own timeout counts whole milliseconds, which is longer than most operations take.
    timer: OwnedFd,
    armed: Option<Instant>,
    events: Vec<epoll::Event>,
}

impl Fleet {
    /// Opens `count` connections, spread evenly over the addresses.
    pub(crate) fn connect(addresses: &[SocketAddr], count: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), edge)?;
        let mut connections = Vec::with_capacity(count);
        for (index, address) in addresses.iter().cycle().take(count).enumerate() {
            let mut connection = Connection::open(*address)?;
            let data = EventData::new_u64(index as u64);
            epoll::add(&epoll, connection.socket(), data, edge | EventFlags::OUT)?;
            connection.flush()?;
            connections.push(connection);
        }
        Ok(Self {
            connections,
            epoll,
            timer,
            armed: None,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Waits until a connection has something to say or takes more, or until a moment has come; `ready` gets the connections.
    pub(crate) fn wait(&mut self, until: Instant, ready: &mut Vec<usize>) -> io::Result<()> {
        ready.clear();
        if self.armed != Some(until) {
            self.arm(until)?;
        }
        self.events.clear();
        let events = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(self.epoll.as_fd(), events, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        for event in &self.events {
            match event.data.u64() {
                TIMER => self.armed = None,
                index => ready.push(usize::try_from(index).expect("it was a usize")),
            }
        }
        Ok(())
    }

    fn arm(&mut self, until: Instant) -> io::Result<()> {
        let wait = until.saturating_duration_since(Instant::now());
        // All zero would disarm it.
        let value = Timespec {
            tv_sec: wait.as_secs().try_into().expect("runs are short"),
            tv_nsec: i64::from(wait.subsec_nanos()).max(1),
        };
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: value,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        self.armed = Some(until);
        Ok(())
    }
}
