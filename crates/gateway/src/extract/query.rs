//! Parameters behind the question mark.

use std::collections::BTreeMap;

use axum::extract::FromRequestParts;
use catena_middleware::{
    admit::target::decode,
    error::{Error, Result, reasons},
    validate::{Checker, Field},
};
use http::request::Parts;

/// Parameters by name, each given once. Names that nobody asks for are ignored.
#[derive(Debug)]
pub struct Query {
    values: BTreeMap<String, String>,
    checker: Checker,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    pub(crate) fn parse(query: &str) -> Result<Self> {
        let mut values = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (plus(name), plus(value)) else {
                return Err(Error::of(&reasons::INVALID_PARAM));
            };
            if values.contains_key(&name) {
                return Err(Error::of(&reasons::DUPLICATE_PARAM));
            }
            values.insert(name, value);
        }
        Ok(Self {
            values,
            checker: Checker::new(),
        })
    }

    /// A parameter as it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// A whole number that keeps a field's rules.
    pub fn integer(&mut self, field: &Field) -> Option<i64> {
        let number = match self.values.remove(field.name) {
            Some(text) => match text.parse() {
                Ok(number) => Some(number),
                Err(_) => {
                    self.checker
                        .wrong_type(field, "integer", "整数", "a whole number");
                    return None;
                }
            },
            None => None,
        };
        self.checker.integer(field, number);
        number
    }

    /// The error that names all that is wrong, if something is.
    pub fn finish(self) -> Result<()> {
        self.checker.finish()
    }
}

/// Decoded, with `+` for a space as forms write it.
fn plus(text: &str) -> Option<String> {
    decode(&text.replace('+', " "))
}

#[cfg(test)]
mod tests {
    use catena_middleware::validate::fields::LIMIT;

    use super::*;

    #[test]
    fn parameters_are_decoded_and_given_once() {
        let mut query = Query::parse("limit=5&cursor=a%20b+c&x=").unwrap();
        assert_eq!(query.text("cursor").unwrap(), "a b c");
        assert_eq!(query.integer(&LIMIT), Some(5));
        query.finish().unwrap();
        assert!(
            Query::parse("a=1&b=2&a=1")
                .unwrap_err()
                .is(&reasons::DUPLICATE_PARAM)
        );
        assert!(
            Query::parse("a=%zz")
                .unwrap_err()
                .is(&reasons::INVALID_PARAM)
        );
    }

    #[test]
    fn numbers_keep_their_rules() {
        for (text, rule) in [
            ("limit=x", "integer"),
            ("limit=0", "gte"),
            ("limit=101", "lte"),
            ("limit=", "integer"),
            ("limit=99999999999999999999", "integer"),
        ] {
            let mut query = Query::parse(text).unwrap();
            query.integer(&LIMIT);
            let error = query.finish().unwrap_err();
            assert_eq!(error.violations()[0].rule, rule, "{text}");
        }
    }
}
