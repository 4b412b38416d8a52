//! Until when a call may last, and how the other end is told.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

/// gRPC's header: one to eight digits and a unit.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Catena's HTTP header: milliseconds.
const HTTP_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");

/// What eight digits hold.
const DIGITS_MAX: u128 = 99_999_999;

/// How long a call may last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// As long as the channel's calls may.
    #[default]
    Default,
    /// That long.
    Within(Duration),
    /// For ever: a stream whose ends watch over each other.
    Never,
}

impl Limit {
    /// The moment at which a call that begins now ends. What the request's own header says counts if nothing else was said.
    pub(super) fn deadline(
        self,
        headers: &HeaderMap,
        protocol: Protocol,
        default: Option<Duration>,
    ) -> Option<Instant> {
        let limit = match self {
            Self::Within(limit) => Some(limit),
            Self::Never => None,
            Self::Default => protocol.timeout(headers).or(default),
        };
        // One that lies beyond what the clock can tell is none.
        limit.and_then(|limit| Instant::now().checked_add(limit))
    }
}

/// Whose headers a call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    /// Tells the other end how much time is left.
    pub(super) fn stamp(self, headers: &mut HeaderMap, left: Duration) {
        match self {
            Self::Grpc => headers.insert(GRPC_TIMEOUT, grpc_value(left)),
            Self::Http => headers.insert(HTTP_TIMEOUT, HeaderValue::from(millis(left))),
        };
    }

    fn timeout(self, headers: &HeaderMap) -> Option<Duration> {
        match self {
            Self::Grpc => grpc_timeout(headers.get(GRPC_TIMEOUT)?.to_str().ok()?),
            Self::Http => {
                let value = headers.get(HTTP_TIMEOUT)?.to_str().ok()?;
                value.parse().ok().map(Duration::from_millis)
            }
        }
    }
}

fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// The exactest form that eight digits allow, rounded down.
fn grpc_value(left: Duration) -> HeaderValue {
    let forms = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (u128::from(left.as_secs()), 'S'),
        (u128::from(left.as_secs() / 60), 'M'),
    ];
    let form = forms.into_iter().find(|(count, _)| *count <= DIGITS_MAX);
    let (count, unit) = form.unwrap_or((DIGITS_MAX, 'H'));
    let text = format!("{count}{unit}");
    HeaderValue::from_str(&text).expect("digits and a letter are a header's value")
}

fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeouts_round_trip_to_eight_digits() {
        for (left, text) in [
            (Duration::ZERO, "0n"),
            (Duration::from_millis(50), "50000000n"),
            (Duration::from_secs(2), "2000000u"),
            (Duration::from_secs(1000), "1000000m"),
            (Duration::from_secs(1_000_000), "1000000S"),
            (Duration::from_secs(1_000_000_000), "16666666M"),
            (Duration::MAX, "99999999H"),
        ] {
            assert_eq!(grpc_value(left), text);
            let read = grpc_timeout(text).unwrap();
            let lost = left - read;
            assert!(lost <= left / 1000 || left == Duration::MAX, "{text}");
        }
    }

    #[test]
    fn malformed_timeouts_are_none() {
        for text in ["", "1", "S", "-1S", "1s", "123456789S", "1 S", "é"] {
            assert_eq!(grpc_timeout(text), None, "{text:?}");
        }
    }

    #[test]
    fn own_limit_wins_over_the_header_and_the_header_over_the_default() {
        let now = Instant::now();
        let default = Some(Duration::from_secs(2 * 60));
        let mut headers = HeaderMap::new();
        let deadline = |limit: Limit, headers: &HeaderMap| {
            let deadline = limit.deadline(headers, Protocol::Grpc, default);
            // To the minute, for the clock goes on meanwhile.
            deadline.map(|at| (at - now).as_secs() / 60)
        };
        assert_eq!(deadline(Limit::Default, &headers), Some(2));
        Protocol::Grpc.stamp(&mut headers, Duration::from_secs(5 * 60));
        assert_eq!(deadline(Limit::Default, &headers), Some(5));
        let own = Limit::Within(Duration::from_secs(9 * 60));
        assert_eq!(deadline(own, &headers), Some(9));
        assert_eq!(deadline(Limit::Never, &headers), None);
        assert_eq!(deadline(Limit::Within(Duration::MAX), &headers), None);
        Protocol::Http.stamp(&mut headers, Duration::from_millis(7));
        assert_eq!(headers["x-request-timeout-ms"], "7");
    }
}
