//! One call: attempts, repetitions, deadline.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout_at};

use super::{
    CallOptions, ChannelOptions, Error,
    deadline::Protocol,
    fleet::{self, Chosen, Fleet, InFlight},
    peers::StreamGuard,
    replay::{Replay, Source},
};
use crate::{
    Endpoint,
    balance::{Class, Context, Key, Outcome},
};

/// Attempts of one call. As many dead instances in a row are passed over before ejection has learned of them.
const ATTEMPTS_MAX: usize = 8;

/// Sends requests to one instance.
pub(super) trait Transport: Send + Sync {
    /// The body of a call.
    type Body: Body<Data = Bytes> + Send + Unpin + 'static;

    /// Makes one attempt, which ends with the head of an answer. Dropping it resets the stream, or closes the connection.
    fn send(
        &self,
        key: Key,
        endpoint: &Endpoint,
        request: Request<Replay<Self::Body>>,
    ) -> impl Future<Output = Result<Sent, Missed>> + Send;
}

/// An attempt with its answer's head.
pub(super) struct Sent {
    pub(super) response: Response<Incoming>,
    /// Held until the answer's end, where connections carry several.
    pub(super) stream: Option<StreamGuard>,
}

/// An attempt without answer.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) fate: Fate,
    pub(super) reason: String,
}

/// What became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// There was no connection.
    Unreachable,
    /// The instance has not looked at it.
    Refused,
    /// The instance may have done it.
    Lost,
}

/// A call with its answer's head.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) chosen: Chosen,
    pub(super) in_flight: InFlight,
    pub(super) stream: Option<StreamGuard>,
    pub(super) deadline: Option<Instant>,
}

/// What all attempts of a call share.
struct Call<'a, B> {
    fleet: &'a Arc<Fleet>,
    options: CallOptions,
    protocol: Protocol,
    parts: http::request::Parts,
    source: Source<B>,
    deadline: Option<Instant>,
    /// Instances that could not be reached.
    dead: Vec<Key>,
    /// Instances that refused. They are asked again if nobody else is left: a connection that reached its age is no sign of illness.
    refused: Vec<Key>,
}

/// Makes a call. The request's URI counts from its path on.
pub(super) async fn call<T: Transport>(
    fleet: &Arc<Fleet>,
    transport: &T,
    protocol: Protocol,
    request: Request<T::Body>,
    settings: &ChannelOptions,
) -> Result<Answered, Error> {
    fleet.note_call();
    let (mut parts, body) = request.into_parts();
    let options: CallOptions = parts.extensions.remove().unwrap_or_default();
    let limit = options.limit;
    let mut call = Call {
        fleet,
        options,
        protocol,
        source: Source::new(body),
        deadline: limit.deadline(&parts.headers, protocol, settings.timeout),
        parts,
        dead: Vec::new(),
        refused: Vec::new(),
    };
    let mut last = None;
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            fleet.note_repeat();
        }
        let (chosen, in_flight) = call.pick(settings.discovery_wait, &mut last).await?;
        match call.attempt(transport, chosen, in_flight).await {
            Ok(answered) => return Ok(answered),
            Err(Ended::Finally(error)) => return Err(error),
            Err(Ended::AskNext(error)) => last = Some(error),
        }
    }
    Err(last.unwrap_or(Error::Deadline))
}

/// How an attempt ended that has no answer.
enum Ended {
    Finally(Error),
    AskNext(Error),
}

impl<B: Body<Data = Bytes> + Send + Unpin + 'static> Call<'_, B> {
    async fn pick(
        &mut self,
        wait: Duration,
        last: &mut Option<Error>,
    ) -> Result<(Chosen, InFlight), Error> {
        let give_up = Instant::now() + wait;
        let give_up = self
            .deadline
            .map_or(give_up, |deadline| deadline.min(give_up));
        let mut aside = false;
        loop {
            let tried = [self.dead.as_slice(), &self.refused].concat();
            let context = Context {
                selector: Some(&self.options.selector),
                hash: self.options.hash,
                tried: &tried,
                aside,
            };
            match self.fleet.pick(&context, give_up).await {
                Ok(picked) => return Ok(picked),
                Err(_none) if !self.refused.is_empty() => self.refused.clear(),
                // Nobody that was thought well could be reached.
                Err(_none) if !aside && !self.dead.is_empty() => aside = true,
                Err(why) => return Err(fleet::nobody(self.fleet, why, last.take())),
            }
        }
    }

    async fn attempt<T: Transport<Body = B>>(
        &mut self,
        transport: &T,
        chosen: Chosen,
        mut in_flight: InFlight,
    ) -> Result<Answered, Ended> {
        let deadline = self.deadline;
        let Some(request) = self.request(&chosen.endpoint)? else {
            // The call before this attempt said why.
            let reason = "its body is too long to be sent again".to_owned();
            return Err(Ended::Finally(refused(&chosen, reason)));
        };
        let sent = transport.send(chosen.key, &chosen.endpoint, request);
        let sent = match deadline {
            Some(deadline) => timeout_at(deadline, sent).await,
            None => Ok(sent.await),
        };
        match sent {
            Ok(Ok(Sent { response, stream })) => {
                in_flight.answered();
                Ok(Answered {
                    response,
                    chosen,
                    in_flight,
                    stream,
                    deadline,
                })
            }
            Ok(Err(missed)) => Err(self.miss(missed, &chosen, in_flight)),
            Err(_elapsed) => {
                in_flight.done(Outcome::from(Class::Failure));
                Err(Ended::Finally(Error::Deadline))
            }
        }
    }

    /// The request for the next attempt; `None` if its body cannot be sent again.
    fn request(&self, endpoint: &Endpoint) -> Result<Option<Request<Replay<B>>>, Ended> {
        let Some(body) = self.source.attempt() else {
            return Ok(None);
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.headers_mut() = self.parts.headers.clone();
        *request.uri_mut() = uri(endpoint, &self.parts.uri);
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Ended::Finally(Error::Deadline));
            }
            self.protocol.stamp(request.headers_mut(), left);
        }
        Ok(Some(request))
    }

    fn miss(&mut self, missed: Missed, chosen: &Chosen, in_flight: InFlight) -> Ended {
        let Missed { fate, reason } = missed;
        match fate {
            Fate::Unreachable => {
                in_flight.done(Outcome::from(Class::Unreachable));
                self.dead.push(chosen.key);
                Ended::AskNext(unreachable(chosen, reason))
            }
            // Not a failure: this is how an instance leaves in good order.
            Fate::Refused => {
                drop(in_flight);
                self.refused.push(chosen.key);
                Ended::AskNext(refused(chosen, reason))
            }
            Fate::Lost => {
                in_flight.done(Outcome::from(Class::Failure));
                let error = lost(chosen, reason);
                if self.is_without_effect() {
                    self.refused.push(chosen.key);
                    Ended::AskNext(error)
                } else {
                    Ended::Finally(error)
                }
            }
        }
    }

    /// Whether the call may be made twice. Of gRPC, only the caller knows.
    fn is_without_effect(&self) -> bool {
        self.protocol == Protocol::Http
            && matches!(
                self.parts.method,
                Method::GET | Method::HEAD | Method::OPTIONS
            )
    }
}

/// The request's path at the instance.
fn uri(endpoint: &Endpoint, uri: &http::Uri) -> http::Uri {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    http::Uri::builder()
        .scheme(endpoint.scheme.as_http())
        .authority(endpoint.address())
        .path_and_query(path)
        .build()
        .expect("an endpoint's address is an authority, and the path was one's")
}

fn names(chosen: &Chosen) -> (String, String) {
    (chosen.instance.id.clone(), chosen.endpoint.address())
}

fn unreachable(chosen: &Chosen, reason: String) -> Error {
    let (instance, address) = names(chosen);
    Error::Unreachable {
        instance,
        address,
        reason,
    }
}

fn refused(chosen: &Chosen, reason: String) -> Error {
    let (instance, address) = names(chosen);
    Error::Refused {
        instance,
        address,
        reason,
    }
}

pub(super) fn lost(chosen: &Chosen, reason: String) -> Error {
    let (instance, address) = names(chosen);
    Error::Lost {
        instance,
        address,
        reason,
    }
}

/// The body of a request that is sent once, outside of any call.
pub(super) fn once<B>(body: B) -> Replay<B> {
    let attempt = Source::new(body).attempt();
    attempt.expect("nothing has been read of it")
}
