//! Telling the store what this instance made of its documents.
//!
//! The record stands on a lease, so that it goes with the process. It is written anew when something changes, but not more often than
//! [`PAUSE`]: who publishes thousands of times wants to know where the instances stand, not where they stood.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use catena_client::{Kv, Session, SessionOptions, pb::PutRequest, request};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    apply::{Outcome, Report},
    config::Status,
};

/// The least time between two writings.
const PAUSE: Duration = Duration::from_millis(250);

/// Pauses before the store is asked for another lease; doubling, with jitter.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// How long the last word, that this instance is gone, may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);

/// What an instance made of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerState {
    /// The newest version that it has seen.
    pub version: u64,
    /// What became of it.
    pub state: Applied,
    /// Why it was rejected; empty otherwise.
    #[serde(default)]
    pub error: String,
}

/// What became of a version at an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applied {
    /// It holds.
    Applied,
    /// The version before still holds.
    Rejected,
    /// It will hold once the instance is started again.
    RestartRequired,
}

/// By document; those of other owners than the instance's application as `owner/document`.
pub(crate) type Record = BTreeMap<String, ListenerState>;

/// The stored documents of a report.
fn record(report: &Report, app: &str) -> Record {
    let stored = report.iter().filter(|((layer, _), _)| layer.is_stored());
    let entry = |((_, name), state): (&(super::Layer, Arc<str>), &super::DocumentState)| {
        let own = name.strip_prefix(app).and_then(|doc| doc.strip_prefix('/'));
        let (applied, error) = match &state.outcome {
            Outcome::Applied => (Applied::Applied, String::new()),
            Outcome::Rejected(error) => (Applied::Rejected, error.to_string()),
            Outcome::RestartRequired => (Applied::RestartRequired, String::new()),
        };
        let listener = ListenerState {
            version: state.version,
            state: applied,
            error,
        };
        (own.unwrap_or(name).to_owned(), listener)
    };
    stored.map(entry).collect()
}

/// Who tells.
pub(crate) struct Listener {
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) key: String,
    /// The instance's application.
    pub(crate) app: String,
    pub(crate) ttl_secs: i64,
    /// Told to leave.
    pub(crate) closing: CancellationToken,
}

impl Listener {
    /// Tells until told to leave, whatever happens to the store meanwhile.
    pub(crate) async fn run(self, mut status: watch::Receiver<Status>) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let options = SessionOptions {
                ttl_secs: self.ttl_secs,
                lease: 0,
            };
            match Session::open(self.kv.clone(), options).await {
                Ok(session) => {
                    backoff = BACKOFF_MIN;
                    if self.tell(&session, &mut status).await {
                        // A store that is away lets the lease run out, which says the same.
                        let _in_time = timeout(FAREWELL, session.close()).await;
                        return;
                    }
                }
                Err(error) => debug!(%error, "no lease for a listener of the configuration"),
            }
            tokio::select! {
                () = sleep(backoff.mul_f64(rand::random_range(0.5..1.0))) => {}
                () = self.closing.cancelled() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Tells on one lease. Whether it is time to leave; if not, the lease is lost.
    async fn tell(&self, session: &Session, status: &mut watch::Receiver<Status>) -> bool {
        let mut told = None;
        loop {
            let record = record(&status.borrow_and_update().report, &self.app);
            if told.as_ref() != Some(&record) {
                match self.write(session, &record).await {
                    Ok(()) => told = Some(record),
                    Err(error) => debug!(%error, "a listener's record was not written"),
                }
            }
            let next = async {
                match told {
                    Some(_) => status.changed().await.is_ok(),
                    None => true,
                }
            };
            let goes_on = tokio::select! {
                goes_on = next => goes_on,
                () = self.closing.cancelled() => return true,
                _lost = session.lost() => return false,
            };
            if !goes_on {
                return true;
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.closing.cancelled() => return true,
            }
        }
    }

    async fn write(&self, session: &Session, record: &Record) -> Result<(), catena_client::Error> {
        // A map of strings and numbers is always JSON.
        let value = serde_json::to_vec(record).unwrap_or_default();
        let put = PutRequest {
            lease: session.lease(),
            ..request::put(self.key.clone(), value)
        };
        // It says how things stand, so it may be repeated whatever became of the last one.
        self.kv.put(put).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DocumentState, Error, Layer};

    #[test]
    fn a_record_names_documents_and_what_became_of_them() {
        let state = |version, outcome| DocumentState { version, outcome };
        let rejected = Outcome::Rejected(Error::Missing {
            path: "a".to_owned(),
        });
        let report = Report::from([
            (
                (Layer::File(0), "app.toml".into()),
                state(0, Outcome::Applied),
            ),
            (
                (Layer::Shared, "_shared/base".into()),
                state(3, Outcome::RestartRequired),
            ),
            ((Layer::App, "user/main".into()), state(7, rejected)),
            (
                (Layer::Profile, "user@eu/main".into()),
                state(1, Outcome::Applied),
            ),
        ]);
        let text = serde_json::to_string(&record(&report, "user")).unwrap();
        assert_eq!(
            text,
            r#"{"_shared/base":{"version":3,"state":"restart_required","error":""},"main":{"version":7,"state":"rejected","error":"a is not configured"},"user@eu/main":{"version":1,"state":"applied","error":""}}"#
        );
    }
}
