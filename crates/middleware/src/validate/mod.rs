//! Rules on fields, whose answer names every field that breaks one, in the client's language.
//!
//! A [`Field`] is a name with its rules; a [`Checker`] tries values against fields and gathers [`Violation`]s, the first of each
//! field. `required` means present: 0 and the empty text are values, which other rules judge.

pub mod fields;
mod rule;

use std::{borrow::Cow, fmt};

use serde::Serialize;

pub use rule::Rule;

use crate::{
    error::{Error, reasons},
    language::Language,
};

/// Violations that one answer names: more help nobody.
pub const VIOLATIONS_MAX: usize = 50;

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The field.
    pub field: String,
    /// The rule's name.
    pub rule: Cow<'static, str>,
    /// For people.
    pub message: String,
}

impl Violation {
    /// A field that breaks a rule.
    pub fn new(
        field: impl Into<String>,
        rule: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            rule: rule.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.field, self.rule, self.message)
    }
}

/// A field's name, in programs and in Chinese, and its rules in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name in requests, and in English texts.
    pub name: &'static str,
    /// The name in Chinese texts.
    pub zh: &'static str,
    /// The rules.
    pub rules: Cow<'static, [Rule]>,
}

impl Field {
    /// A field and its rules.
    pub const fn new(name: &'static str, zh: &'static str, rules: &'static [Rule]) -> Self {
        Self {
            name,
            zh,
            rules: Cow::Borrowed(rules),
        }
    }
}

/// Gathers what is wrong with a request.
#[derive(Debug)]
pub struct Checker {
    language: Language,
    violations: Vec<Violation>,
}

impl Checker {
    /// For texts in the language of the current request.
    pub fn new() -> Self {
        Self {
            language: Language::current(),
            violations: Vec::new(),
        }
    }

    /// Tries a text.
    pub fn text(&mut self, field: &Field, value: Option<&str>) {
        let broken = field.rules.iter().find(|rule| !rule.admits_text(value));
        self.note(field, broken);
    }

    /// Tries a whole number.
    pub fn integer(&mut self, field: &Field, value: Option<i64>) {
        let broken = field.rules.iter().find(|rule| !rule.admits_integer(value));
        self.note(field, broken);
    }

    fn note(&mut self, field: &Field, broken: Option<&Rule>) {
        if let Some(rule) = broken {
            let label = self.language.pick(field.zh, field.name);
            let message = rule.message(label, self.language);
            self.add(Violation::new(field.name, rule.name(), message));
        }
    }

    /// Notes what no rule of a field says: a wrong type, for example.
    pub fn add(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }

    /// Notes that a field is not of its type.
    pub fn wrong_type(&mut self, field: &Field, rule: &'static str, zh: &str, en: &str) {
        let message = match self.language {
            Language::Chinese => format!("{}必须是{zh}", field.zh),
            Language::English => format!("{} must be {en}", field.name),
        };
        self.add(Violation::new(field.name, rule, message));
    }

    /// The error that names all of them, if there are any.
    pub fn finish(self) -> Result<(), Error> {
        if self.violations.is_empty() {
            Ok(())
        } else {
            Err(Error::invalid(self.violations))
        }
    }
}

impl Default for Checker {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads an id of 64 bits: digits, as they are written for one, and no other text.
pub fn id(text: &str) -> Result<i64, Error> {
    let id = text.parse::<i64>().ok().filter(|id| *id > 0);
    let is_own_text = |id: &i64| id.to_string() == text;
    id.filter(is_own_text)
        .ok_or_else(|| Error::of(&reasons::INVALID_PARAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_fails_is_named_once() {
        let mut checker = Checker::new();
        checker.text(&fields::NAME, Some("  "));
        checker.text(&fields::EMAIL, None);
        checker.integer(&fields::age(18), Some(17));
        let error = checker.finish().unwrap_err();
        let said: Vec<String> = error
            .violations()
            .iter()
            .map(Violation::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "name (not_blank): 用户名不能为空",
                "email (required): 邮箱不能缺少",
                "age (gte): 年龄不能小于18"
            ]
        );
    }

    #[test]
    fn an_id_is_a_number_in_its_own_digits() {
        assert_eq!(id("9223372036854775807").unwrap(), i64::MAX);
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "01",
            "1.0",
            " 1",
            "abc",
            "9223372036854775808",
        ] {
            assert!(id(text).unwrap_err().is(&reasons::INVALID_PARAM), "{text}");
        }
    }

    #[test]
    fn there_is_an_end_to_them() {
        let mut checker = Checker::new();
        for _ in 0..1000 {
            checker.text(&fields::NAME, None);
        }
        assert_eq!(
            checker.finish().unwrap_err().violations().len(),
            VIOLATIONS_MAX
        );
    }
}
