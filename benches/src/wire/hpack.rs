//! Header blocks of requests (HPACK, RFC 7541).
//!
//! The first request on a path spells its fields out and has the server remember them; later ones name them by index, a byte
//! each. Every gRPC client does so, hence a server is not charged here with parsing that real clients spare it.

/// The first index behind the static table.
const DYNAMIC: usize = 62;

const METHOD_POST: u8 = 0x80 | 3;
const SCHEME_HTTP: u8 = 0x80 | 6;
const NAME_AUTHORITY: u8 = 1;
const NAME_PATH: u8 = 4;
const NAME_CONTENT_TYPE: u8 = 31;
const NAME_USER_AGENT: u8 = 58;
/// `te` is not in the static table.
const NAME_SPELLED: u8 = 0;

const LITERAL_REMEMBERED: u8 = 0x40;
const INDEXED: u8 = 0x80;

/// What the server remembers, oldest first. It stays far below 4096 bytes, the least that a server grants, so nothing is evicted.
#[derive(Debug, Default)]
pub(super) struct HeaderTable {
    fields: Vec<(u8, String)>,
}

impl HeaderTable {
    /// Appends the header block of a call.
    pub(super) fn request(&mut self, path: &str, authority: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&[METHOD_POST, SCHEME_HTTP]);
        self.field(NAME_PATH, path, out);
        self.field(NAME_AUTHORITY, authority, out);
        self.field(NAME_CONTENT_TYPE, "application/grpc", out);
        self.field(NAME_SPELLED, "trailers", out);
        self.field(NAME_USER_AGENT, "catena-benches", out);
    }

    fn field(&mut self, name: u8, value: &str, out: &mut Vec<u8>) {
        let known = self
            .fields
            .iter()
            .position(|(had, text)| *had == name && text == value);
        if let Some(place) = known {
            let index = DYNAMIC + self.fields.len() - 1 - place;
            out.push(INDEXED | u8::try_from(index).expect("a connection calls few paths"));
            return;
        }
        out.push(LITERAL_REMEMBERED | name);
        if name == NAME_SPELLED {
            string("te", out);
        }
        string(value, out);
        self.fields.push((name, value.to_owned()));
    }
}

/// A string without Huffman coding.
fn string(text: &str, out: &mut Vec<u8>) {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
    out.push(length.expect("paths and addresses are short"));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_spelled_once_and_indexed_then() {
        let mut table = HeaderTable::default();
        let block = |table: &mut HeaderTable, path| {
            let mut out = Vec::new();
            table.request(path, "a:1", &mut out);
            out
        };
        let first = block(&mut table, "/p");
        assert_eq!(first[..6], [0x83, 0x86, 0x44, 2, b'/', b'p']);
        let again = [
            0x83,
            0x86,
            0x80 | 66,
            0x80 | 65,
            0x80 | 64,
            0x80 | 63,
            0x80 | 62,
        ];
        assert_eq!(block(&mut table, "/p"), again);
        // Another path is one more field, before which the others move up.
        let other = block(&mut table, "/q");
        assert_eq!(other[2..6], [0x44, 2, b'/', b'q']);
        assert_eq!(other[6], 0x80 | 66);
        assert_eq!(block(&mut table, "/q")[2], 0x80 | 62);
    }
}
