//! The rules.

use crate::language::Language;

/// What a value must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// It is there.
    Required,
    /// It has more than white space.
    NotBlank,
    /// It has at most so many characters.
    MaxChars(usize),
    /// It has no control characters.
    Printable,
    /// It is an address that mail can be sent to.
    Email,
    /// It is at least so great.
    Gte(i64),
    /// It is at most so great.
    Lte(i64),
}

/// Of an address: what SMTP carries.
const EMAIL_CHARS_MAX: usize = 254;
const LOCAL_CHARS_MAX: usize = 64;
const LABEL_CHARS_MAX: usize = 63;

impl Rule {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::NotBlank => "not_blank",
            Self::MaxChars(_) => "max_chars",
            Self::Printable => "printable",
            Self::Email => "email",
            Self::Gte(_) => "gte",
            Self::Lte(_) => "lte",
        }
    }

    /// Whether a text keeps it. One that is not there breaks [`Rule::Required`] alone.
    pub fn admits_text(self, value: Option<&str>) -> bool {
        let Some(text) = value else {
            return self != Self::Required;
        };
        match self {
            Self::Required | Self::Gte(_) | Self::Lte(_) => true,
            Self::NotBlank => !text.trim().is_empty(),
            Self::MaxChars(max) => text.chars().count() <= max,
            Self::Printable => !text.chars().any(char::is_control),
            Self::Email => is_email(text),
        }
    }

    /// Whether a number keeps it. One that is not there breaks [`Rule::Required`] alone.
    pub fn admits_integer(self, value: Option<i64>) -> bool {
        let Some(number) = value else {
            return self != Self::Required;
        };
        match self {
            Self::Gte(bound) => number >= bound,
            Self::Lte(bound) => number <= bound,
            Self::Required | Self::NotBlank | Self::MaxChars(_) | Self::Printable | Self::Email => {
                true
            }
        }
    }

    /// What is said when it is broken.
    pub fn message(self, label: &str, language: Language) -> String {
        match language {
            Language::Chinese => match self {
                Self::Required => format!("{label}不能缺少"),
                Self::NotBlank => format!("{label}不能为空"),
                Self::MaxChars(max) => format!("{label}不能超过{max}个字符"),
                Self::Printable => format!("{label}不能含有控制字符"),
                Self::Email => format!("{label}格式不正确"),
                Self::Gte(bound) => format!("{label}不能小于{bound}"),
                Self::Lte(bound) => format!("{label}不能大于{bound}"),
            },
            Language::English => match self {
                Self::Required => format!("{label} is required"),
                Self::NotBlank => format!("{label} must not be blank"),
                Self::MaxChars(max) => format!("{label} must have at most {max} characters"),
                Self::Printable => format!("{label} must not have control characters"),
                Self::Email => format!("{label} must be an email address"),
                Self::Gte(bound) => format!("{label} must be at least {bound}"),
                Self::Lte(bound) => format!("{label} must be at most {bound}"),
            },
        }
    }
}

/// The addresses that people have: a dotted atom, `@`, a name of two labels or more. No quotes, comments or address literals.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else {
        return false;
    };
    text.len() <= EMAIL_CHARS_MAX
        && local.len() <= LOCAL_CHARS_MAX
        && local.split('.').all(is_atom)
        && domain.contains('.')
        && domain.split('.').all(is_label)
}

fn is_atom(atom: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    !atom.is_empty() && atom.bytes().all(allowed)
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && label.len() <= LABEL_CHARS_MAX
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_others() {
        for good in [
            "a@b.c",
            "alice+tag@example.com",
            "a.b@x-y.example",
            "o'neil@example.org",
        ] {
            assert!(is_email(good), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(65));
        for bad in [
            "",
            "a",
            "@",
            "a@",
            "@b.c",
            "a@b",
            "a b@c.d",
            "a@b..c",
            ".a@b.c",
            "a.@b.c",
            "a@-b.c",
            "a@b.c-",
            "a@b@c.d",
            "用户@例子.中国",
            "a@b.c\n",
            long.as_str(),
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }

    #[test]
    fn absent_is_not_zero_and_zero_is_a_value() {
        assert!(!Rule::Required.admits_integer(None));
        assert!(Rule::Required.admits_integer(Some(0)));
        assert!(Rule::Gte(0).admits_integer(Some(0)) && !Rule::Gte(0).admits_integer(Some(-1)));
        assert!(
            Rule::Lte(150).admits_integer(Some(150)) && !Rule::Lte(150).admits_integer(Some(151))
        );
        assert!(Rule::Gte(0).admits_integer(None));
        assert!(Rule::Required.admits_text(Some("")));
    }

    #[test]
    fn every_rule_speaks_both_languages() {
        use Rule::{Email, Gte, Lte, MaxChars, NotBlank, Printable, Required};
        for rule in [
            Required,
            NotBlank,
            MaxChars(3),
            Printable,
            Email,
            Gte(18),
            Lte(150),
        ] {
            let (zh, en) = (
                rule.message("L", Language::Chinese),
                rule.message("L", Language::English),
            );
            assert!(zh.starts_with('L') && en.starts_with("L ") && zh != en && en.is_ascii());
        }
    }
}
