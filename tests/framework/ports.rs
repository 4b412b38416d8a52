//! Free loopback ports.
//!
//! Ports are taken from below the range from which the kernel gives ports to outgoing connections, so no connection of a client
//! can occupy the port of a member that is about to restart. Each test process begins at another place.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

const FIRST: u32 = 11_000;
const COUNT: u32 = 20_000;

/// A port on 127.0.0.1 that nobody listens on and that this process has not given out before.
pub fn free() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // An odd stride far from the size of one suite's use keeps processes that run side by side apart.
    let start = process::id().wrapping_mul(617);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).expect("FIRST + COUNT is below 65536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Members of `catena up` are started from here on: above the range of outgoing connections, where its steps of 10000 have no room, so
/// that it puts them side by side.
const HIGH: u16 = 61_000;
const HIGH_COUNT: u16 = 4_000;

/// The first of `count` ports in a row that nobody listens on and that this process has not given out before.
pub fn free_row(count: u16) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = process::id().wrapping_mul(31);
    loop {
        let step = NEXT.fetch_add(u32::from(count), Ordering::Relaxed);
        let offset = start.wrapping_add(step) % u32::from(HIGH_COUNT);
        let first = HIGH + u16::try_from(offset).expect("HIGH_COUNT is a port");
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if (first..first + count).all(free) {
            return first;
        }
    }
}
