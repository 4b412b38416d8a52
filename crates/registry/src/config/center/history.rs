//! What documents were: kept for a while, whatever is compacted.

use std::time::Duration;

use catena_client::{
    pb::{
        self,
        range_request::{SortOrder, SortTarget},
    },
    request,
};

use serde_json::Value;

use super::{Change, ConfigCenter, Expect, absent};
use crate::{
    clock::unix_ms,
    config::{
        Difference, DocumentName, Error, Format, Meta, Result, Revision, key::Kind, meta::decode,
        seal, tree,
    },
};

/// Versions of a document that are kept.
pub const HISTORY_MAX: u64 = 100;

/// How long a version is kept at most: 90 days. The present one stays as long as the document does.
pub const HISTORY_AGE_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// Versions read at once: as many as fit into an answer of a few MiB, whatever their size.
const PAGE: i64 = 4;

impl ConfigCenter {
    /// What is known of the versions of a document, the newest first.
    pub async fn history(&self, name: &DocumentName) -> Result<Vec<Meta>> {
        let mut metas = Vec::new();
        let mut end = request::prefix_end(name.prefix(Kind::History).as_bytes());
        loop {
            let answer = self
                .kv
                .range(pb::RangeRequest {
                    range_end: end,
                    limit: PAGE,
                    sort_order: SortOrder::Descend.into(),
                    sort_target: SortTarget::Key.into(),
                    ..request::get(name.prefix(Kind::History))
                })
                .await?;
            let page = answer.kvs.iter().map(pb::KeyValue::view);
            metas.extend(
                page.filter_map(|kv| decode(&kv.value))
                    .map(|revision| revision.meta),
            );
            match answer.kvs.last() {
                Some(last) if answer.more => end = last.key(),
                _ => break,
            }
        }
        let Some(newest) = metas.first().map(|meta| meta.version) else {
            return Err(absent(name));
        };
        // Those that the next publication will take away are gone already.
        let now = unix_ms();
        metas.retain(|meta| {
            let age = u128::from(now.saturating_sub(meta.at_ms));
            meta.version == newest || age <= HISTORY_AGE_MAX.as_millis()
        });
        Ok(metas)
    }

    /// A version of a document.
    pub async fn version(&self, name: &DocumentName, version: u64) -> Result<Revision> {
        let answer = self.kv.range(request::get(name.history(version))).await?;
        let found = answer.kvs.first().and_then(|kv| decode(&kv.value()));
        found.ok_or_else(|| Error::Absent {
            what: "version",
            name: format!("{name} {version}"),
        })
    }

    /// Publishes what an old version was as a new one.
    pub async fn rollback(
        &self,
        name: &DocumentName,
        to: u64,
        author: &str,
        expect: Expect,
    ) -> Result<Meta> {
        let old = self.version(name, to).await?;
        let change = Change {
            content: old.content,
            format: Some(old.meta.format),
            author: author.to_owned(),
            comment: format!("rollback to {to}"),
        };
        self.publish(name, change, expect).await
    }

    /// Where two versions differ: by path, or as wholes if one of them is text. What is sealed is masked, and differs whenever it was
    /// sealed anew.
    pub async fn diff(&self, name: &DocumentName, from: u64, to: u64) -> Result<Vec<Difference>> {
        let before = self.version(name, from).await?;
        let after = self.version(name, to).await?;
        let read = |revision: &Revision| revision.meta.format.parse(name.doc(), &revision.content);
        let text = [&before, &after]
            .iter()
            .any(|revision| revision.meta.format == Format::Text);
        if text && before.meta.format != after.meta.format {
            let whole = |revision: &Revision| {
                let text = String::from_utf8_lossy(&revision.content);
                serde_json::json!({ name.doc(): text })
            };
            return Ok(differences(&whole(&before), &whole(&after)));
        }
        Ok(differences(&read(&before)?, &read(&after)?))
    }

    /// What is known of the oldest version that is kept.
    pub(super) async fn oldest(&self, name: &DocumentName) -> Result<Option<Meta>> {
        self.outermost(name, SortOrder::Ascend).await
    }

    /// What is known of the newest version that is kept, whether or not there is a document.
    pub(super) async fn newest(&self, name: &DocumentName) -> Result<Option<Meta>> {
        self.outermost(name, SortOrder::Descend).await
    }

    async fn outermost(&self, name: &DocumentName, order: SortOrder) -> Result<Option<Meta>> {
        let answer = self
            .kv
            .range(pb::RangeRequest {
                limit: 1,
                sort_order: order.into(),
                sort_target: SortTarget::Key.into(),
                ..request::get_prefix(name.prefix(Kind::History))
            })
            .await?;
        let found = answer.kvs.first().and_then(|kv| decode(&kv.value()));
        Ok(found.map(|revision| revision.meta))
    }
}

/// Where two trees differ, as it may be shown.
fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = tree::differences(before, after);
    for difference in &mut found {
        for value in [&mut difference.before, &mut difference.after] {
            *value = value.as_ref().map(seal::masked);
        }
    }
    found
}
