//! Values, long ones as their digest.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Longer values are kept as a digest.
const WHOLE_BYTES_MAX: usize = 256;

/// A value.
///
/// Two values are equal if their recorded forms are: [`Value::recorded`].
#[derive(Clone)]
pub enum Value {
    /// Itself.
    Whole(Bytes),
    /// Of a long value: what is left of it in a history.
    Digest(Arc<Digest>),
}

/// What is left of a long value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    /// What comes before the first `#`.
    pub token: Bytes,
    /// Length of the value.
    pub len: u64,
    /// SHA-256 of the value in hex.
    pub sha256: String,
}

impl Value {
    /// The form in a history: long values are replaced by their digest.
    pub fn recorded(self) -> Self {
        match self {
            Value::Whole(bytes) if bytes.len() > WHOLE_BYTES_MAX => {
                let hash = Sha256::digest(&bytes);
                Value::Digest(Arc::new(Digest {
                    token: bytes.slice(..before_hash(&bytes)),
                    len: bytes.len() as u64,
                    sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
                }))
            }
            short => short,
        }
    }

    /// The bytes of a value that is whole, or the token of one that is not.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Value::Whole(bytes) => bytes,
            Value::Digest(digest) => &digest.token,
        }
    }

    /// The text that marks who wrote it: what comes before the first `#`.
    pub fn token(&self) -> &[u8] {
        let bytes = self.bytes();
        &bytes[..before_hash(bytes)]
    }

    /// Whether it is the empty value.
    pub fn is_empty(&self) -> bool {
        matches!(self, Value::Whole(bytes) if bytes.is_empty())
    }
}

fn before_hash(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte == b'#')
        .unwrap_or(bytes.len())
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Whole(one), Value::Whole(other)) => one == other,
            (Value::Digest(one), Value::Digest(other)) => one == other,
            (whole @ Value::Whole(bytes), digest @ Value::Digest(_))
            | (digest @ Value::Digest(_), whole @ Value::Whole(bytes)) => {
                bytes.len() > WHOLE_BYTES_MAX && whole.clone().recorded() == *digest
            }
        }
    }
}

impl Eq for Value {}

impl Default for Value {
    fn default() -> Self {
        Value::Whole(Bytes::new())
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Value::Whole(bytes)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Whole(text.into())
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Value::Whole(text.into())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Whole(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Value::Digest(digest) => write!(
                f,
                "{:?} and more, {} bytes",
                String::from_utf8_lossy(&digest.token),
                digest.len
            ),
        }
    }
}
