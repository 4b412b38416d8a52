//! The address under which the default route leaves this machine.

use std::net::{IpAddr, UdpSocket};

/// The address, or nothing on a machine without a default route. Connecting a datagram socket sends nothing: it only makes the
/// system choose the route, here to addresses reserved for documentation.
pub(crate) fn of_default_route() -> Option<String> {
    let v4 = source("0.0.0.0:0", "192.0.2.1:9");
    v4.or_else(|| source("[::]:0", "[2001:db8::1]:9"))
        .filter(|address| !address.is_unspecified() && !address.is_loopback())
        .map(|address| address.to_string())
}

fn source(from: &str, to: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
