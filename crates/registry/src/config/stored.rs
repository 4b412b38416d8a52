//! Following the store's documents: read all at a revision, watch from the next, and begin anew where that cannot go on.
//!
//! A publication writes a document and its meta in one revision, at keys that no one watch covers. So documents are watched, and with
//! each event document and meta are read *as of the event's revision*: what belongs together comes together, however late it is seen, and a
//! document that was written by hand shows as one without a version. These are single reads: a transaction that only reads, given up by
//! its client, ends the process of an etcd before 3.5.5. No version is passed over, except where history is
//! compacted: then all is read again and the difference is what comes next.
//!
//! A watch that is cut off goes on where it was. It survives its connection, the loss of members and their return ([`catena_client::Watcher`]); what it does not survive shows
//! as an error, or, when a store comes back from a backup, as silence. So an idle follower looks now and then whether the store's
//! revision and publications are those that it knows.

use std::{sync::Arc, time::Duration};

use catena_client::{
    Kv, Watcher, pb,
    pb::{EventType, KeyValueView, WatchCreateRequest},
    request,
};
use futures_util::{
    StreamExt,
    future::{try_join, try_join_all},
    stream::SelectAll,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use super::{
    apply::{News, Source},
    held::{Found, Held, Mark, Scope},
    key::Kind,
    layer::Document,
};

/// What is read of each application, documents before their metas.
const KINDS: [Kind; 3] = [Kind::Document, Kind::Meta, Kind::Gray];

/// What is watched of each application.
const WATCHED: [Kind; 2] = [Kind::Document, Kind::Gray];

/// Events whose documents are read at the same time, each by two calls.
const READ_MAX: usize = 16;

/// How long nothing may come before the store's revision is looked at.
const IDLE: Duration = Duration::from_secs(5);

/// Pauses before the store is asked again; doubling, with jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Follows the documents of a scope.
pub(crate) struct Follower {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) scope: Scope,
    /// What the last run knew, by which a store that was set back is recognised.
    pub(crate) before: Vec<Document>,
    pub(crate) held: Held,
    /// The next revision of each watch, in the order of [`Follower::parts`]; none if all has to be read first.
    pub(crate) cursors: Vec<i64>,
}

/// Why a round of following ended.
enum End {
    /// Nobody listens any more.
    Gone,
    /// The store failed, or set itself back.
    Store(catena_client::Error),
    /// The watches cannot go on; all has to be read again.
    Behind,
}

impl From<catena_client::Error> for End {
    fn from(error: catena_client::Error) -> Self {
        Self::Store(error)
    }
}

type Result<T> = std::result::Result<T, End>;

impl Follower {
    /// Follows until nobody listens.
    pub(crate) async fn run(mut self, news: mpsc::Sender<News>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let mark = self.held.mark;
            let end = self.round(&news).await;
            if self.held.mark != mark {
                backoff = BACKOFF_MIN;
            }
            match end {
                Ok(()) | Err(End::Gone) => return,
                Err(End::Behind) => debug!("watches of the configuration begin anew"),
                Err(End::Store(error)) => {
                    debug!(%error, "the configuration cannot be read from the store");
                    let silent = News::Silent(Source::Store, error.into());
                    if news.send(silent).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                () = sleep(backoff.mul_f64(rand::random_range(0.5..1.0))) => {}
                () = news.closed() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Reads all, then carries changes until the watches end.
    async fn round(&mut self, news: &mpsc::Sender<News>) -> Result<()> {
        if self.cursors.is_empty() {
            self.read_all().await?;
            self.say(news).await?;
        }
        let mut watches = self.watch().await?;
        // Also if nothing has changed: it says that the store is followed.
        self.say(news).await?;
        loop {
            let (index, response) = tokio::select! {
                next = timeout(IDLE, watches.next()) => match next {
                    Ok(Some(next)) => next,
                    Ok(None) => return Err(End::Behind),
                    Err(_idle) => {
                        self.check_revision().await?;
                        continue;
                    }
                },
                () = news.closed() => return Err(End::Gone),
            };
            match response {
                Ok(response) => self.absorb(index, &response, news).await?,
                Err(error) => return Err(self.ended(error)),
            }
        }
    }

    /// A watch that was cut off goes on where it was; after anything else all is read again.
    fn ended(&mut self, error: catena_client::Error) -> End {
        if error.is_transient() || error == catena_client::Error::Closed {
            return End::Store(error);
        }
        self.cursors.clear();
        match error.is_compacted() {
            true => End::Behind,
            false => End::Store(error),
        }
    }

    async fn say(&self, news: &mpsc::Sender<News>) -> Result<()> {
        let documents = self.held.documents(&self.scope);
        let said = News::Said(Source::Store, documents, self.held.mark);
        let said = news.send(said);
        said.await.map_err(|_nobody| End::Gone)
    }

    /// Replaces what is held by what stands in the store, all of one revision.
    async fn read_all(&mut self) -> Result<()> {
        let mut mark = Mark::default();
        let mut answers = Vec::new();
        for (app, kind) in self.parts(&KINDS).collect::<Vec<_>>() {
            let range = pb::RangeRequest {
                // That of the first, which reads the present.
                revision: mark.revision,
                ..request::get_prefix(self.prefix(app, kind))
            };
            let answer = self.kv.range(range).await;
            let answer = answer.map_err(|error| self.ended(error))?;
            if answers.is_empty() {
                let header = answer.header.unwrap_or_default();
                mark = Mark {
                    cluster: header.cluster_id,
                    revision: header.revision,
                };
            }
            answers.push((app, kind, answer.kvs));
        }
        let mut held = Held::since(mark);
        for (app, kind, kvs) in answers {
            let prefix = self.prefix(app, kind).len();
            for kv in kvs {
                let kv = kv.view();
                if let Some(rest) = rest(&kv, prefix) {
                    held.put(&Found { app, kind, rest }, &kv);
                }
            }
        }
        if self.held.is_lost_in(&held) {
            info!(
                "the store knows less of the configuration than this process; what it lost is kept"
            );
            let known = self.held.documents(&self.scope);
            let before = std::mem::take(&mut self.before);
            held.keep(&self.scope, if known.is_empty() { before } else { known });
        }
        self.before.clear();
        self.held = held;
        self.cursors = vec![mark.revision + 1; self.parts(&WATCHED).count()];
        Ok(())
    }

    async fn watch(
        &mut self,
    ) -> Result<SelectAll<impl futures_util::Stream<Item = Event> + Unpin + use<>>> {
        let mut watches = SelectAll::new();
        let parts: Vec<_> = self.parts(&WATCHED).collect();
        for (index, (app, kind)) in parts.into_iter().enumerate() {
            let request = WatchCreateRequest {
                start_revision: self.cursors[index],
                ..request::watch_prefix(self.prefix(app, kind))
            };
            let opened = self.kv.watch(request).await;
            let watcher: Watcher = opened.map_err(|error| self.ended(error))?;
            let created = watcher.created();
            let now = Mark {
                cluster: created.cluster_id,
                revision: created.revision,
            };
            if self.held.mark.is_lost_in(now) {
                self.cursors.clear();
                return Err(End::Behind);
            }
            watches.push(watcher.map(move |response| (index, response)));
        }
        Ok(watches)
    }

    /// Takes the events of a response and says each change by itself, so that every version is seen.
    async fn absorb(
        &mut self,
        index: usize,
        response: &catena_client::WatchResponse,
        news: &mpsc::Sender<News>,
    ) -> Result<()> {
        let Some((app, kind)) = self.parts(&WATCHED).nth(index) else {
            return Ok(());
        };
        let prefix = self.prefix(app, kind).len();
        let events = response.events.iter();
        let events: Vec<_> = events
            .filter_map(|event| Some((event.kind(), event.kv()?.view())))
            .collect();
        for chunk in events.chunks(READ_MAX) {
            let documents = self.documents_of(app, prefix, chunk).await?;
            for ((event, kv), (document, meta)) in chunk.iter().zip(documents) {
                let Some(rest) = rest(kv, prefix) else {
                    continue;
                };
                let found = Found { app, kind, rest };
                if let Some(document) = document {
                    let doc = doc_of(rest);
                    self.held.put_document(app, doc, &document, meta.as_ref());
                }
                match (event, kind) {
                    (EventType::Delete, _) => self.held.delete(&found, kv.mod_revision),
                    // What stands at the revision of the event was read with its meta.
                    (EventType::Put, Kind::Document) => {}
                    (EventType::Put, _) => self.held.put(&found, kv),
                }
                self.held.release(&self.scope, &found);
                self.held.mark.revision = self.held.mark.revision.max(kv.mod_revision);
                self.say(news).await?;
            }
        }
        // Only now: what is read twice after a failure changes nothing.
        let seen = match events.last() {
            Some((_, kv)) => kv.mod_revision,
            None => response.header.revision,
        };
        self.cursors[index] = self.cursors[index].max(seen + 1);
        Ok(())
    }

    /// The documents that events are about, with their metas, as of the events' revisions. A rule's event is about its document too:
    /// promoting takes a rule away and publishes in one revision, and nobody may see the one without the other.
    async fn documents_of(
        &mut self,
        app: usize,
        prefix: usize,
        events: &[(EventType, KeyValueView)],
    ) -> Result<Vec<(Option<KeyValueView>, Option<KeyValueView>)>> {
        let prefixes = [Kind::Document, Kind::Meta].map(|kind| self.prefix(app, kind));
        let kv = self.kv.clone();
        let read = async |prefix: &str, doc: &str, revision| -> catena_client::Result<_> {
            let range = pb::RangeRequest {
                revision,
                ..request::get(format!("{prefix}{doc}"))
            };
            let answer = kv.range(range).await?;
            Ok(answer.kvs.first().map(pb::KeyValue::view))
        };
        let pairs = events.iter().map(|(_, kv)| {
            let doc = doc_of(rest(kv, prefix).unwrap_or_default());
            let [document, meta] = prefixes.each_ref();
            try_join(
                read(document, doc, kv.mod_revision),
                read(meta, doc, kv.mod_revision),
            )
        });
        let pairs = try_join_all(pairs).await;
        pairs.map_err(|error| self.ended(error))
    }

    /// A store that was set back tells nothing to watches that wait for what it does not know any more.
    async fn check_revision(&mut self) -> Result<()> {
        for app in 0..self.scope.apps.len() {
            let prefix = self.prefix(app, Kind::Meta);
            let answer = self.kv.range(request::get_prefix(prefix.clone())).await?;
            let header = answer.header.unwrap_or_default();
            let now = Mark {
                cluster: header.cluster_id,
                revision: header.revision,
            };
            let contradicted = answer.kvs.iter().any(|kv| {
                let kv = kv.view();
                let doc = rest(&kv, prefix.len());
                doc.is_some_and(|doc| self.held.is_contradicted(app, doc, &kv))
            });
            if contradicted || self.held.mark.is_lost_in(now) {
                self.cursors.clear();
                return Err(End::Behind);
            }
        }
        Ok(())
    }

    fn parts<'a>(&self, kinds: &'a [Kind]) -> impl Iterator<Item = (usize, Kind)> + use<'a> {
        let apps = 0..self.scope.apps.len();
        apps.flat_map(move |app| kinds.iter().map(move |kind| (app, *kind)))
    }

    fn prefix(&self, app: usize, kind: Kind) -> String {
        self.scope
            .apps
            .get(app)
            .map(|(_, app)| app.prefix(kind))
            .unwrap_or_default()
    }
}

/// Which watch, and what it says.
type Event = (usize, catena_client::Result<catena_client::WatchResponse>);

/// The document in what stands behind a prefix: that of a rule is followed by the rule's name.
fn doc_of(rest: &str) -> &str {
    rest.split_once('/').map_or(rest, |(doc, _)| doc)
}

/// A key behind its prefix. Keys that are no text were not written by us.
fn rest(kv: &KeyValueView, prefix: usize) -> Option<&str> {
    std::str::from_utf8(kv.key.get(prefix..)?).ok()
}
