//! The language of texts for people: Chinese, unless the client prefers English.

use http::{HeaderMap, header};

use crate::record::Record;

/// A language that every text exists in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// The default, as in the article.
    #[default]
    Chinese,
    /// `Accept-Language: en`.
    English,
}

impl Language {
    /// The language of the request that this task answers.
    pub fn current() -> Self {
        Record::current().map_or_else(Self::default, |record| record.language())
    }

    /// What `Accept-Language` prefers of the two.
    pub fn of(headers: &HeaderMap) -> Self {
        let Some(accepted) = headers.get(header::ACCEPT_LANGUAGE) else {
            return Self::default();
        };
        let accepted = accepted.to_str().unwrap_or_default();
        let mut best = (0, Self::default());
        for range in accepted.split(',') {
            let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let language = match primary.to_ascii_lowercase().as_str() {
                "zh" | "*" => Self::Chinese,
                "en" => Self::English,
                _ => continue,
            };
            let quality = quality(parameters);
            if quality > best.0 {
                best = (quality, language);
            }
        }
        best.1
    }

    /// The language's name in `Accept-Language`.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Chinese => "zh",
            Self::English => "en",
        }
    }

    /// One of two texts.
    pub fn pick<T>(self, zh: T, en: T) -> T {
        match self {
            Self::Chinese => zh,
            Self::English => en,
        }
    }
}

/// `q=0.8` in thousandths; 1000 if absent, 0 if malformed.
fn quality(parameters: &str) -> u32 {
    let Some(value) = parameters.trim().strip_prefix("q=") else {
        return 1000;
    };
    let value: f32 = value.trim().parse().unwrap_or(0.0);
    // The cast of a float saturates.
    (value.clamp(0.0, 1.0) * 1000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_one_of_two_is_taken() {
        use Language::{Chinese, English};
        for (accepted, language) in [
            ("", Chinese),
            ("en", English),
            ("EN-gb", English),
            ("zh-CN,zh;q=0.9,en;q=0.8", Chinese),
            ("en;q=0.7, zh;q=0.2", English),
            ("fr, de;q=0.9", Chinese),
            ("fr, en;q=0.1", English),
            ("en;q=0", Chinese),
            ("en;q=nonsense", Chinese),
            ("*", Chinese),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, accepted.parse().unwrap());
            assert_eq!(Language::of(&headers), language, "{accepted:?}");
        }
    }
}
