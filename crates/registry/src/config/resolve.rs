//! Placeholders: `${key}` and `${key:default}` in strings, resolved in the merged tree.
//!
//! - A string that is one placeholder and nothing else takes the value with its type, also a list or a map; inside a longer string
//!   only what can be written in a line may stand.
//! - The default is a string, in which placeholders may stand again; it counts when nothing stands at the key, or `null`.
//! - `$${` is a plain `${`.
//!
//! A tree of a hundred bytes can name itself into terabytes. So what resolving may make is bounded, and how deep it may go.

use serde_json::{Map, Value};

use super::{Error, Result, tree};

/// What a tree may grow to by resolving: room for some documents of the largest size.
const RESOLVED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a value counts beside its text.
const VALUE_BYTES: usize = 16;

/// How deep maps, lists and placeholders may be nested, together. The parsers allow 128 at most.
const DEPTH_MAX: usize = 256;

/// The tree with all its placeholders resolved.
pub(crate) fn resolve(tree: &Value) -> Result<Value> {
    let mut resolver = Resolver {
        tree,
        chain: Vec::new(),
        depth: 0,
        bytes: 0,
    };
    resolver.value("", tree)
}

struct Resolver<'a> {
    tree: &'a Value,
    /// The keys that are being resolved, outermost first.
    chain: Vec<String>,
    depth: usize,
    bytes: usize,
}

/// A string in parts.
enum Part<'a> {
    Plain(&'a str),
    Placeholder {
        key: &'a str,
        default: Option<&'a str>,
    },
}

impl Resolver<'_> {
    fn value(&mut self, path: &str, value: &Value) -> Result<Value> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Error::TooMuch {
                what: "levels of nesting",
                actual: self.depth,
                limit: DEPTH_MAX,
            });
        }
        self.count(VALUE_BYTES)?;
        let resolved = match value {
            Value::String(text) => self.text(path, text)?,
            Value::Array(list) => {
                let steps = list.iter().enumerate();
                let list: Result<Vec<_>> = steps
                    .map(|(n, item)| self.value(&tree::join(path, &n.to_string()), item))
                    .collect();
                Value::Array(list?)
            }
            Value::Object(map) => {
                let mut resolved = Map::new();
                for (key, item) in map {
                    self.count(key.len())?;
                    resolved.insert(key.clone(), self.value(&tree::join(path, key), item)?);
                }
                Value::Object(resolved)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        };
        self.depth -= 1;
        Ok(resolved)
    }

    fn text(&mut self, path: &str, text: &str) -> Result<Value> {
        self.count(text.len())?;
        if !text.contains("${") {
            return Ok(Value::String(text.to_owned()));
        }
        let parts = parts(text).map_err(|reason| Error::BadPlaceholder {
            path: path.to_owned(),
            reason,
        })?;
        if let [Part::Placeholder { key, default }] = parts[..] {
            return self.placeholder(path, key, default);
        }
        let mut joined = String::new();
        for part in parts {
            match part {
                Part::Plain(plain) => joined.push_str(plain),
                Part::Placeholder { key, default } => {
                    match self.placeholder(path, key, default)? {
                        Value::String(text) => joined.push_str(&text),
                        Value::Bool(flag) => joined.push_str(&flag.to_string()),
                        Value::Number(number) => joined.push_str(&number.to_string()),
                        Value::Null => {}
                        Value::Array(_) | Value::Object(_) => {
                            return Err(Error::BadPlaceholder {
                                path: path.to_owned(),
                                reason: "a list or a map cannot stand inside a string",
                            });
                        }
                    }
                }
            }
        }
        self.count(joined.len())?;
        Ok(Value::String(joined))
    }

    fn placeholder(&mut self, path: &str, key: &str, default: Option<&str>) -> Result<Value> {
        if self.chain.iter().any(|outer| outer == key) {
            let from = self.chain.iter().skip_while(|outer| *outer != key);
            let mut chain: Vec<_> = from.map(String::as_str).collect();
            chain.push(key);
            return Err(Error::Cycle {
                chain: chain.join(" -> "),
            });
        }
        let found = tree::lookup(self.tree, key).filter(|value| !value.is_null());
        match (found, default) {
            (Some(found), _) => {
                self.chain.push(key.to_owned());
                let value = self.value(key, found)?;
                self.chain.pop();
                Ok(value)
            }
            (None, Some(default)) => self.value(path, &Value::String(default.to_owned())),
            (None, None) => Err(Error::Unresolved {
                path: path.to_owned(),
                key: key.to_owned(),
            }),
        }
    }

    fn count(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        if self.bytes <= RESOLVED_BYTES_MAX {
            return Ok(());
        }
        Err(Error::TooMuch {
            what: "bytes of the configuration once its placeholders are resolved",
            actual: self.bytes,
            limit: RESOLVED_BYTES_MAX,
        })
    }
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, &'static str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.push(Part::Plain(&rest[..at - 1]));
            parts.push(Part::Plain("${"));
            rest = &rest[at + 2..];
            continue;
        }
        if at > 0 {
            parts.push(Part::Plain(&rest[..at]));
        }
        let inner = &rest[at + 2..];
        let end = closing(inner).ok_or("`${` without `}`")?;
        let (key, default) = match inner[..end].split_once(':') {
            Some((key, default)) => (key.trim(), Some(default)),
            None => (inner[..end].trim(), None),
        };
        if key.is_empty() || key.contains("${") {
            return Err("`${` wants the name of a key");
        }
        parts.push(Part::Placeholder { key, default });
        rest = &inner[end + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Plain(rest));
    }
    Ok(parts)
}

/// Where the `}` stands that ends a placeholder, those of placeholders inside passed over.
fn closing(inner: &str) -> Option<usize> {
    let bytes = inner.as_bytes();
    let mut open = 1;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn placeholders_take_values_with_their_types() {
        let tree = json!({
            "host": "db", "port": 5432, "on": true, "hosts": ["a", "${host}"],
            "url": "pg://${host}:${ port }/${name:main}", "same": "${port}", "all": "${hosts}",
            "deep": {"ref": "${hosts.1}"}, "nested": "${missing:${also.missing:${host}}}",
            "escaped": "$${host} costs $5", "empty": "${missing:}", "colons": "${missing:a:b}", "null": null,
            "of_null": "${null:default}"
        });
        assert_eq!(
            resolve(&tree).unwrap(),
            json!({
                "host": "db", "port": 5432, "on": true, "hosts": ["a", "db"],
                "url": "pg://db:5432/main", "same": 5432, "all": ["a", "db"],
                "deep": {"ref": "db"}, "nested": "db",
                "escaped": "${host} costs $5", "empty": "", "colons": "a:b", "null": null, "of_null": "default"
            })
        );
    }

    #[test]
    fn cycles_are_named() {
        let cases = [
            (json!({"a": "${a}"}), "a -> a"),
            (
                json!({"a": "x${b}", "b": "${c}", "c": "${b}"}),
                "b -> c -> b",
            ),
            (json!({"a": {"b": "${a}"}}), "a -> a"),
            (json!({"a": "${x:${a}}"}), "a -> a"),
        ];
        for (tree, chain) in cases {
            let error = resolve(&tree).unwrap_err();
            assert_eq!(
                error,
                Error::Cycle {
                    chain: chain.to_owned()
                },
                "{tree}"
            );
        }
    }

    #[test]
    fn what_cannot_be_resolved_is_refused() {
        for text in [
            "${missing}",
            "${",
            "${}",
            "${a",
            "x ${list} y",
            "${${key}}",
            "${:default}",
        ] {
            let tree = json!({"at": {"here": text}, "list": [1], "key": "list"});
            let error = resolve(&tree).unwrap_err();
            assert!(
                error.to_string().starts_with("at.here: "),
                "{text}: {error}"
            );
            assert_eq!(error.reason(), "CONFIG_UNRESOLVED");
        }
    }

    #[test]
    fn a_tree_cannot_blow_up() {
        for seed in ["", "lol"] {
            let mut map = Map::from_iter([("k0".to_owned(), json!(seed))]);
            for n in 1..100 {
                let twice = format!("${{k{0}}}${{k{0}}}", n - 1);
                map.insert(format!("k{n}"), json!(twice));
            }
            let error = resolve(&Value::Object(map)).unwrap_err();
            assert_eq!(error.reason(), "CONFIG_TOO_LARGE", "{error}");
        }
    }
}
