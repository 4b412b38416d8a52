//! Giving a document to some instances, and then to all or to none.

use std::collections::BTreeMap;

use bytes::Bytes;
use catena_client::{
    pb::{KeyValue, TxnRequest},
    request::{self, Operation},
};

use super::{
    Change, ConfigCenter, Expect, absent, by_name,
    publish::{Along, PUBLISHED_BYTES_MAX, at_most, check_content},
};
use crate::config::{DocumentName, Error, GrayRule, Meta, Result, key::Kind};

/// Rules for one document: each process holds them all.
const RULES_MAX: usize = 16;

impl ConfigCenter {
    /// Gives a document to the instances that a rule names; a rule of this name is replaced. The document must exist, and the rule's
    /// content must be one that could be published.
    pub async fn gray(&self, name: &DocumentName, rule: &str, gray: &GrayRule) -> Result<()> {
        gray.check(rule)?;
        let (read, _) = self.read(name).await?;
        let content = read.content.as_ref().ok_or_else(|| absent(name))?;
        let format = gray
            .format
            .unwrap_or_else(|| read.meta_or_by_hand(name, &content.value).format);
        check_content(
            name,
            format,
            &Bytes::from(gray.content.clone()),
            read.schema.as_ref(),
        )?;
        let rules = self.rules(name).await?;
        let others = rules.keys().filter(|other| *other != rule).count();
        at_most("gray rules of a document", others + 1, RULES_MAX)?;
        // Strings and numbers are always JSON.
        let value = serde_json::to_vec(gray).map_err(|_never| Error::Closed)?;
        at_most("bytes of a gray rule", value.len(), PUBLISHED_BYTES_MAX)?;
        let schema = read.schema.as_ref().map_or(0, |schema| schema.mod_revision);
        let txn = TxnRequest {
            compare: vec![request::modified_at(name.key(Kind::Schema), schema)],
            success: vec![request::put(name.gray(rule)?, value).op()],
            failure: Vec::new(),
        };
        match self.kv.txn(txn).await?.succeeded {
            true => Ok(()),
            false => Err(Error::Conflict {
                document: name.to_string(),
                current: read.version(),
            }),
        }
    }

    /// The rules of a document, by name.
    pub async fn rules(&self, name: &DocumentName) -> Result<BTreeMap<String, GrayRule>> {
        let prefix = name.prefix(Kind::Gray);
        let answer = self.kv.range(request::get_prefix(prefix.clone())).await?;
        Ok(by_name(&answer, prefix.len(), |value| {
            serde_json::from_slice(value).ok()
        }))
    }

    /// Gives a rule's document to all: publishes it, and takes the rule away, in one transaction.
    pub async fn promote(
        &self,
        name: &DocumentName,
        rule: &str,
        author: &str,
        expect: Expect,
    ) -> Result<Meta> {
        let key = name.gray(rule)?;
        let answer = self.kv.range(request::get(key.clone())).await?;
        let kv = answer.kvs.first().map(KeyValue::view);
        let kv = kv.ok_or_else(|| no_rule(name, rule))?;
        let gray: GrayRule =
            serde_json::from_slice(&kv.value).map_err(|_quoting| no_rule(name, rule))?;
        let change = Change {
            content: gray.content.into(),
            format: gray.format,
            author: author.to_owned(),
            comment: format!("promote {rule}"),
        };
        let along = Along {
            compare: vec![request::modified_at(key.clone(), kv.mod_revision)],
            operations: vec![request::delete(key).op()],
        };
        self.publish_along(name, change, expect, along).await
    }

    /// Takes a rule away: its instances go back to what all others have.
    pub async fn abort(&self, name: &DocumentName, rule: &str) -> Result<()> {
        let deleted = self
            .kv
            .delete_range(request::delete(name.gray(rule)?))
            .await?;
        match deleted.deleted {
            0 => Err(no_rule(name, rule)),
            _ => Ok(()),
        }
    }
}

fn no_rule(name: &DocumentName, rule: &str) -> Error {
    Error::Absent {
        what: "gray rule",
        name: format!("{name} {rule}"),
    }
}
