//! From a tree to a type.
//!
//! serde_json's own deserializer would do, but for two things. What comes from the environment, from flags and from properties is
//! always a string, so here a string stands for a number or a boolean where one is asked for. And its errors quote the value, while
//! these name the path. (Where serde asks for "anything", in untagged enums and flattened structs, a string stays a string.)

use std::fmt;

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess,
        SeqAccess, Unexpected, VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

use super::{Error, Result, tree};

/// What stands at `path` in the tree, as a `T`. Where nothing stands, a `T` is taken that can be made of nothing, such as an
/// `Option`, or of an empty map, such as a struct whose fields all have defaults.
pub(crate) fn get<T: DeserializeOwned>(tree: &Value, path: &str) -> Result<T> {
    let found = tree::lookup(tree, path).filter(|value| !value.is_null());
    let Some(found) = found else {
        let empty = Value::Object(Map::new());
        return T::deserialize(Node(&Value::Null))
            .or_else(|_of_nothing| T::deserialize(Node(&empty)))
            .map_err(|_of_neither| Error::Missing {
                path: path.to_owned(),
            });
    };
    T::deserialize(Node(found)).map_err(|fault| fault.at(path))
}

/// What is wrong, and the way there, innermost step first.
#[derive(Debug)]
struct Fault {
    steps: Vec<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Mistyped {
        expected: String,
        found: &'static str,
    },
    Missing,
    Unknown,
}

impl Fault {
    fn under(mut self, step: impl Into<String>) -> Self {
        self.steps.push(step.into());
        self
    }

    fn at(self, path: &str) -> Error {
        let steps = self.steps.iter().rev();
        let path = steps.fold(path.to_owned(), |path, step| tree::join(&path, step));
        match self.kind {
            Kind::Mistyped { expected, found } => Error::Mistyped {
                path,
                expected,
                found,
            },
            Kind::Missing => Error::Missing { path },
            Kind::Unknown => Error::Mistyped {
                path,
                expected: "no such key".to_owned(),
                found: "one",
            },
        }
    }

    fn expected(expected: impl fmt::Display, found: &'static str) -> Self {
        Self {
            steps: Vec::new(),
            kind: Kind::Mistyped {
                expected: expected.to_string(),
                found,
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not what is expected")
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    /// The text may quote the value, so it goes no further.
    fn custom<T: fmt::Display>(_text: T) -> Self {
        Self::expected("a valid value", "another")
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected, kind_of(&found))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::expected(expected, kind_of(&found))
    }

    fn invalid_length(_length: usize, expected: &dyn Expected) -> Self {
        Self::expected(expected, "another length")
    }

    fn unknown_variant(_variant: &str, expected: &'static [&'static str]) -> Self {
        Self::expected(format_args!("one of {}", expected.join(", ")), "another")
    }

    fn unknown_field(field: &str, _expected: &'static [&'static str]) -> Self {
        Self {
            steps: vec![field.to_owned()],
            kind: Kind::Unknown,
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            steps: vec![field.to_owned()],
            kind: Kind::Missing,
        }
    }
}

fn kind_of(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit | Unexpected::Option => "nothing",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map",
        _ => "something else",
    }
}

/// A value as serde asks for it.
#[derive(Clone, Copy)]
struct Node<'a>(&'a Value);

/// A number that may be written as a string.
macro_rules! number {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            if let Value::String(text) = self.0
                && let Ok(number) = text.trim().parse::<$type>()
            {
                return visitor.$visit(number);
            }
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Node<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(flag) => visitor.visit_bool(*flag),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => visitor.visit_u64(number),
                (None, Some(number)) => visitor.visit_i64(number),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(list) => visitor.visit_seq(Items(list.iter().enumerate())),
            Value::Object(map) => visitor.visit_map(Entries {
                entries: map.iter(),
                next: None,
            }),
        }
    }

    number! {
        deserialize_i8 visit_i64 i64,
        deserialize_i16 visit_i64 i64,
        deserialize_i32 visit_i64 i64,
        deserialize_i64 visit_i64 i64,
        deserialize_i128 visit_i128 i128,
        deserialize_u8 visit_u64 u64,
        deserialize_u16 visit_u64 u64,
        deserialize_u32 visit_u64 u64,
        deserialize_u64 visit_u64 u64,
        deserialize_u128 visit_u128 u128,
        deserialize_f32 visit_f64 f64,
        deserialize_f64 visit_f64 f64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if let Value::String(text) = self.0
            && let Ok(flag) = text.trim().parse::<bool>()
        {
            return visitor.visit_bool(flag);
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(Variant {
                name,
                content: &Value::Null,
            }),
            Value::Object(map) if map.len() == 1 => match map.iter().next() {
                Some((name, content)) => visitor.visit_enum(Variant { name, content }),
                None => Err(Fault::expected("one key", "a map")),
            },
            other => Err(Fault::expected(
                "a name or a map of one key",
                tree::kind(other),
            )),
        }
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a>(std::iter::Enumerate<std::slice::Iter<'a, Value>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((n, item)) = self.0.next() else {
            return Ok(None);
        };
        let item = seed.deserialize(Node(item));
        item.map(Some).map_err(|fault| fault.under(n.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Entries<'a> {
    entries: serde_json::map::Iter<'a>,
    next: Option<(&'a str, &'a Value)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.next = Some((key, value));
        let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some((key, value)) = self.next.take() else {
            return Err(Fault::expected("a key before its value", "a value"));
        };
        seed.deserialize(Node(value))
            .map_err(|fault| fault.under(key))
    }
}

struct Variant<'a> {
    name: &'a str,
    content: &'a Value,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Fault;
    type Variant = Content<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Content<'de>), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Content(self.content)))
    }
}

/// What a variant holds.
struct Content<'a>(&'a Value);

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.0 {
            Value::Null => Ok(()),
            other => Err(Fault::expected("nothing", tree::kind(other))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(Node(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Fault> {
        Node(self.0).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        Node(self.0).deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Server {
        port: u16,
        #[serde(default)]
        tls: bool,
        ratio: Option<f64>,
        mode: Mode,
        addresses: Vec<IpAddr>,
        names: BTreeMap<String, i32>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Plain,
        Limited(u32),
        Full { depth: u8 },
    }

    fn server() -> Value {
        json!({
            "port": "8080", "tls": "true", "ratio": "0.5", "mode": {"full": {"depth": "3"}},
            "addresses": ["127.0.0.1"], "names": {"a": "-1"}
        })
    }

    #[test]
    fn strings_stand_for_what_is_asked_for() {
        let tree = json!({"server": server()});
        let read: Server = get(&tree, "server").unwrap();
        let expected = Server {
            port: 8080,
            tls: true,
            ratio: Some(0.5),
            mode: Mode::Full { depth: 3 },
            addresses: vec!["127.0.0.1".parse().unwrap()],
            names: BTreeMap::from([("a".to_owned(), -1)]),
        };
        assert_eq!(read, expected);
        assert_eq!(get::<String>(&tree, "server.port").unwrap(), "8080");
        assert_eq!(get::<Option<u8>>(&tree, "nowhere").unwrap(), None);
        assert_eq!(
            get::<Mode>(&json!({"m": {"limited": 5}}), "m").unwrap(),
            Mode::Limited(5)
        );
        assert_eq!(
            get::<Mode>(&json!({"m": "plain"}), "m").unwrap(),
            Mode::Plain
        );
    }

    #[test]
    fn errors_name_the_path_and_not_the_value() {
        let cases = [
            (
                "port",
                json!("hunter2"),
                "server.port: expected u16, found a string",
            ),
            (
                "port",
                json!(70000),
                "server.port: expected u16, found an integer",
            ),
            (
                "tls",
                json!([1]),
                "server.tls: expected a boolean, found a list",
            ),
            (
                "mode",
                json!("hunter2"),
                "server.mode: expected one of plain, limited, full, found another",
            ),
            (
                "mode",
                json!({"full": {"depth": "hunter2"}}),
                "server.mode.depth: expected u8, found a string",
            ),
            (
                "addresses",
                json!(["hunter2"]),
                "server.addresses.0: expected a valid value, found another",
            ),
            (
                "names",
                json!({"b": "hunter2"}),
                "server.names.b: expected i32, found a string",
            ),
            (
                "other",
                json!("hunter2"),
                "server.other: expected no such key, found one",
            ),
        ];
        for (key, value, text) in cases {
            let mut tree = json!({"server": server()});
            tree["server"][key] = value;
            let error = get::<Server>(&tree, "server").unwrap_err();
            assert_eq!(error.to_string(), text);
        }
        let mut tree = json!({"server": server()});
        tree["server"].as_object_mut().unwrap().remove("port");
        let error = get::<Server>(&tree, "server").unwrap_err();
        assert_eq!(error.to_string(), "server.port is not configured");
        let error = get::<Server>(&tree, "client").unwrap_err();
        assert_eq!(error.to_string(), "client is not configured");
    }
}
