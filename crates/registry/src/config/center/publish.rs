//! Publishing: check, then one transaction.

use std::time::Duration;

use bytes::Bytes;
use catena_client::{
    pb::{Compare, DeleteRangeRequest, KeyValueView, RangeRequest, RequestOp, TxnRequest},
    request::{self, Operation},
};
use tokio::time::sleep;

use super::{
    ConfigCenter, Read, history,
    schema::{Schema, Strings},
};
use crate::{
    clock::unix_ms,
    config::{
        DocumentName, Error, Format, Meta, Result,
        key::Kind,
        meta::{encode, sha256},
        seal,
    },
};

/// How often a publication is tried that expects no certain version, while others publish too; and how often one is sent again of
/// which no answer came.
pub(super) const TRIES_MAX: usize = 16;

/// The longest pause before a further try; drawn.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest author or comment.
const TEXT_BYTES_MAX: usize = 4096;

/// The largest document that is published: it is written twice, as itself and into the history, in one request, and a store takes
/// 1.5 MiB at once unless it is told otherwise.
pub const PUBLISHED_BYTES_MAX: usize = 700 * 1024;

/// Documents of one application: each of its processes holds them all.
const DOCUMENTS_MAX: usize = 256;

/// What a publisher believes to stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// This version.
    Version(u64),
    /// Nothing.
    Absent,
    /// Whatever it may be.
    Any,
}

/// What is published.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The document.
    pub content: Bytes,
    /// How it is written; without it, as the version before, or as the name's ending says.
    pub format: Option<Format>,
    /// Who publishes it.
    pub author: String,
    /// Why.
    pub comment: String,
}

/// `Debug` leaves the content out.
impl std::fmt::Debug for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Change")
            .field("format", &self.format)
            .field("author", &self.author)
            .finish_non_exhaustive()
    }
}

/// What goes with a publication in the same transaction.
#[derive(Default)]
pub(super) struct Along {
    pub(super) compare: Vec<Compare>,
    pub(super) operations: Vec<RequestOp>,
}

impl ConfigCenter {
    /// Publishes a document and gives its version, which is one more than the last.
    ///
    /// It is refused if it cannot be read, or not by its schema, and if something else stands there than is expected.
    pub async fn publish(
        &self,
        name: &DocumentName,
        change: Change,
        expect: Expect,
    ) -> Result<Meta> {
        self.publish_along(name, change, expect, Along::default())
            .await
    }

    pub(super) async fn publish_along(
        &self,
        name: &DocumentName,
        change: Change,
        expect: Expect,
        along: Along,
    ) -> Result<Meta> {
        check_sizes(&change)?;
        let publication = format!("{:032x}", rand::random::<u128>());
        for _ in 0..TRIES_MAX {
            let (read, _) = self.read(name).await?;
            if let Some(meta) = read
                .own_meta()
                .filter(|meta| meta.publication == publication)
            {
                return Ok(meta);
            }
            check_expected(name, &read, expect)?;
            if read.content.is_none() {
                self.check_room(name).await?;
            }
            let last = match read.meta() {
                Some(meta) => Some(meta),
                None => self.newest(name).await?,
            };
            let meta = check_change(name, &read, last, &change, &publication)?;
            let oldest = self.expired(name, meta.version, meta.at_ms).await?;
            let txn = transaction(name, &read, &meta, &change.content, oldest, &along)?;
            if self.send(txn).await? {
                return Ok(meta);
            }
            // Somebody was faster, or an answer that got lost was a yes: who it was shows in what stands there now, or, if that has
            // been replaced since, in the history.
            if self.took_place(name, &meta).await? {
                return Ok(meta);
            }
            sleep(PAUSE.mul_f64(rand::random())).await;
        }
        let (read, _) = self.read(name).await?;
        Err(conflict(name, &read))
    }

    /// Whether an application may have one document more. Two that come at the same moment may both be let in: it is no contract, but
    /// keeps a mistake small.
    async fn check_room(&self, name: &DocumentName) -> Result<()> {
        let count = RangeRequest {
            count_only: true,
            ..request::get_prefix(name.app().prefix(Kind::Document))
        };
        let there = usize::try_from(self.kv.range(count).await?.count).unwrap_or(0);
        at_most("documents of an application", there + 1, DOCUMENTS_MAX)
    }

    /// Whether the guarded transaction took place. One of unknown outcome is sent again: its guard lets it take place only once.
    pub(super) async fn send(&self, txn: TxnRequest) -> Result<bool> {
        let mut tries = 1;
        loop {
            match self.kv.txn(txn.clone()).await {
                Ok(answer) => return Ok(answer.succeeded),
                Err(error) if error.is_transient() && tries < TRIES_MAX => {
                    tries += 1;
                    sleep(PAUSE.mul_f64(rand::random())).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether a version in the history is the one that this publication wrote.
    async fn took_place(&self, name: &DocumentName, meta: &Meta) -> Result<bool> {
        match self.version(name, meta.version).await {
            Ok(revision) => Ok(revision.meta.publication == meta.publication),
            Err(Error::Absent { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The version up to which the history is to be forgotten with this publication.
    async fn expired(&self, name: &DocumentName, version: u64, now_ms: u64) -> Result<u64> {
        let kept = version.saturating_sub(history::HISTORY_MAX);
        let oldest = self.oldest(name).await?;
        let age = history::HISTORY_AGE_MAX.as_millis();
        let expired = oldest.filter(|meta| u128::from(now_ms.saturating_sub(meta.at_ms)) > age);
        Ok(expired.map_or(kept, |meta| kept.max(meta.version)))
    }
}

fn check_sizes(change: &Change) -> Result<()> {
    let text = |what, text: &str| at_most(what, text.len(), TEXT_BYTES_MAX);
    text("bytes of an author", &change.author)?;
    text("bytes of a comment", &change.comment)?;
    let content = change.content.len();
    at_most(
        "bytes of a published document",
        content,
        PUBLISHED_BYTES_MAX,
    )
}

/// Whether there is not too much of something.
pub(in crate::config) fn at_most(what: &'static str, actual: usize, limit: usize) -> Result<()> {
    match actual <= limit {
        true => Ok(()),
        false => Err(Error::TooMuch {
            what,
            actual,
            limit,
        }),
    }
}

pub(super) fn check_expected(name: &DocumentName, read: &Read, expect: Expect) -> Result<()> {
    let as_expected = match expect {
        Expect::Any => true,
        Expect::Absent => read.content.is_none(),
        Expect::Version(version) => read.content.is_some() && read.version() == version,
    };
    match as_expected {
        true => Ok(()),
        false => Err(conflict(name, read)),
    }
}

pub(super) fn conflict(name: &DocumentName, read: &Read) -> Error {
    Error::Conflict {
        document: name.to_string(),
        current: read.version(),
    }
}

/// The meta of a change that may be published.
fn check_change(
    name: &DocumentName,
    read: &Read,
    last: Option<Meta>,
    change: &Change,
    publication: &str,
) -> Result<Meta> {
    let format = change
        .format
        .or_else(|| last.as_ref().map(|meta| meta.format))
        .or_else(|| Format::of_file(name.doc()))
        .unwrap_or(Format::Text);
    check_content(name, format, &change.content, read.schema.as_ref())?;
    Ok(Meta {
        // Of the last meta or, if the document was deleted, of the history: no version is given twice.
        version: last.map_or(0, |meta| meta.version) + 1,
        format,
        sha256: sha256(&change.content),
        author: change.author.clone(),
        comment: change.comment.clone(),
        at_ms: unix_ms(),
        schema: read.schema.is_some(),
        publication: publication.to_owned(),
    })
}

/// Whether a document can be read, what is sealed in it is whole, and it is what its schema demands.
pub(super) fn check_content(
    name: &DocumentName,
    format: Format,
    content: &Bytes,
    schema: Option<&KeyValueView>,
) -> Result<()> {
    let tree = format.parse(name.doc(), content)?;
    seal::check(&tree)?;
    let Some(schema) = schema else { return Ok(()) };
    let violations = Schema::parse(&schema.value)?.check(&tree, Strings::of(format));
    match violations.is_empty() {
        true => Ok(()),
        false => Err(Error::Refused(violations)),
    }
}

/// That what was read at a document's key stands there still.
pub(super) fn unchanged(name: &DocumentName, kind: Kind, kv: &Option<KeyValueView>) -> Compare {
    let mod_revision = kv.as_ref().map_or(0, |kv| kv.mod_revision);
    request::modified_at(name.key(kind), mod_revision)
}

fn transaction(
    name: &DocumentName,
    read: &Read,
    meta: &Meta,
    content: &Bytes,
    forget_to: u64,
    along: &Along,
) -> Result<TxnRequest> {
    let mut compare = vec![
        unchanged(name, Kind::Document, &read.content),
        unchanged(name, Kind::Meta, &read.meta),
        unchanged(name, Kind::Schema, &read.schema),
    ];
    compare.extend(along.compare.iter().cloned());
    let history = encode(meta, content);
    let written = serde_json::to_vec(meta).ok().zip(history);
    // A meta is strings and numbers, which are always JSON.
    let (meta_json, history) = written.ok_or(Error::Closed)?;
    let mut success = vec![
        request::put(name.key(Kind::Document), content.clone()).op(),
        request::put(name.key(Kind::Meta), meta_json).op(),
        request::put(name.history(meta.version), history).op(),
    ];
    if forget_to > 0 {
        let forget = DeleteRangeRequest {
            key: name.history(0).into(),
            range_end: name.history(forget_to + 1).into(),
            prev_kv: false,
        };
        success.push(forget.op());
    }
    success.extend(along.operations.iter().cloned());
    Ok(TxnRequest {
        compare,
        success,
        failure: Vec::new(),
    })
}
