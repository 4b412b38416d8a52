//! HTTP/2 frames (RFC 9113), as far as a gRPC client needs them.

/// Length of a frame's head.
pub(super) const HEAD_BYTES: usize = 9;
/// The longest payload that either side may send while nobody raises SETTINGS_MAX_FRAME_SIZE, which this client does not.
pub(super) const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// Each flow control window begins with so many bytes.
pub(super) const WINDOW_BYTES: u32 = 65_535;
/// And has at most so many.
pub(super) const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// What a client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;

/// On SETTINGS and PING.
pub(super) const ACK: u8 = 1;
/// On DATA and HEADERS.
pub(super) const END_STREAM: u8 = 1;
/// On HEADERS: the block is complete.
pub(super) const END_HEADERS: u8 = 4;
/// On DATA and HEADERS.
pub(super) const PADDED: u8 = 8;

/// SETTINGS_ENABLE_PUSH.
pub(super) const ENABLE_PUSH: u16 = 2;
/// SETTINGS_INITIAL_WINDOW_SIZE.
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// The head at the beginning of `bytes`, once all of it is there.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0, ..] = *bytes else {
            return None;
        };
        Some(Self {
            length: usize::from(l2) << 16 | usize::from(l1) << 8 | usize::from(l0),
            kind,
            flags,
            // The highest bit is reserved.
            stream: u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]),
        })
    }

    /// Appends the head.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        let at = out.len();
        out.extend_from_slice(&[0, 0, 0, self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
        self.write_length(&mut out[at..]);
    }

    /// Writes the length over that of a head which was encoded before its payload was known.
    pub(super) fn write_length(self, encoded: &mut [u8]) {
        let length = u32::try_from(self.length).expect("a payload is at most 16 KiB");
        encoded[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    }
}

/// Appends a whole frame.
pub(super) fn put(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let head = Head {
        length: payload.len(),
        kind,
        flags,
        stream,
    };
    head.encode(out);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head {
            length: 0x0001_0203,
            kind: HEADERS,
            flags: END_HEADERS,
            stream: 0x7fff_fffd,
        };
        let mut out = Vec::new();
        head.encode(&mut out);
        assert_eq!(out.len(), HEAD_BYTES);
        assert_eq!(Head::decode(&out), Some(head));
        assert_eq!(Head::decode(&out[..HEAD_BYTES - 1]), None);
    }
}
