//! What a document must be: a part of JSON Schema.
//!
//! Known are `type`, `properties`, `required`, `additionalProperties`, `items`, `enum`, `const`, `minimum`, `maximum`,
//! `exclusiveMinimum`, `exclusiveMaximum`, `minLength`, `maxLength`, `minItems`, `maxItems` and `pattern`; `$schema`, `$id`,
//! `title`, `description`, `default`, `examples` and `$comment` say nothing. A schema with any other keyword is refused when it is
//! stored, so that no rule is believed to hold that is not looked at.
//!
//! A string with a placeholder satisfies everything, and one that is sealed: what it will be shows only where it is resolved or opened,
//! and there its owner checks it.

use std::collections::BTreeSet;

use bytes::Bytes;
use catena_client::{
    pb::TxnRequest,
    request::{self, Operation},
};
use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use super::{ConfigCenter, publish::at_most};
use crate::config::{
    DocumentName, Error, Format, Result, Violation, key::Kind, seal::is_sealed, tree,
};

/// The largest schema: much longer than one that anybody can read.
pub const SCHEMA_BYTES_MAX: usize = 256 * 1024;

/// The largest pattern once it is compiled, and how many there may be.
const PATTERN_BYTES_MAX: usize = 256 * 1024;
const PATTERNS_MAX: usize = 128;

/// Violations that are named; who has more will come back.
const VIOLATIONS_MAX: usize = 64;

/// Keywords that demand nothing.
const SILENT: [&str; 7] = [
    "$schema",
    "$id",
    "$comment",
    "title",
    "description",
    "default",
    "examples",
];

/// What strings stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strings {
    /// For themselves.
    AreStrings,
    /// For numbers and booleans too: the format knows nothing else.
    MeanMore,
}

impl Strings {
    /// What they stand for in a format.
    pub(super) fn of(format: Format) -> Self {
        match format {
            Format::Properties => Self::MeanMore,
            Format::Toml | Format::Yaml | Format::Json | Format::Text => Self::AreStrings,
        }
    }
}

/// A schema that can be checked.
#[derive(Debug)]
pub struct Schema {
    rules: Vec<Rule>,
}

#[derive(Debug)]
enum Rule {
    /// Nothing satisfies the schema `false`.
    Never,
    Type(Vec<Type>),
    Properties(Vec<(String, Schema)>),
    Required(Vec<String>),
    /// For the keys that are not named.
    Additional(BTreeSet<String>, Box<Schema>),
    Items(Box<Schema>),
    OneOf(&'static str, Vec<Value>),
    Number(&'static str, f64),
    Length(&'static str, u64),
    Pattern(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    const ALL: [(&'static str, Type); 7] = [
        ("null", Type::Null),
        ("boolean", Type::Boolean),
        ("integer", Type::Integer),
        ("number", Type::Number),
        ("string", Type::String),
        ("array", Type::Array),
        ("object", Type::Object),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, of)| *of == self);
        found.map_or("", |(name, _)| name)
    }

    fn is_of(self, value: &Value, strings: Strings) -> bool {
        match (self, value) {
            (Self::Null, Value::Null)
            | (Self::Boolean, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::String, Value::String(_))
            | (Self::Array, Value::Array(_))
            | (Self::Object, Value::Object(_)) => true,
            (Self::Boolean, Value::String(text)) => {
                strings == Strings::MeanMore && text.parse::<bool>().is_ok()
            }
            (Self::Integer | Self::Number, _) => {
                let whole = |number: f64| self == Self::Number || number.fract() == 0.0;
                number_of(value, strings).is_some_and(whole)
            }
            _ => false,
        }
    }
}

fn number_of(value: &Value, strings: Strings) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if strings == Strings::MeanMore => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

impl Schema {
    /// Reads a schema; every keyword must be known.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(bytes).map_err(|error| Error::Unreadable {
            document: "schema".to_owned(),
            line: error.line(),
            column: error.column(),
            reason: "not JSON",
        })?;
        at_most("patterns of a schema", patterns(&value), PATTERNS_MAX)?;
        Self::of(&value, "schema")
    }

    fn of(value: &Value, path: &str) -> Result<Self> {
        let keywords = match value {
            Value::Bool(true) => return Ok(Self { rules: Vec::new() }),
            Value::Bool(false) => {
                return Ok(Self {
                    rules: vec![Rule::Never],
                });
            }
            Value::Object(keywords) => keywords,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(unusable(path, "must be a map or a boolean"));
            }
        };
        let mut rules = Vec::new();
        for (keyword, demand) in keywords {
            let path = tree::join(path, keyword);
            if !SILENT.contains(&keyword.as_str()) {
                rules.push(rule(keyword, demand, keywords, &path)?);
            }
        }
        Ok(Self { rules })
    }

    /// What in a tree breaks the schema: every place, up to a bound.
    pub fn check(&self, tree: &Value, strings: Strings) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_at(tree, "", strings, &mut found);
        found.truncate(VIOLATIONS_MAX);
        found
    }

    fn check_at(&self, value: &Value, path: &str, strings: Strings, found: &mut Vec<Violation>) {
        let shows_later = |text: &str| text.contains("${") || is_sealed(text);
        if found.len() >= VIOLATIONS_MAX || value.as_str().is_some_and(shows_later) {
            return;
        }
        for rule in &self.rules {
            rule.check(value, path, strings, found);
        }
    }
}

/// How many keys are called `pattern`, at any depth.
fn patterns(value: &Value) -> usize {
    match value {
        Value::Object(map) => {
            let here = usize::from(map.contains_key("pattern"));
            here + map.values().map(patterns).sum::<usize>()
        }
        Value::Array(list) => list.iter().map(patterns).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn unusable(path: &str, message: &str) -> Error {
    Error::Refused(vec![Violation {
        path: path.to_owned(),
        rule: "schema",
        message: message.to_owned(),
    }])
}

fn rule(keyword: &str, demand: &Value, siblings: &Map<String, Value>, path: &str) -> Result<Rule> {
    let wrong = |message| unusable(path, message);
    let length = |name| {
        let length = demand
            .as_u64()
            .ok_or_else(|| wrong("must be a whole number from 0"));
        length.map(|length| Rule::Length(name, length))
    };
    let number = |name| {
        let number = demand.as_f64().ok_or_else(|| wrong("must be a number"));
        number.map(|number| Rule::Number(name, number))
    };
    match keyword {
        "type" => types(demand).map(Rule::Type).ok_or_else(|| {
            wrong("must be one or some of null, boolean, integer, number, string, array, object")
        }),
        "properties" => {
            let properties = demand.as_object().ok_or_else(|| wrong("must be a map"))?;
            let read = |(name, schema): (&String, &Value)| {
                Ok((name.clone(), Schema::of(schema, &tree::join(path, name))?))
            };
            let read: Result<_> = properties.iter().map(read).collect();
            read.map(Rule::Properties)
        }
        "required" => strings(demand)
            .map(Rule::Required)
            .ok_or_else(|| wrong("must be a list of strings")),
        "additionalProperties" => {
            let named = siblings.get("properties").and_then(Value::as_object);
            let named = named.map(|named| named.keys().cloned().collect());
            let schema = Schema::of(demand, path)?;
            Ok(Rule::Additional(
                named.unwrap_or_default(),
                Box::new(schema),
            ))
        }
        "items" => Ok(Rule::Items(Box::new(Schema::of(demand, path)?))),
        "enum" => match demand {
            Value::Array(values) => Ok(Rule::OneOf("enum", values.clone())),
            _ => Err(wrong("must be a list")),
        },
        "const" => Ok(Rule::OneOf("const", vec![demand.clone()])),
        "minimum" => number("minimum"),
        "maximum" => number("maximum"),
        "exclusiveMinimum" => number("exclusiveMinimum"),
        "exclusiveMaximum" => number("exclusiveMaximum"),
        "minLength" => length("minLength"),
        "maxLength" => length("maxLength"),
        "minItems" => length("minItems"),
        "maxItems" => length("maxItems"),
        "pattern" => {
            let pattern = demand.as_str().ok_or_else(|| wrong("must be a string"))?;
            let regex = RegexBuilder::new(pattern)
                .size_limit(PATTERN_BYTES_MAX)
                .build();
            regex
                .map(Rule::Pattern)
                .map_err(|_long| wrong("must be a regular expression, and not too large a one"))
        }
        _ => Err(wrong("is no keyword that is known here")),
    }
}

fn types(demand: &Value) -> Option<Vec<Type>> {
    let names = match demand {
        Value::String(name) => vec![name.clone()],
        _ => strings(demand)?,
    };
    let of = |name: &String| Type::ALL.iter().find(|(known, _)| known == name);
    names
        .iter()
        .map(|name| of(name).map(|(_, of)| *of))
        .collect()
}

fn strings(demand: &Value) -> Option<Vec<String>> {
    let strings = demand.as_array()?.iter();
    strings
        .map(|name| name.as_str().map(str::to_owned))
        .collect()
}

impl Rule {
    fn check(&self, value: &Value, path: &str, strings: Strings, found: &mut Vec<Violation>) {
        let mut say = |rule: &'static str, path: String, message: String| {
            found.push(Violation {
                path,
                rule,
                message,
            });
        };
        match (self, value) {
            (Self::Never, _) => say(
                "additionalProperties",
                path.to_owned(),
                "must not be there".to_owned(),
            ),
            (Self::Type(types), _) => {
                if !types.iter().any(|of| of.is_of(value, strings)) {
                    let names: Vec<_> = types.iter().map(|of| of.name()).collect();
                    say(
                        "type",
                        path.to_owned(),
                        format!("must be of type {}", names.join(" or ")),
                    );
                }
            }
            (Self::Properties(properties), Value::Object(map)) => {
                for (name, schema) in properties {
                    if let Some(value) = map.get(name) {
                        schema.check_at(value, &tree::join(path, name), strings, found);
                    }
                }
            }
            (Self::Required(names), Value::Object(map)) => {
                for name in names.iter().filter(|name| !map.contains_key(*name)) {
                    say("required", tree::join(path, name), "is required".to_owned());
                }
            }
            (Self::Additional(named, schema), Value::Object(map)) => {
                for (name, value) in map.iter().filter(|(name, _)| !named.contains(*name)) {
                    schema.check_at(value, &tree::join(path, name), strings, found);
                }
            }
            (Self::Items(schema), Value::Array(list)) => {
                for (n, item) in list.iter().enumerate() {
                    schema.check_at(item, &tree::join(path, &n.to_string()), strings, found);
                }
            }
            (Self::OneOf(rule, values), _) => {
                let means = |wanted: &Value| match (value, strings) {
                    (Value::String(text), Strings::MeanMore) => {
                        let written = wanted.to_string();
                        value == wanted || *text == written
                    }
                    _ => value == wanted,
                };
                if !values.iter().any(means) {
                    say(
                        rule,
                        path.to_owned(),
                        "must be one of the values that the schema lists".to_owned(),
                    );
                }
            }
            (Self::Number(rule, bound), _) => {
                let keeps = number_of(value, strings).is_none_or(|number| match *rule {
                    "minimum" => number >= *bound,
                    "maximum" => number <= *bound,
                    "exclusiveMinimum" => number > *bound,
                    _ => number < *bound,
                });
                if !keeps {
                    say(
                        rule,
                        path.to_owned(),
                        format!("must keep to {rule} {bound}"),
                    );
                }
            }
            (Self::Length(rule, bound), Value::String(_) | Value::Array(_)) => {
                if !keeps_length(rule, *bound, value) {
                    say(
                        rule,
                        path.to_owned(),
                        format!("must keep to {rule} {bound}"),
                    );
                }
            }
            (Self::Pattern(pattern), Value::String(text)) => {
                if !pattern.is_match(text) {
                    say(
                        "pattern",
                        path.to_owned(),
                        "must match the pattern of the schema".to_owned(),
                    );
                }
            }
            // Rules for one type say nothing of others.
            (
                Self::Properties(_)
                | Self::Required(_)
                | Self::Additional(..)
                | Self::Items(_)
                | Self::Length(..)
                | Self::Pattern(_),
                _,
            ) => {}
        }
    }
}

fn keeps_length(rule: &str, bound: u64, value: &Value) -> bool {
    let (length, of_string) = match value {
        Value::String(text) => (text.chars().count(), true),
        Value::Array(list) => (list.len(), false),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return true,
    };
    let length = length as u64;
    match (rule, of_string) {
        ("minLength", true) | ("minItems", false) => length >= bound,
        ("maxLength", true) | ("maxItems", false) => length <= bound,
        _ => true,
    }
}

impl ConfigCenter {
    /// What a document must be, as it was set; nothing if anything may stand there.
    pub async fn schema(&self, name: &DocumentName) -> Result<Option<Bytes>> {
        let answer = self.kv.range(request::get(name.key(Kind::Schema))).await?;
        Ok(answer.kvs.first().map(|kv| kv.value()))
    }

    /// Sets what a document must be from its next publication on, or takes that away. What stands there now must satisfy it.
    pub async fn set_schema(&self, name: &DocumentName, schema: Option<&[u8]>) -> Result<()> {
        let key = name.key(Kind::Schema);
        let Some(bytes) = schema else {
            self.kv.delete_range(request::delete(key)).await?;
            return Ok(());
        };
        at_most("bytes of a schema", bytes.len(), SCHEMA_BYTES_MAX)?;
        let schema = Schema::parse(bytes)?;
        let (read, _) = self.read(name).await?;
        if let Some(content) = &read.content {
            let format = read.meta_or_by_hand(name, &content.value).format;
            let tree = format.parse(name.doc(), &content.value)?;
            let violations = schema.check(&tree, Strings::of(format));
            if !violations.is_empty() {
                return Err(Error::Refused(violations));
            }
        }
        let content = read.content.as_ref().map_or(0, |kv| kv.mod_revision);
        let txn = TxnRequest {
            compare: vec![request::modified_at(name.key(Kind::Document), content)],
            success: vec![request::put(key, bytes.to_vec()).op()],
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
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
