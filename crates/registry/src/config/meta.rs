//! What is kept beside a document's bytes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Format;

/// What is known of a version of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Grows by one with each publication.
    pub version: u64,
    /// How the document is written.
    pub format: Format,
    /// Of the content, in hexadecimal.
    pub sha256: String,
    /// Who published it.
    #[serde(default)]
    pub author: String,
    /// Why.
    #[serde(default)]
    pub comment: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether a schema was kept.
    #[serde(default)]
    pub schema: bool,
    /// Tells this publication from all others: by it a publisher who got no answer finds out whether it was his that took place.
    #[serde(default)]
    pub publication: String,
}

/// A version of a document. `Debug` leaves the content out.
#[derive(Clone, PartialEq, Eq)]
pub struct Revision {
    /// What is known of it.
    pub meta: Meta,
    /// The document itself.
    pub content: Bytes,
}

impl std::fmt::Debug for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revision")
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// A line of the history: the meta as JSON, a line feed, the content byte for byte.
pub(crate) fn encode(meta: &Meta, content: &[u8]) -> Option<Bytes> {
    let mut encoded = serde_json::to_vec(meta).ok()?;
    encoded.push(b'\n');
    encoded.extend_from_slice(content);
    Some(encoded.into())
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(encoded: &Bytes) -> Option<Revision> {
    let end = encoded.iter().position(|byte| *byte == b'\n')?;
    Some(Revision {
        meta: serde_json::from_slice(&encoded[..end]).ok()?,
        content: encoded.slice(end + 1..),
    })
}

/// A digest in hexadecimal.
pub(crate) fn sha256(content: &[u8]) -> String {
    let digest = Sha256::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_keeps_every_byte() {
        let meta = Meta {
            version: 7,
            format: Format::Text,
            sha256: sha256(b"a\nb"),
            author: "a".to_owned(),
            comment: "line\nfeed".to_owned(),
            at_ms: 5,
            schema: false,
            publication: String::new(),
        };
        let content = Bytes::from_static(b"\n a\nb\r\n\0");
        let encoded = encode(&meta, &content).unwrap();
        assert_eq!(decode(&encoded), Some(Revision { meta, content }));
        assert_eq!(decode(&Bytes::from_static(b"{}\nx")), None);
        assert_eq!(
            sha256(b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
