//! The fields of a JSON object, tried one by one against their types and rules.

use std::collections::BTreeMap;

use catena_middleware::{
    error::{Error, Result},
    validate::{Checker, Field, Violation},
};

use super::json::Value;

/// An object that is being read. Fields that nobody asks for are ignored.
#[derive(Debug)]
pub struct Form {
    values: BTreeMap<String, Value>,
    checker: Checker,
}

impl Form {
    /// The fields of `value`, which must be an object.
    pub(super) fn new(value: Value) -> Result<Self> {
        match value {
            Value::Object(values) => Ok(Self {
                values,
                checker: Checker::new(),
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Array(_) => {
                let violation = Violation::new("", "object", "the body must be an object");
                Err(Error::invalid(vec![violation]))
            }
        }
    }

    /// Whether a field is there and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.values.get(name) == Some(&Value::Null)
    }

    /// A text that keeps a field's rules; null is as good as absent.
    pub fn text(&mut self, field: &Field) -> Option<String> {
        match self.values.remove(field.name).unwrap_or(Value::Null) {
            Value::Text(text) => {
                self.checker.text(field, Some(&text));
                Some(text)
            }
            Value::Null => {
                self.checker.text(field, None);
                None
            }
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                self.checker
                    .wrong_type(field, "string", "字符串", "a string");
                None
            }
        }
    }

    /// The same for a change: a field that is absent stays as it is, so that not even `required` is asked of it.
    pub fn changed_text(&mut self, field: &Field) -> Option<String> {
        if self.values.contains_key(field.name) {
            self.text(field)
        } else {
            None
        }
    }

    /// A whole number that keeps a field's rules; null is as good as absent.
    pub fn integer(&mut self, field: &Field) -> Option<i64> {
        let number = match self.values.remove(field.name).unwrap_or(Value::Null) {
            Value::Number(text) => text.parse().ok(),
            Value::Null => {
                self.checker.integer(field, None);
                return None;
            }
            Value::Text(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        match number {
            Some(number) => self.checker.integer(field, Some(number)),
            None => self
                .checker
                .wrong_type(field, "integer", "整数", "a whole number"),
        }
        number
    }

    /// The error that names all that is wrong, if something is.
    pub fn finish(self) -> Result<()> {
        self.checker.finish()
    }
}
