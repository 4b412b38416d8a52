//! How Go's `flag` package reads values, since that is what etcd's start scripts were written for.

use std::time::Duration;

use catena_server::Url;

/// What a flag's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`; the flag may stand alone, and never takes the next argument.
    Bool,
    /// A whole number of 64 bits.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// The same in 32 bits.
    Uint32,
    /// Numbers with units, such as `1h30m`.
    Duration,
    /// URLs separated by commas.
    Urls,
    /// The same, or nothing.
    UrlsOrNone,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `Name=true,Other=false` with names of feature gates.
    Gates,
    /// Anything or nothing: the flag has lost its meaning.
    Ignored,
}

impl Kind {
    /// Whether the flag may stand without a value.
    pub(crate) fn is_bare(self) -> bool {
        matches!(self, Kind::Bool | Kind::Ignored)
    }

    /// Whether `text` can be read; the error is the end of Go's sentence about it.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Kind::Text | Kind::Ignored => Ok(()),
            Kind::Bool => bool_of(text).map(drop).ok_or_else(|| "parse error".into()),
            Kind::Int => int_of(text).map(drop).map_err(str::to_owned),
            Kind::Uint => uint_of(text).map(drop).map_err(str::to_owned),
            Kind::Uint32 => match uint_of(text)?.try_into() {
                Ok::<u32, _>(_) => Ok(()),
                Err(_) => Err(OUT_OF_RANGE.to_owned()),
            },
            Kind::Duration => nanos_of(text).map(drop).ok_or_else(|| "parse error".into()),
            Kind::UrlsOrNone if text.is_empty() => Ok(()),
            Kind::Urls | Kind::UrlsOrNone => urls_of(text).map(drop),
            Kind::OneOf(words) if words.contains(&text) => Ok(()),
            Kind::OneOf(_) => Err("invalid value".into()),
            Kind::Gates => super::gates::parse(text).map(drop),
        }
    }
}

const PARSE_ERROR: &str = "parse error";
const OUT_OF_RANGE: &str = "value out of range";

/// Go's `strconv.ParseBool`.
pub(crate) fn bool_of(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseUint` with base 0: the prefix says the base, `_` may stand between digits.
pub(crate) fn uint_of(text: &str) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    let based = lower.len() > digits.len();
    let underscores_stand_well =
        !digits.contains("__") && !digits.ends_with('_') && (based || !digits.starts_with('_'));
    let digits: String = digits.chars().filter(|c| *c != '_').collect();
    let all_digits = digits.chars().all(|c| c.is_digit(base));
    if digits.is_empty() || !all_digits || !underscores_stand_well {
        return Err(PARSE_ERROR);
    }
    u64::from_str_radix(&digits, base).map_err(|_| OUT_OF_RANGE)
}

/// Go's `strconv.ParseInt` with base 0.
pub(crate) fn int_of(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(uint_of(digits)?);
    let value = if negative { -magnitude } else { magnitude };
    value.try_into().map_err(|_| OUT_OF_RANGE)
}

/// Nanoseconds for each of Go's units; the longer names stand before their endings.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Go's `time.ParseDuration`, in nanoseconds.
pub(crate) fn nanos_of(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut nanos = 0.0;
    loop {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|digits| *digits > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == &rest[..unit])?;
        nanos += number * scale;
        rest = &rest[unit..];
        if rest.is_empty() {
            break;
        }
    }
    let signed = sign * nanos;
    (signed.abs() < i64::MAX as f64).then_some(signed as i64)
}

/// The same for settings that know no negative time: below zero is zero.
pub(crate) fn duration_of(text: &str) -> Option<Duration> {
    nanos_of(text).map(|nanos| Duration::from_nanos(nanos.max(0) as u64))
}

/// URLs separated by commas, in etcd's order, which is that of their texts.
pub(crate) fn urls_of(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = Vec::new();
    for one in text.split(',') {
        let url: Url = one.trim().parse().map_err(|error| format!("{error}"))?;
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls.sort_by_key(Url::to_string);
    Ok(urls)
}

/// `name=url,name=url` as in `--initial-cluster`; an element without `=` has an empty URL, as in etcd.
pub(crate) fn cluster_of(text: &str) -> Vec<(String, String)> {
    text.split(',')
        .filter(|element| !element.is_empty())
        .map(|element| element.split_once('=').unwrap_or((element, "")))
        .map(|(name, url)| (name.to_owned(), url.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("0", Ok(0)),
            ("100", Ok(100)),
            ("0x10", Ok(16)),
            ("0b11", Ok(3)),
            ("0o17", Ok(15)),
            ("017", Ok(15)),
            ("1_000", Ok(1000)),
            ("0x_f", Ok(15)),
            ("", Err(PARSE_ERROR)),
            ("-1", Err(PARSE_ERROR)),
            ("1__0", Err(PARSE_ERROR)),
            ("_1", Err(PARSE_ERROR)),
            ("1_", Err(PARSE_ERROR)),
            ("08", Err(PARSE_ERROR)),
            ("1.5", Err(PARSE_ERROR)),
            ("18446744073709551616", Err(OUT_OF_RANGE)),
        ] {
            assert_eq!(uint_of(text), value, "{text}");
        }
        assert_eq!(int_of("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(int_of("9223372036854775808"), Err(OUT_OF_RANGE));
        assert_eq!(int_of("+5"), Ok(5));
        assert_eq!(int_of("--5"), Err(PARSE_ERROR));
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("-5m", Some(-300_000_000_000)),
            ("10ms", Some(10_000_000)),
            ("3us", Some(3000)),
            ("3µs", Some(3000)),
            ("5", None),
            ("s", None),
            ("1x", None),
            ("1.2.3s", None),
            ("", None),
            ("-", None),
            ("9999999h", None),
        ] {
            assert_eq!(nanos_of(text), nanos, "{text}");
        }
        assert_eq!(duration_of("-5m"), Some(Duration::ZERO));
    }

    #[test]
    fn urls_are_trimmed_sorted_and_kept_once() {
        let urls = urls_of("http://b:1, http://a:1,http://b:1").unwrap();
        let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
        assert_eq!(texts, ["http://a:1", "http://b:1"]);
        assert_eq!(Kind::UrlsOrNone.check(""), Ok(()));
        assert!(Kind::Urls.check("").is_err());
        assert!(urls_of("foo").unwrap_err().contains("URL scheme must be"));
    }

    #[test]
    fn an_initial_cluster_may_name_a_member_twice() {
        let pair = |name: &str, url: &str| (name.to_owned(), url.to_owned());
        assert_eq!(
            cluster_of("a=http://x:1,b=http://y:1,,a=http://z:1,c"),
            [
                pair("a", "http://x:1"),
                pair("b", "http://y:1"),
                pair("a", "http://z:1"),
                pair("c", "")
            ]
        );
    }
}
