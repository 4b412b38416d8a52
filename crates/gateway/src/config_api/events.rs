//! Publications as they are made: as server-sent events, or as messages of a WebSocket for who asks for one.
//!
//! Both begin with `documents`, what is known of all of them, with the revision as id, unless `Last-Event-ID` says which event the
//! client saw last; who cannot send that header says `?last-event-id=`. Then come `published` and `deleted`, each with its revision and
//! its number among the events of that revision as id: `7.1`, `7.2`. Where history is compacted, `documents` comes again. An event says
//! which version there is and not what it says: who wants it reads the document.
//!
//! Nothing is fetched ahead: the next event is looked for when the client has taken the one before, so a slow one costs one event
//! and not a queue.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{
        State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use catena_middleware::{
    error::{Error, reasons},
    validate::Violation,
};
use catena_registry::config::{self, AppName, Meta, center::Watch};
use futures_util::{Stream, StreamExt, stream};
use http::{HeaderMap, header};
use serde::Serialize;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::{Api, body::App, fault::Result, place::Place, socket};
use crate::extract::Query;

/// What keeps the ways to the client open, and finds out that it has gone.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Pause before a store that failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What a client is told; as it stands, a message of a WebSocket.
#[derive(Serialize)]
pub(super) struct Event {
    id: String,
    event: &'static str,
    data: serde_json::Value,
}

impl Event {
    /// None if the content is not JSON, which what is told here always is.
    fn new(id: impl ToString, event: &'static str, content: &impl Serialize) -> Option<Self> {
        let data = serde_json::to_value(content).ok()?;
        let id = id.to_string();
        Some(Self { id, event, data })
    }

    fn into_sse(self) -> sse::Event {
        let event = sse::Event::default().event(self.event);
        event.id(self.id).data(self.data.to_string())
    }
}

/// A publication, or a deletion if there is no meta.
#[derive(Serialize)]
struct Told<'a> {
    doc: &'a str,
    #[serde(flatten)]
    meta: Option<&'a Meta>,
}

/// A client that is told what happens.
pub(super) struct Following {
    api: Api,
    app: AppName,
    /// What it was told.
    place: Place,
    /// What happens, and how far that has been read: behind the client's place at first, if that is among the events of a revision.
    watch: Option<(Watch, Place)>,
    /// The store is left alone until then.
    pause: Option<Instant>,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn follow(
    State(api): State<Api>,
    App(app): App,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: HeaderMap,
    query: Query,
) -> Result<Response> {
    let upgrade = wanted(upgrade, &headers)?;
    let seen = seen(&headers, query)?;
    let place = api.waiting.clone().try_acquire_owned();
    let place = place.map_err(|_full| Error::of(&reasons::OVERLOADED))?;
    let closing = api.closing.clone();
    let mut following = Following {
        api,
        app,
        place: seen.unwrap_or(Place::START),
        watch: None,
        pause: None,
        _place: place,
    };
    // What is wrong with the first step is answered as any error is.
    let first = following.step().await?;
    if let Some(upgrade) = upgrade {
        return Ok(socket::answer(upgrade, first, following, closing));
    }
    let stream = stream::iter(first)
        .chain(following.stream())
        .map(|event| Ok::<_, Infallible>(event.into_sse()))
        .take_until(closing.cancelled_owned());
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(stream).keep_alive(keep_alive).into_response())
}

/// The handshake of a WebSocket, if the client began one.
fn wanted(
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: &HeaderMap,
) -> Result<Option<WebSocketUpgrade>> {
    let asked = headers
        .get(header::UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    match upgrade {
        Ok(upgrade) => Ok(Some(upgrade)),
        Err(rejection) if asked => {
            let wrong = Violation::new("upgrade", "websocket", rejection.body_text());
            Err(Error::invalid(vec![wrong]).into())
        }
        Err(_none) => Ok(None),
    }
}

/// What the client says it was told. A header that is no id counts as none, as that of any event source.
fn seen(headers: &HeaderMap, mut query: Query) -> Result<Option<Place>> {
    let asked = query.text("last-event-id");
    query.finish()?;
    if let Some(text) = asked {
        let seen = Place::of_id(&text).ok_or_else(|| {
            let wrong = Violation::new("last-event-id", "id", "must be the id of an event");
            Error::invalid(vec![wrong])
        })?;
        return Ok(Some(seen));
    }
    let header = headers.get("last-event-id");
    Ok(header.and_then(|id| Place::of_id(id.to_str().ok()?)))
}

impl Following {
    fn stream(self) -> impl Stream<Item = Event> {
        stream::unfold(self, |mut following| async move {
            let event = following.next().await;
            Some((event, following))
        })
    }

    /// The next event, however long it takes. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            if let Some(until) = self.pause {
                sleep_until(until).await;
                self.pause = None;
            }
            match self.step().await {
                Ok(Some(event)) => return event,
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "a stream of publications begins anew");
                    self.watch = None;
                    self.pause = Some(Instant::now() + PAUSE);
                }
            }
        }
    }

    /// One step further; an event if there is one to tell.
    async fn step(&mut self) -> config::Result<Option<Event>> {
        if self.place.revision() == 0 {
            let (documents, read_at) = self.api.center.documents(&self.app).await?;
            self.place = Place::after(read_at);
            return Ok(Event::new(read_at, "documents", &documents));
        }
        let Some((watch, reached)) = &mut self.watch else {
            let from = self.place.revision();
            let watch = self.api.center.watch_app(&self.app, from).await?;
            self.watch = Some((watch, self.place.of_watch()));
            return Ok(None);
        };
        match watch.next().await {
            Ok(told) => {
                *reached = reached.next(told.revision);
                if *reached <= self.place {
                    return Ok(None);
                }
                self.place = *reached;
                let kind = if told.meta.is_some() {
                    "published"
                } else {
                    "deleted"
                };
                let content = Told {
                    doc: &told.doc,
                    meta: told.meta.as_ref(),
                };
                Ok(Event::new(self.place, kind, &content))
            }
            Err(error) => {
                self.watch = None;
                if is_compacted(&error) {
                    self.place = Place::START;
                    return Ok(None);
                }
                Err(error)
            }
        }
    }
}

fn is_compacted(error: &config::Error) -> bool {
    match error {
        config::Error::Store(error) => error.is_compacted(),
        _ => false,
    }
}
