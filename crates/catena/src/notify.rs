//! What a service manager is told: systemd's notification protocol, one datagram for each change of state.

use std::{env, io, os::unix::net::UnixDatagram};

/// The variable that names the manager's socket.
pub(crate) const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// The member serves.
pub(crate) const READY: &str = "READY=1";

/// The member is about to stop.
pub(crate) const STOPPING: &str = "STOPPING=1";

/// The services of a supervised process have left; its member goes on. systemd shows it as it stands.
pub(crate) const DRAINED: &str = "STATUS=the services have left";

/// Tells the manager, if there is one.
pub(crate) fn tell(state: &str) -> io::Result<()> {
    match env::var(SOCKET_VARIABLE) {
        Ok(path) if !path.is_empty() => send(&path, state),
        _ => Ok(()),
    }
}

/// A path that begins with `@` names a socket of Linux' abstract namespace.
#[cfg(target_os = "linux")]
fn send(path: &str, state: &str) -> io::Result<()> {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send(path: &str, state: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(state.as_bytes(), path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_arrives_at_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), READY).unwrap();
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], READY.as_bytes());
        assert!(send("/nonexistent/socket", READY).is_err());
    }
}
