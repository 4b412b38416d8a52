//! Publications as server-sent events.
//!
//! The stream begins with `documents`, what is known of all of them, unless `Last-Event-ID` says up to which revision the client has
//! seen. Then come `published` and `deleted`, each with its revision as id. Where history is compacted, `documents` comes again.
//! An event says which version there is and not what it says: who wants it reads the document.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use catena_middleware::error::{Error, reasons};
use catena_registry::config::{self, AppName, Meta, center::Watch};
use futures_util::{Stream, StreamExt, stream};
use http::HeaderMap;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::{Api, body::App, fault::Result};

/// What keeps the ways to the client open, and finds out that it has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Pause before a store that failed is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// A publication, or a deletion if there is no meta.
#[derive(Serialize)]
struct Told<'a> {
    doc: &'a str,
    #[serde(flatten)]
    meta: Option<&'a Meta>,
}

/// Where a stream stands.
struct Following {
    api: Api,
    app: AppName,
    /// The next revision to be told; 0 if all is to be told first.
    next: i64,
    watch: Option<Watch>,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn follow(
    State(api): State<Api>,
    App(app): App,
    headers: HeaderMap,
) -> Result<Response> {
    let place = api.waiting.clone().try_acquire_owned();
    let place = place.map_err(|_full| Error::of(&reasons::OVERLOADED))?;
    let seen = headers.get("last-event-id");
    let seen = seen.and_then(|id| id.to_str().ok()?.parse::<i64>().ok());
    let closing = api.closing.clone();
    let mut following = Following {
        api,
        app,
        next: seen.map_or(0, |seen| seen.saturating_add(1)),
        watch: None,
        _place: place,
    };
    // What is wrong with the first step is answered as any error is.
    let first = following.step().await?;
    let first = stream::iter(first.map(Ok));
    let stream = first
        .chain(following.stream())
        .take_until(closing.cancelled_owned());
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(stream).keep_alive(keep_alive).into_response())
}

impl Following {
    fn stream(self) -> impl Stream<Item = std::result::Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut following| async move {
            loop {
                match following.step().await {
                    Ok(Some(event)) => return Some((Ok(event), following)),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%error, "a stream of publications begins anew");
                        following.watch = None;
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        })
    }

    /// One step further; an event if there is one to tell.
    async fn step(&mut self) -> config::Result<Option<sse::Event>> {
        if self.next == 0 {
            let (documents, read_at) = self.api.center.documents(&self.app).await?;
            self.next = read_at + 1;
            return Ok(event("documents", read_at, &documents));
        }
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                let watch = self.api.center.watch_app(&self.app, self.next).await?;
                self.watch = Some(watch);
                return Ok(None);
            }
        };
        match watch.next().await {
            Ok(told) => {
                self.next = told.revision + 1;
                let kind = if told.meta.is_some() {
                    "published"
                } else {
                    "deleted"
                };
                let content = Told {
                    doc: &told.doc,
                    meta: told.meta.as_ref(),
                };
                Ok(event(kind, told.revision, &content))
            }
            Err(error) => {
                self.watch = None;
                if is_compacted(&error) {
                    self.next = 0;
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

fn event(kind: &str, revision: i64, content: &impl Serialize) -> Option<sse::Event> {
    let event = sse::Event::default().event(kind).id(revision.to_string());
    event.json_data(content).ok()
}
