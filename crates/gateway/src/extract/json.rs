//! JSON as RFC 8259 has it, and no more: what is ambiguous is refused before anyone reads a meaning into it.
//!
//! A key that an object has twice is an error, where most readers take the first or the last. Numbers stay as they are written, so
//! that `1e400`, `18.5` and an id of 64 bits are judged by the field that wants them. Where the text is broken, line and column are
//! told, and nothing of the text.

use std::{collections::BTreeMap, str::Chars};

use catena_middleware::error::{Error, Result, reasons};

/// Levels of arrays and objects: no honest body has as many, and each is a call on the stack.
pub const DEPTH_MAX: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// As it is written.
    Number(String),
    /// Unescaped.
    Text(String),
    /// In order.
    Array(Vec<Value>),
    /// By key.
    Object(BTreeMap<String, Value>),
}

/// Reads one value and nothing after it.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            return Err(broken(&valid));
        }
    };
    let mut reader = Reader {
        text,
        rest: text.chars(),
        depth: 0,
    };
    let value = reader.value()?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.broken()),
    }
}

/// What is wrong stands behind `before`.
fn broken(before: &str) -> Error {
    let line = before.matches('\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    let column = last.chars().count() + 1;
    let error = Error::of(&reasons::MALFORMED_JSON);
    let message = format!("{} ({line}:{column})", error.message());
    error
        .with_message(message)
        .with_metadata("line", line.to_string())
        .with_metadata("column", column.to_string())
}

struct Reader<'a> {
    text: &'a str,
    rest: Chars<'a>,
    depth: usize,
}

impl Reader<'_> {
    fn broken(&self) -> Error {
        let at = self.text.len() - self.rest.as_str().len();
        broken(&self.text[..at])
    }

    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.rest.next();
        }
    }

    /// Takes `wanted` if it is next.
    fn takes(&mut self, wanted: char) -> bool {
        let is_next = self.peek() == Some(wanted);
        if is_next {
            self.rest.next();
        }
        is_next
    }

    fn value(&mut self) -> Result<Value> {
        self.skip_space();
        match self.peek() {
            Some('{') => self.nested(Self::object),
            Some('[') => self.nested(Self::array),
            Some('"') => self.string().map(Value::Text),
            Some('-' | '0'..='9') => self.number(),
            Some('t') => self.word("true", Value::Bool(true)),
            Some('f') => self.word("false", Value::Bool(false)),
            Some('n') => self.word("null", Value::Null),
            Some(_) | None => Err(self.broken()),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value>) -> Result<Value> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.broken());
        }
        self.rest.next();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value> {
        let mut fields = BTreeMap::new();
        self.skip_space();
        if self.takes('}') {
            return Ok(Value::Object(fields));
        }
        loop {
            self.skip_space();
            let key = self.string()?;
            self.skip_space();
            if !self.takes(':') {
                return Err(self.broken());
            }
            let value = self.value()?;
            if fields.insert(key, value).is_some() {
                return Err(Error::of(&reasons::DUPLICATE_FIELD));
            }
            self.skip_space();
            if self.takes('}') {
                return Ok(Value::Object(fields));
            }
            if !self.takes(',') {
                return Err(self.broken());
            }
        }
    }

    fn array(&mut self) -> Result<Value> {
        let mut values = Vec::new();
        self.skip_space();
        if self.takes(']') {
            return Ok(Value::Array(values));
        }
        loop {
            values.push(self.value()?);
            self.skip_space();
            if self.takes(']') {
                return Ok(Value::Array(values));
            }
            if !self.takes(',') {
                return Err(self.broken());
            }
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value> {
        match self.rest.as_str().strip_prefix(word) {
            Some(rest) => {
                self.rest = rest.chars();
                Ok(value)
            }
            None => Err(self.broken()),
        }
    }

    fn number(&mut self) -> Result<Value> {
        let begin = self.rest.as_str();
        self.takes('-');
        if !self.takes('0') {
            self.digits()?;
        }
        if self.takes('.') {
            self.digits()?;
        }
        if self.takes('e') || self.takes('E') {
            if !self.takes('+') {
                self.takes('-');
            }
            self.digits()?;
        }
        let length = begin.len() - self.rest.as_str().len();
        Ok(Value::Number(begin[..length].to_owned()))
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<()> {
        if !matches!(self.peek(), Some('0'..='9')) {
            return Err(self.broken());
        }
        while matches!(self.peek(), Some('0'..='9')) {
            self.rest.next();
        }
        Ok(())
    }

    fn string(&mut self) -> Result<String> {
        if !self.takes('"') {
            return Err(self.broken());
        }
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => {
                    self.rest.next();
                    return Ok(text);
                }
                Some('\\') => {
                    self.rest.next();
                    text.push(self.escape()?);
                }
                Some('\0'..='\u{1f}') | None => return Err(self.broken()),
                Some(plain) => {
                    self.rest.next();
                    text.push(plain);
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let character = match self.peek() {
            Some('"') => '"',
            Some('\\') => '\\',
            Some('/') => '/',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => return self.unicode(),
            Some(_) | None => return Err(self.broken()),
        };
        self.rest.next();
        Ok(character)
    }

    /// `uXXXX`, or two of them that are one character beyond the first plane.
    fn unicode(&mut self) -> Result<char> {
        let first = self.unit()?;
        let code = match first {
            0xd800..=0xdbff => {
                if !self.takes('\\') {
                    return Err(self.broken());
                }
                match self.unit()? {
                    second @ 0xdc00..=0xdfff => {
                        0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    _ => return Err(self.broken()),
                }
            }
            single => single,
        };
        char::from_u32(code).ok_or_else(|| self.broken())
    }

    fn unit(&mut self) -> Result<u32> {
        if !self.takes('u') {
            return Err(self.broken());
        }
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|digit| digit.to_digit(16));
            unit = unit * 16 + digit.ok_or_else(|| self.broken())?;
            self.rest.next();
        }
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().reason().to_owned()
    }

    #[test]
    fn numbers_stay_as_written() {
        for text in [
            "0",
            "-0",
            "18.5",
            "1e400",
            "12345678901234567890",
            "-1.5E-7",
        ] {
            assert_eq!(
                parse(text.as_bytes()).unwrap(),
                Value::Number(text.to_owned())
            );
        }
    }

    #[test]
    fn what_is_broken_is_told_by_place_and_not_by_content() {
        let error = parse(b"{\n  \"secret\": tru }").unwrap_err();
        assert_eq!(error.metadata()["line"], "2");
        assert_eq!(error.metadata()["column"], "13");
        assert!(error.message().contains("2:13") && !error.message().contains("secret"));
        for text in [
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "01",
            "1.",
            "1e",
            "+1",
            ".5",
            "'a'",
            "\"\n\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\ud800\\u0041\"",
            "1 2",
            "nul",
            "{}x",
            "\"abc",
            "NaN",
            "{a:1}",
        ] {
            assert_eq!(reason(text), "MALFORMED_JSON", "{text}");
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err().reason(), "MALFORMED_JSON");
    }

    #[test]
    fn a_key_stands_once_and_levels_have_an_end() {
        assert_eq!(reason(r#"{"a":1,"b":2,"a":1}"#), "DUPLICATE_FIELD");
        assert_eq!(reason(r#"{"a":1,"\u0061":1}"#), "DUPLICATE_FIELD");
        let nest = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(parse(nest(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(reason(&nest(DEPTH_MAX + 1)), "MALFORMED_JSON");
        assert_eq!(reason(&"[".repeat(1_000_000)), "MALFORMED_JSON");
    }

    fn same(own: &Value, other: &serde_json::Value) -> bool {
        use serde_json::Value as Other;
        match (own, other) {
            (Value::Null, Other::Null) => true,
            (Value::Bool(a), Other::Bool(b)) => a == b,
            (Value::Text(a), Other::String(b)) => a == b,
            (Value::Number(a), Other::Number(b)) => a.parse::<f64>().ok() == b.as_f64(),
            (Value::Array(a), Other::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), Other::Object(b)) => {
                a.len() == b.len()
                    && a.iter()
                        .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
            }
            _ => false,
        }
    }

    proptest! {
        /// Against another reader, on texts that are nearly JSON.
        #[test]
        fn it_reads_what_serde_json_reads(text in "[\\[\\]{}:,\"a\\\\u0-9eE.\\- \ntrfalsn+]{0,24}") {
            let own = parse(text.as_bytes());
            match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(other) => match own {
                    Ok(own) => prop_assert!(same(&own, &other), "{text}"),
                    Err(error) => prop_assert_eq!(error.reason(), "DUPLICATE_FIELD"),
                },
                // It refuses numbers that do not fit; ours are judged by their fields.
                Err(error) if error.to_string().contains("number out of range") => {}
                Err(_) => prop_assert!(own.is_err(), "{text}"),
            }
        }

        #[test]
        fn it_reads_what_is_written(texts in proptest::collection::vec(any::<String>(), 0..5)) {
            let written = serde_json::to_string(&texts).unwrap();
            let read = parse(written.as_bytes()).unwrap();
            let expected = Value::Array(texts.into_iter().map(Value::Text).collect());
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _read = parse(&bytes);
        }
    }
}
