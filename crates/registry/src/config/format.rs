//! How documents are written: from bytes to a tree.
//!
//! A parser's own message is never passed on, for it quotes the document; what is said is where, and that it is not the format.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Error, Result, properties};

/// The largest document, after which it is no configuration.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// TOML; times become strings.
    Toml,
    /// YAML, one document, with merge keys; other keys than strings become strings.
    Yaml,
    /// JSON.
    Json,
    /// Java's properties; dots in keys make maps, all values are strings.
    Properties,
    /// Any text: the tree has one string, under the document's name. `${` means nothing in it.
    Text,
}

impl Format {
    /// The format's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Yaml => "yaml",
            Self::Json => "json",
            Self::Properties => "properties",
            Self::Text => "text",
        }
    }

    /// The format with a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [
            Self::Toml,
            Self::Yaml,
            Self::Json,
            Self::Properties,
            Self::Text,
        ];
        all.into_iter().find(|format| format.as_str() == name)
    }

    /// The format that a file's ending means.
    pub fn of_file(name: &str) -> Option<Self> {
        let (_, ending) = name.rsplit_once('.')?;
        match ending {
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            "json" => Some(Self::Json),
            "properties" => Some(Self::Properties),
            "txt" | "text" => Some(Self::Text),
            _ => None,
        }
    }

    /// Reads a document; the tree is a map. Structured documents that are empty are the empty map.
    pub(crate) fn parse(self, document: &str, bytes: &[u8]) -> Result<Value> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(Error::TooMuch {
                what: "bytes of a document",
                actual: bytes.len(),
                limit: DOCUMENT_BYTES_MAX,
            });
        }
        let fault = |(line, column, reason)| Error::Unreadable {
            document: document.to_owned(),
            line,
            column,
            reason,
        };
        let text = std::str::from_utf8(bytes)
            .map_err(|error| fault(place(bytes, error.valid_up_to(), "not UTF-8")))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let parsed = match self {
            Self::Toml => toml_tree(text),
            Self::Yaml => yaml_tree(text),
            Self::Json => json_tree(text),
            Self::Properties => properties::parse(text),
            // Escaped, so that resolving gives back what is written.
            Self::Text => Ok(Value::Object(Map::from_iter([(
                document.to_owned(),
                Value::String(text.replace("${", "$${")),
            )]))),
        };
        match parsed.map_err(fault)? {
            Value::Null => Ok(Value::Object(Map::new())),
            tree @ Value::Object(_) => Ok(tree),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(fault((1, 1, "a map is expected at the top")))
            }
        }
    }
}

/// Line, column and what is wrong there.
pub(super) type Fault = (usize, usize, &'static str);

/// Line and column of a byte.
fn place(bytes: &[u8], at: usize, reason: &'static str) -> Fault {
    let before = &bytes[..at.min(bytes.len())];
    let line_start = before
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |n| n + 1);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    (line, at.saturating_sub(line_start) + 1, reason)
}

fn json_tree(text: &str) -> Result<Value, Fault> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| (error.line(), error.column(), "not JSON"))
}

fn toml_tree(text: &str) -> Result<Value, Fault> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        place(text.as_bytes(), at, "not TOML")
    })?;
    Ok(from_toml(toml::Value::Table(table)))
}

fn from_toml(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(list) => list.into_iter().map(from_toml).collect(),
        toml::Value::Table(table) => table
            .into_iter()
            .map(|(key, value)| (key, from_toml(value)))
            .collect(),
    }
}

fn yaml_tree(text: &str) -> Result<Value, Fault> {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|error| {
        let at = error.location();
        let at = at.map_or((0, 0), |at| (at.line(), at.column()));
        (at.0, at.1, "not one document of YAML")
    })?;
    value
        .apply_merge()
        .map_err(|_quoting| (0, 0, "a merge key `<<` whose value is no map"))?;
    from_yaml(value)
}

fn from_yaml(value: serde_yaml_ng::Value) -> Result<Value, Fault> {
    use serde_yaml_ng::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(flag) => flag.into(),
        Yaml::Number(number) => from_yaml_number(&number),
        Yaml::String(text) => text.into(),
        Yaml::Sequence(list) => Value::Array(
            list.into_iter()
                .map(from_yaml)
                .collect::<Result<_, Fault>>()?,
        ),
        Yaml::Mapping(map) => {
            let mut tree = Map::new();
            for (key, value) in map {
                tree.insert(yaml_key(key)?, from_yaml(value)?);
            }
            Value::Object(tree)
        }
        Yaml::Tagged(tagged) => from_yaml(tagged.value)?,
    })
}

fn from_yaml_number(number: &serde_yaml_ng::Number) -> Value {
    if let Some(number) = number.as_u64() {
        return number.into();
    }
    if let Some(number) = number.as_i64() {
        return number.into();
    }
    number.as_f64().into()
}

fn yaml_key(key: serde_yaml_ng::Value) -> Result<String, Fault> {
    use serde_yaml_ng::Value as Yaml;
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Bool(flag) => Ok(flag.to_string()),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Null | Yaml::Sequence(_) | Yaml::Mapping(_) | Yaml::Tagged(_) => {
            Err((0, 0, "a key that is no string, number or boolean"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn formats_say_the_same_thing() {
        let expected =
            json!({"server": {"port": 8080, "hosts": ["a", "b"]}, "ratio": 0.5, "on": true});
        let toml = "ratio = 0.5\non = true\n[server]\nport = 8080\nhosts = ['a', 'b']\n";
        let yaml = "ratio: 0.5\non: true\nserver:\n  port: 8080\n  hosts: [a, b]\n";
        let json = r#"{"server":{"port":8080,"hosts":["a","b"]},"ratio":0.5,"on":true}"#;
        for (format, text) in [
            (Format::Toml, toml),
            (Format::Yaml, yaml),
            (Format::Json, json),
        ] {
            assert_eq!(
                format.parse("x", text.as_bytes()).unwrap(),
                expected,
                "{format:?}"
            );
        }
        let properties = "server.port=8080\non: true\n";
        assert_eq!(
            Format::Properties
                .parse("x", properties.as_bytes())
                .unwrap(),
            json!({"server": {"port": "8080"}, "on": "true"})
        );
        assert_eq!(
            Format::Text.parse("motd", "hello ${x}".as_bytes()).unwrap(),
            json!({"motd": "hello $${x}"})
        );
    }

    #[test]
    fn empty_documents_are_empty_maps() {
        for format in [Format::Toml, Format::Yaml, Format::Json, Format::Properties] {
            assert_eq!(format.parse("x", b" \n").unwrap(), json!({}), "{format:?}");
        }
    }

    #[test]
    fn errors_say_where_and_quote_nothing() {
        let secret = "hunter2";
        let cases = [
            (Format::Toml, format!("a = 1\nb = {secret}\n")),
            (Format::Yaml, format!("a: 1\nb: [{secret}\n")),
            (Format::Json, format!("{{\n\"a\": {secret} }}")),
            (Format::Properties, format!("a=1\nb=\\u{secret}\n")),
            (Format::Json, format!("[\"{secret}\"]")),
            (Format::Yaml, format!("<<: {secret}\n")),
        ];
        for (format, text) in cases {
            let error = format.parse("main", text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains(secret), "{error}");
            assert!(!format!("{error:?}").contains(secret), "{error:?}");
            assert_eq!(error.reason(), "CONFIG_UNREADABLE");
        }
        let error = Format::Toml.parse("main", b"a = 1\nb = ?\n").unwrap_err();
        assert!(
            matches!(error, Error::Unreadable { line: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn not_utf8_too_large_and_too_deep_are_refused() {
        let error = Format::Text.parse("x", b"ab\n\xff").unwrap_err();
        assert!(
            matches!(
                error,
                Error::Unreadable {
                    line: 2,
                    column: 1,
                    ..
                }
            ),
            "{error}"
        );
        let large = vec![b' '; DOCUMENT_BYTES_MAX + 1];
        let error = Format::Text.parse("x", &large).unwrap_err();
        assert_eq!(error.reason(), "CONFIG_TOO_LARGE");
        let deep = "[".repeat(100_000);
        for format in [Format::Json, Format::Yaml] {
            assert!(format.parse("x", deep.as_bytes()).is_err());
        }
        let deep = format!("a = {}", "[".repeat(100_000));
        assert!(Format::Toml.parse("x", deep.as_bytes()).is_err());
        let deep = "a.".repeat(100_000) + "a=1";
        assert!(Format::Properties.parse("x", deep.as_bytes()).is_err());
        assert!(
            Format::Toml
                .parse(
                    "x",
                    format!("{} = 1", "a.".repeat(100_000) + "a").as_bytes()
                )
                .is_err()
        );
    }

    #[test]
    fn yaml_aliases_cannot_blow_up() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let before = n - 1;
            let list = vec![format!("*a{before}"); 9].join(", ");
            text.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        assert!(Format::Yaml.parse("x", text.as_bytes()).is_err());
    }
}
