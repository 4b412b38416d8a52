//! gRPC messages out of DATA frames.

/// Length of what stands before a message: a flag of compression, which nobody asks for here, and the length.
const PREFIX_BYTES: usize = 5;

/// A message that has begun on a stream and goes on in the next frame.
#[derive(Debug)]
struct Begun {
    stream: u32,
    prefix: [u8; PREFIX_BYTES],
    had: usize,
    left: usize,
}

/// Finds messages in the frames of a connection. Their bytes are handed on as they come, without assembling: most answers are only
/// counted.
#[derive(Debug, Default)]
pub(super) struct Unframer {
    /// Empty nearly always, since a message that fits into a frame mostly comes in one.
    begun: Vec<Begun>,
}

impl Unframer {
    /// Takes the payload of a DATA frame; `on` gets pieces of messages, and whether a piece is its message's last.
    pub(super) fn take(&mut self, stream: u32, mut data: &[u8], on: &mut impl FnMut(&[u8], bool)) {
        let mut message = self.resume(stream);
        while !data.is_empty() {
            data = message.prefix(data);
            if message.had < PREFIX_BYTES {
                break;
            }
            let (piece, rest) = data.split_at(message.left.min(data.len()));
            message.left -= piece.len();
            on(piece, message.left == 0);
            data = rest;
            if message.left == 0 {
                message.had = 0;
            }
        }
        if message.had > 0 {
            self.begun.push(message);
        }
    }

    /// Forgets a stream.
    pub(super) fn end(&mut self, stream: u32) {
        self.begun.retain(|begun| begun.stream != stream);
    }

    fn resume(&mut self, stream: u32) -> Begun {
        let place = self.begun.iter().position(|begun| begun.stream == stream);
        place.map_or_else(
            || Begun {
                stream,
                prefix: [0; PREFIX_BYTES],
                had: 0,
                left: 0,
            },
            |place| self.begun.swap_remove(place),
        )
    }
}

impl Begun {
    /// Takes what is missing of the prefix; gives what is behind it.
    fn prefix<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        if self.had == PREFIX_BYTES {
            return data;
        }
        let (prefix, rest) = data.split_at((PREFIX_BYTES - self.had).min(data.len()));
        self.prefix[self.had..self.had + prefix.len()].copy_from_slice(prefix);
        self.had += prefix.len();
        let [_, l3, l2, l1, l0] = self.prefix;
        self.left = u32::from_be_bytes([l3, l2, l1, l0]) as usize;
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three messages, of which one is empty, cut at every place, are found again.
    #[test]
    fn messages_are_found_however_frames_cut_them() {
        let bytes = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x02de";
        for cut in 0..=bytes.len() {
            let (mut unframer, mut found, mut message) = (Unframer::default(), vec![], vec![]);
            for part in [&bytes[..cut], &bytes[cut..]] {
                unframer.take(1, part, &mut |piece, last| {
                    message.extend_from_slice(piece);
                    if last {
                        found.push(std::mem::take(&mut message));
                    }
                });
            }
            assert_eq!(found, [&b"abc"[..], b"", b"de"], "cut at {cut}");
            assert!(unframer.begun.is_empty());
        }
    }

    #[test]
    fn streams_are_kept_apart() {
        let mut unframer = Unframer::default();
        let mut pieces = Vec::new();
        for (stream, part) in [(1, &b"\0\0\0\0\x02a"[..]), (3, b"\0\0\0\0\x01x"), (1, b"b")] {
            unframer.take(stream, part, &mut |piece, last| {
                pieces.push((stream, piece.to_vec(), last));
            });
        }
        let piece = |stream, text: &str, last| (stream, text.as_bytes().to_vec(), last);
        assert_eq!(
            pieces,
            [
                piece(1, "a", false),
                piece(3, "x", true),
                piece(1, "b", true)
            ]
        );
    }
}
