//! Identifiers that sort by the time at which they were made.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::clock;

/// Crockford's digits of base 32.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Digits of 5 bits that hold 128 bits.
const LENGTH: usize = 26;

/// A ULID: 48 bits of milliseconds since 1970, then 80 random bits. Which run of a process a registration belongs to.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

impl Ulid {
    /// The value of an instance that nobody has registered yet.
    pub const NIL: Self = Self(0);

    /// A new one.
    pub fn generate() -> Self {
        Self::from_parts(clock::unix_ms(), rand::random())
    }

    /// Of a time and of random bits, the lower 80 of which count.
    pub fn from_parts(unix_ms: u64, random: u128) -> Self {
        Self(u128::from(unix_ms) << 80 | random & (u128::MAX >> 48))
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digit = |place: usize| {
            let bits = self.0 >> (5 * (LENGTH - 1 - place)) & 0x1f;
            char::from(DIGITS[bits as usize])
        };
        f.write_str(&(0..LENGTH).map(digit).collect::<String>())
    }
}

impl fmt::Debug for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a ULID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ULID")]
pub struct NotUlid;

impl FromStr for Ulid {
    type Err = NotUlid;

    fn from_str(text: &str) -> Result<Self, NotUlid> {
        // The first digit holds 3 bits only.
        if text.len() != LENGTH || text.as_bytes()[0] > b'7' {
            return Err(NotUlid);
        }
        let mut value = 0;
        for byte in text.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == byte);
            value = value << 5 | digit.ok_or(NotUlid)? as u128;
        }
        Ok(Self(value))
    }
}

impl Serialize for Ulid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ulid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let known = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
        let ulid: Ulid = known.parse().unwrap();
        assert_eq!(ulid.to_string(), known);
        assert_eq!(ulid.0 >> 80, 1_469_922_850_259);
        let largest = Ulid(u128::MAX);
        assert_eq!(largest.to_string().parse(), Ok(largest));
        for bad in [
            "",
            "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "é1ARZ3NDEKTSV4RRFFQ69G5FA",
        ] {
            assert_eq!(bad.parse::<Ulid>(), Err(NotUlid), "{bad}");
        }
    }

    #[test]
    fn later_is_greater() {
        assert!(Ulid::from_parts(1, u128::MAX) < Ulid::from_parts(2, 0));
        assert_ne!(Ulid::generate(), Ulid::generate());
    }
}
