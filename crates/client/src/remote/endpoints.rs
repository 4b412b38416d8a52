//! The members and which of them is spoken to.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rand::seq::SliceRandom;
use tonic::transport::{Channel, Endpoint};
use tracing::debug;

use super::Options;
use crate::{Error, Result};

/// What a member may send on one stream, a watch or an answer, before it is read. It bounds the memory that a watcher who does not
/// read costs on this side.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The connection's own window is as large as HTTP/2 allows: the streams' windows bound it, and streams that nobody reads
/// cannot use up what the others need.
const CONNECTION_WINDOW_BYTES: u32 = i32::MAX as u32;

/// All endpoints, one of which is the current one until it fails.
#[derive(Clone, Debug)]
pub(super) struct Endpoints {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    members: Vec<(String, Channel)>,
    current: AtomicUsize,
}

/// The endpoint that one attempt uses. Dropped before [`done`](Self::done), because the caller gave up, it counts as failed: the
/// member may hang, and the next call is better sent elsewhere.
pub(super) struct Attempt<'a> {
    endpoints: &'a Endpoints,
    slot: usize,
    done: bool,
}

impl Endpoints {
    pub(super) fn new<S: AsRef<str>>(endpoints: &[S], options: Options) -> Result<Self> {
        let mut members = endpoints
            .iter()
            .map(|endpoint| {
                let endpoint = endpoint.as_ref();
                Ok((endpoint.to_owned(), channel(endpoint, options)?))
            })
            .collect::<Result<Vec<_>>>()?;
        if members.is_empty() {
            return Err(bad("", "no endpoint is given"));
        }
        // Every client starts at another member, else all of them would load the first one in the list.
        members.shuffle(&mut rand::rng());
        Ok(Self {
            inner: Arc::new(Inner {
                members,
                current: AtomicUsize::new(0),
            }),
        })
    }

    /// Attempts that it takes to have asked a majority of the members.
    pub(super) fn majority(&self) -> usize {
        self.inner.members.len() / 2 + 1
    }

    /// Begins an attempt at the current endpoint.
    pub(super) fn attempt(&self) -> (Attempt<'_>, Channel) {
        let slot = self.inner.current.load(Ordering::Relaxed);
        let attempt = Attempt {
            endpoints: self,
            slot,
            done: false,
        };
        (attempt, self.inner.members[slot].1.clone())
    }

    /// Turns to the next endpoint, unless somebody else already did.
    pub(super) fn leave(&self, slot: usize) {
        let next = (slot + 1) % self.inner.members.len();
        let current = &self.inner.current;
        let left = current.compare_exchange(slot, next, Ordering::Relaxed, Ordering::Relaxed);
        if left.is_ok() && next != slot {
            let endpoint = |slot: usize| self.inner.members[slot].0.as_str();
            debug!(from = endpoint(slot), to = endpoint(next), "endpoint left");
        }
    }
}

impl Attempt<'_> {
    /// The endpoint's place in the list.
    pub(super) fn slot(&self) -> usize {
        self.slot
    }

    /// Ends the attempt and stays with the endpoint.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.endpoints.leave(self.slot);
        }
    }
}

fn channel(endpoint: &str, options: Options) -> Result<Channel> {
    let url = match endpoint.split_once("://") {
        None => format!("http://{endpoint}"),
        Some(("http", _)) => endpoint.to_owned(),
        Some((scheme, _)) => {
            return Err(bad(endpoint, format!("scheme {scheme:?} is not supported")));
        }
    };
    let endpoint = Endpoint::from_shared(url)
        .map_err(|error| bad(endpoint, error))?
        .connect_timeout(options.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(options.ping_interval)
        .keep_alive_timeout(options.ping_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint.connect_lazy())
}

fn bad(endpoint: &str, reason: impl ToString) -> Error {
    Error::BadEndpoint {
        endpoint: endpoint.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn endpoint_is_left_once() {
        let endpoints = Endpoints::new(&["a:1", "b:2", "http://c:3"], Options::default()).unwrap();
        endpoints.leave(0);
        endpoints.leave(0);
        assert_eq!(endpoints.attempt().0.slot(), 1);
    }

    #[tokio::test]
    async fn attempt_given_up_leaves_the_endpoint() {
        let endpoints = Endpoints::new(&["a:1", "b:2"], Options::default()).unwrap();
        endpoints.attempt().0.done();
        assert_eq!(endpoints.inner.current.load(Ordering::Relaxed), 0);
        drop(endpoints.attempt());
        assert_eq!(endpoints.inner.current.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn bad_endpoints_are_named() {
        for endpoint in ["ftp://a:1", "http://a b", ""] {
            let error = Endpoints::new(&[endpoint], Options::default()).unwrap_err();
            assert!(matches!(error, Error::BadEndpoint { .. }), "{error}");
        }
        assert!(Endpoints::new::<&str>(&[], Options::default()).is_err());
    }
}
