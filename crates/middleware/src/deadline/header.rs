//! Deadlines on the wire: `grpc-timeout` and `x-request-timeout-ms`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, Result, reasons};

/// gRPC's header: up to eight digits and a unit.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// HTTP's: milliseconds.
pub const REQUEST_TIMEOUT_MS: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// Digits that gRPC allows.
const GRPC_DIGITS_MAX: usize = 8;

/// Digits of milliseconds: more than eleven days are no timeout.
const MS_DIGITS_MAX: usize = 9;

/// The least of what the headers say, if they say anything.
pub(crate) fn read(headers: &HeaderMap) -> Result<Option<Duration>> {
    let grpc = one(headers, &GRPC_TIMEOUT, grpc)?;
    let http = one(headers, &REQUEST_TIMEOUT_MS, milliseconds)?;
    Ok(grpc.into_iter().chain(http).min())
}

fn one(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: fn(&str) -> Option<Duration>,
) -> Result<Option<Duration>> {
    let malformed =
        || Error::of(&reasons::DEADLINE_MALFORMED).with_metadata("header", name.as_str());
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let parsed = value.to_str().ok().and_then(parse);
    parsed.map(Some).ok_or_else(malformed)
}

fn grpc(text: &str) -> Option<Duration> {
    let unit = text
        .len()
        .checked_sub(1)
        .filter(|at| text.is_char_boundary(*at))?;
    let (digits, unit) = text.split_at(unit);
    let amount = number(digits, GRPC_DIGITS_MAX)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn milliseconds(text: &str) -> Option<Duration> {
    number(text, MS_DIGITS_MAX).map(Duration::from_millis)
}

fn number(digits: &str, max: usize) -> Option<u64> {
    let valid =
        (1..=max).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().ok())?
}

/// `timeout` as a value of [`GRPC_TIMEOUT`], in the finest unit that has room for it, rounded down.
pub fn write_grpc(timeout: Duration) -> HeaderValue {
    const ROOM: u128 = 99_999_999;
    let (amount, unit) = [
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
    ]
    .into_iter()
    .find(|(amount, _)| *amount <= ROOM)
    .unwrap_or((ROOM, 'S'));
    HeaderValue::try_from(format!("{amount}{unit}"))
        .expect("digits and a letter are a header's value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn every_unit_is_read() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("0S", Duration::ZERO),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("7n", Duration::from_nanos(7)),
        ] {
            assert_eq!(grpc(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused_and_not_ignored() {
        for text in [
            "",
            "S",
            "5",
            "5s",
            "-1S",
            "+1S",
            "1.5S",
            "123456789S",
            " 1S",
            "1 S",
            "é",
        ] {
            assert_eq!(grpc(text), None, "{text:?}");
        }
        for text in ["", "5s", "-1", "1.5", "1234567890", "+1"] {
            assert_eq!(milliseconds(text), None, "{text:?}");
        }
        let twice = headers(&[(GRPC_TIMEOUT, "1S"), (GRPC_TIMEOUT, "1S")]);
        assert!(read(&twice).unwrap_err().is(&reasons::DEADLINE_MALFORMED));
    }

    #[test]
    fn the_lesser_of_two_counts() {
        let both = headers(&[(GRPC_TIMEOUT, "1S"), (REQUEST_TIMEOUT_MS, "20")]);
        assert_eq!(read(&both).unwrap(), Some(Duration::from_millis(20)));
        assert_eq!(read(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn what_is_written_is_never_more() {
        for micros in [
            0,
            1,
            99_999_999,
            100_000_000,
            99_999_999_000,
            100_000_000_000,
            u64::MAX,
        ] {
            let timeout = Duration::from_micros(micros);
            let text = write_grpc(timeout);
            let read = grpc(text.to_str().unwrap()).unwrap();
            assert!(read <= timeout, "{text:?}");
        }
    }
}
