//! The `Host` header: whom a request was meant for.

use std::net::IpAddr;

use axum::body::Body;
use http::{Request, Version, header, uri::Authority};

use crate::error::{Error, Result, reasons};

/// Which hosts are served.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// Loopback's names, addresses of the loopback network, and these.
    Loopback(Vec<String>),
    /// All: `--insecure`.
    Any,
}

impl Hosts {
    /// Refuses a request without one host (400), or with one that is not served here (421).
    pub fn admit(&self, request: &Request<Body>) -> Result<()> {
        let authority = authority(request)?;
        let Self::Loopback(more) = self else {
            return Ok(());
        };
        let host = authority.host();
        let served = is_loopback(host) || more.iter().any(|name| name.eq_ignore_ascii_case(host));
        if served {
            Ok(())
        } else {
            Err(Error::of(&reasons::HOST_NOT_ALLOWED))
        }
    }
}

/// What HTTP/2 has in `:authority` and HTTP/1.1 in `Host`.
pub(super) fn authority(request: &Request<Body>) -> Result<Authority> {
    let wanting = || Error::of(&reasons::HOST_REQUIRED);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(wanting());
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.clone());
    }
    match host {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(|_malformed| wanting()),
        // HTTP/1.0 has no such header. No browser speaks it.
        None if request.version() == Version::HTTP_10 => Ok(Authority::from_static("localhost")),
        None => Err(wanting()),
    }
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || literal
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(host: &str) -> Request<Body> {
        Request::builder()
            .header("host", host)
            .body(Body::empty())
            .unwrap()
    }

    #[test]
    fn loopback_is_served_and_others_are_not() {
        let hosts = Hosts::Loopback(vec!["dev.example".to_owned()]);
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "127.0.0.1:80",
            "127.1.2.3",
            "[::1]:8080",
            "dev.example:1",
        ] {
            assert!(hosts.admit(&with(host)).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0",
        ] {
            let error = hosts.admit(&with(host)).unwrap_err();
            assert!(error.is(&reasons::HOST_NOT_ALLOWED), "{host}");
        }
        assert!(Hosts::Any.admit(&with("evil.example")).is_ok());
    }

    #[test]
    fn one_host_is_needed() {
        let none = Request::new(Body::empty());
        let mut two = with("localhost");
        two.headers_mut()
            .append("host", "localhost".parse().unwrap());
        for request in [none, two, with("a b"), with("")] {
            let error = Hosts::Any.admit(&request).unwrap_err();
            assert!(error.is(&reasons::HOST_REQUIRED));
        }
    }
}
