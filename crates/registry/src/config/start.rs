//! What the sources say at the start, and whether they say anything.

use std::path::PathBuf;

use serde_json::{Map, Value};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::timeout,
};
use tracing::warn;

use super::{
    ConfigOptions, Error, Result, StoreOptions, StoreState,
    apply::News,
    files,
    held::{Held, Mark},
    last_good::{self, LastGood},
    layer::{Document, Layer, tree_of_pairs},
    stored::Follower,
};

/// What the store had to say at the start.
pub(crate) struct Start {
    pub(crate) news: mpsc::Receiver<News>,
    pub(crate) documents: Vec<Document>,
    pub(crate) last_good: LastGood,
    pub(crate) mark: Mark,
    pub(crate) state: StoreState,
}

impl Start {
    /// There is none among the sources.
    pub(crate) fn without_store(news: mpsc::Receiver<News>) -> Self {
        Self {
            news,
            documents: Vec::new(),
            last_good: LastGood::default(),
            mark: Mark::default(),
            state: StoreState::None,
        }
    }

    /// Begins to follow the store, and waits for its first word; in its absence the last run's word counts.
    pub(crate) async fn of(
        options: &StoreOptions,
        sender: &mpsc::Sender<News>,
        tasks: &mut JoinSet<()>,
        mut news: mpsc::Receiver<News>,
    ) -> Result<Self> {
        let last_good = load_last_good(options.last_good.clone()).await?;
        let before: Vec<_> = last_good
            .iter()
            .flat_map(|last_good| &last_good.documents)
            .collect();
        let known = last_good.clone().unwrap_or_default();
        let follower = Follower {
            kv: options.kv.clone(),
            scope: options.scope()?,
            before: before
                .iter()
                .map(|document| (***document).clone())
                .collect(),
            held: Held::since(known.mark),
            cursors: Vec::new(),
        };
        tasks.spawn(follower.run(sender.clone()));
        let patience = match last_good {
            Some(_) => options.patience,
            None => options.cold_patience,
        };
        let mut cause = Error::Store(catena_client::Error::Deadline);
        let said = timeout(patience, async {
            loop {
                match news.recv().await {
                    Some(News::Said(_, documents, mark)) => return Ok((documents, mark)),
                    Some(News::Silent(_, error)) => cause = error,
                    None => return Err(Error::Closed),
                }
            }
        })
        .await;
        let (documents, mark, state) = match said {
            Ok(said) => {
                let (documents, mark) = said?;
                (documents, mark, StoreState::Followed)
            }
            Err(_late) if last_good.is_some() || options.begins_without => {
                warn!(error = %cause, "the store is away, beginning with what is known of its configuration from before");
                let documents = known.documents.iter().map(|document| (**document).clone());
                (documents.collect(), known.mark, StoreState::Stale(cause))
            }
            Err(_late) => {
                return Err(Error::NotReady {
                    waited: patience,
                    cause: cause.to_string(),
                });
            }
        };
        Ok(Self {
            news,
            documents,
            last_good: known,
            mark,
            state,
        })
    }
}

/// A file that cannot be read is none: it only helps where the store does not.
async fn load_last_good(path: Option<PathBuf>) -> Result<Option<LastGood>> {
    let Some(path) = path else { return Ok(None) };
    let loaded = spawn_blocking(move || last_good::load(&path)).await;
    match loaded.map_err(|_stopping| Error::Closed)? {
        Ok(last_good) => Ok(last_good),
        Err(error) => {
            warn!(%error, "the last good configuration cannot be read");
            Ok(None)
        }
    }
}

/// All documents but the store's.
pub(crate) async fn local_documents(options: &ConfigOptions) -> Result<Vec<Document>> {
    let mut documents = own_documents(options)?;
    for (layer, path) in file_layers(&options.files)? {
        let read = spawn_blocking(move || files::read(layer, &path)).await;
        documents.extend(read.map_err(|_stopping| Error::Closed)??);
    }
    Ok(documents)
}

/// The layers that never change.
fn own_documents(options: &ConfigOptions) -> Result<Vec<Document>> {
    let defaults = match &options.defaults {
        Value::Null => Value::Object(Map::new()),
        defaults => defaults.clone(),
    };
    let pairs = |what, pairs: &[(String, String)]| {
        tree_of_pairs(
            what,
            pairs
                .iter()
                .map(|(path, value)| (path.clone(), value.as_str())),
        )
    };
    Ok(vec![
        Document::of_tree(Layer::Defaults, "defaults", &defaults),
        Document::of_tree(
            Layer::Environment,
            "environment",
            &pairs("variable", &options.environment)?,
        ),
        Document::of_tree(Layer::Flags, "flags", &pairs("flag", &options.flags)?),
    ])
}

/// The files with their layers.
pub(crate) fn file_layers(files: &[PathBuf]) -> Result<Vec<(Layer, PathBuf)>> {
    let layer = |(n, path): (usize, &PathBuf)| match u16::try_from(n) {
        Ok(n) => Ok((Layer::File(n), path.clone())),
        Err(_) => Err(Error::TooMuch {
            what: "files of a configuration",
            actual: files.len(),
            limit: usize::from(u16::MAX),
        }),
    };
    files.iter().enumerate().map(layer).collect()
}
