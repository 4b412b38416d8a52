//! The form in a file: JSON Lines.
//!
//! Ids are hex strings of 16 digits, since JSON's numbers are exact only up to 2^53. Bytes that are no UTF-8 stand in a field
//! `x_b64` instead of `x`, long values in `x`, `x_len` and `x_sha256`. Serde cannot rename a field by what it holds, so the types
//! write an object with one marked field in its place, and [`spread`] and [`gather`] turn one form into the other.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
    sync::Arc,
};

use ::bytes::Bytes;
use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use super::{Record, Value, value::Digest};

const BASE64: &str = "$b64";
const DIGEST: &str = "$digest";

pub(super) fn write(records: &[Record], path: &Path) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for record in records {
        let mut line = serde_json::to_value(record)?;
        spread(&mut line);
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<Vec<Record>> {
    let lines = BufReader::new(File::open(path)?).lines();
    let numbered = lines.zip(1_u64..);
    numbered
        .map(|(line, number)| record(&line?).with_context(|| format!("line {number}")))
        .collect()
}

fn record(line: &str) -> Result<Record> {
    let mut json: Json = serde_json::from_str(line)?;
    gather(&mut json);
    Ok(serde_json::from_value(json)?)
}

/// Gives marked bytes and values the fields of the file.
fn spread(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            let marked: Vec<_> = fields.iter().filter(|(_, json)| marked(json)).collect();
            let names: Vec<_> = marked.into_iter().map(|(name, _)| name.clone()).collect();
            for name in names {
                spread_field(fields, name);
            }
            fields.values_mut().for_each(spread);
        }
        Json::Array(items) => items.iter_mut().for_each(spread),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn marked(json: &Json) -> bool {
    json.get(BASE64).is_some() || json.get(DIGEST).is_some()
}

fn spread_field(fields: &mut Map<String, Json>, name: String) {
    let Some(Json::Object(mut inner)) = fields.remove(&name) else {
        return;
    };
    if let Some(bytes) = inner.remove(BASE64) {
        fields.insert(format!("{name}_b64"), bytes);
    } else if let Some(Json::Object(mut digest)) = inner.remove(DIGEST) {
        for part in ["len", "sha256"] {
            fields.extend(
                digest
                    .remove(part)
                    .map(|json| (format!("{name}_{part}"), json)),
            );
        }
        fields.extend(digest.remove("token").map(|json| (name, json)));
    }
}

/// Undoes [`spread`].
fn gather(json: &mut Json) {
    match json {
        Json::Object(fields) => {
            fields.values_mut().for_each(gather);
            let bases: Vec<_> = fields.keys().filter_map(|name| base(name)).collect();
            for base in bases {
                gather_field(fields, base);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(gather),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn base(name: &str) -> Option<String> {
    let base = name.strip_suffix("_b64").or(name.strip_suffix("_sha256"))?;
    Some(base.to_owned())
}

fn gather_field(fields: &mut Map<String, Json>, name: String) {
    let mut inner = Map::new();
    if let Some(bytes) = fields.remove(&format!("{name}_b64")) {
        inner.insert(BASE64.to_owned(), bytes);
    } else {
        let mut digest = Map::new();
        for part in ["len", "sha256"] {
            let json = fields.remove(&format!("{name}_{part}"));
            digest.extend(json.map(|json| (part.to_owned(), json)));
        }
        digest.extend(fields.remove(&name).map(|json| ("token".to_owned(), json)));
        inner.insert(DIGEST.to_owned(), digest.into());
    }
    fields.insert(name, inner.into());
}

/// Whether a number is left out.
pub(super) fn zero(number: &i64) -> bool {
    *number == 0
}

/// Whether a field is left out.
pub(super) fn default<T: Default + PartialEq>(field: &T) -> bool {
    *field == T::default()
}

/// Bytes as text or marked.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Exact(String),
    Base64 {
        #[serde(rename = "$b64")]
        bytes: String,
    },
}

impl From<&Bytes> for Text {
    fn from(bytes: &Bytes) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Exact(text.to_owned()),
            Err(_) => Text::Base64 {
                bytes: STANDARD.encode(bytes),
            },
        }
    }
}

impl Text {
    fn bytes<E: serde::de::Error>(self) -> Result<Bytes, E> {
        match self {
            Text::Exact(text) => Ok(text.into()),
            Text::Base64 { bytes } => STANDARD.decode(bytes).map(Bytes::from).map_err(E::custom),
        }
    }
}

/// Bytes.
pub(super) mod bytes {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        Text::from(bytes).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        Text::deserialize(from)?.bytes()
    }
}

/// A list of bytes.
pub(super) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(list: &[Bytes], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(Text::from))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Bytes>, D::Error> {
        let list = Vec::<Text>::deserialize(from)?;
        list.into_iter().map(Text::bytes).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ValueForm {
    Long {
        #[serde(rename = "$digest")]
        digest: DigestForm,
    },
    Short(Text),
}

#[derive(Serialize, Deserialize)]
struct DigestForm {
    #[serde(with = "bytes")]
    token: Bytes,
    len: u64,
    sha256: String,
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let form = match self.clone().recorded() {
            Value::Whole(bytes) => ValueForm::Short(Text::from(&bytes)),
            Value::Digest(digest) => ValueForm::Long {
                digest: DigestForm {
                    token: digest.token.clone(),
                    len: digest.len,
                    sha256: digest.sha256.clone(),
                },
            },
        };
        form.serialize(to)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match ValueForm::deserialize(from)? {
            ValueForm::Short(text) => Value::Whole(text.bytes()?),
            ValueForm::Long { digest } => Value::Digest(Arc::new(Digest {
                token: digest.token,
                len: digest.len,
                sha256: digest.sha256,
            })),
        })
    }
}

fn hex<E: serde::de::Error>(digits: &str) -> Result<u64, E> {
    u64::from_str_radix(digits, 16).map_err(E::custom)
}

/// An id of a member.
pub(super) mod id {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{id:016x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        hex(&String::deserialize(from)?)
    }
}

/// An id of a member, if there is one.
pub(super) mod maybe_id {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        id.map(|id| format!("{id:016x}")).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let digits = Option::<String>::deserialize(from)?;
        digits.map(|digits| hex(&digits)).transpose()
    }
}

/// An id of a lease.
pub(super) mod lease {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &i64, to: S) -> Result<S::Ok, S::Error> {
        super::id::serialize(&id.cast_unsigned(), to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
        super::id::deserialize(from).map(u64::cast_signed)
    }
}

/// Ids of leases.
pub(super) mod leases {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(ids: &[i64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ids.iter().map(|id| format!("{:016x}", id.cast_unsigned())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<i64>, D::Error> {
        let ids = Vec::<String>::deserialize(from)?;
        ids.iter().map(|id| hex(id).map(u64::cast_signed)).collect()
    }
}
