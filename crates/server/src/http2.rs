//! The frames of HTTP/2, followed while the bytes of a connection go by.
//!
//! [`guard`](crate::guard) counts frames and [`authority`](crate::authority) changes one of them; neither knows where the bytes that it
//! gets are cut. [`Frames`] does.

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags and stream of a frame.
pub(crate) const HEAD_LEN: usize = 9;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head(pub(crate) [u8; HEAD_LEN]);

impl Head {
    /// Bytes of the frame behind its head.
    pub(crate) fn length(self) -> usize {
        let [a, b, c, ..] = self.0;
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    pub(crate) fn kind(self) -> u8 {
        self.0[3]
    }

    pub(crate) fn flags(self) -> u8 {
        self.0[4]
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stretch<'a> {
    /// A part of the preface.
    Preface(&'a [u8]),
    /// Of another protocol: nothing is known of it, and nothing else comes any more.
    Other(&'a [u8]),
    /// A frame begins; its head is whole.
    Head(Head),
    /// A part of what stands in the frame.
    Payload(&'a [u8]),
}

/// Where in a connection we are.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Bytes of the preface that have come; [`OTHER`] if it is another protocol.
    greeted: usize,
    head: Head,
    head_len: usize,
    /// Bytes of the present frame that have not gone by.
    left: usize,
}

/// Stands in [`Frames::greeted`] for a protocol that has no frames.
const OTHER: usize = usize::MAX;

impl Frames {
    /// Whether nothing has come yet.
    pub(crate) fn is_new(&self) -> bool {
        self.greeted == 0
    }

    /// Whether it is clear what is spoken.
    pub(crate) fn has_greeted(&self) -> bool {
        self.greeted >= PREFACE.len()
    }

    /// Takes the next stretch off `data`; none if nothing is left of it but the beginning of a head, which is kept.
    pub(crate) fn next<'a>(&mut self, data: &mut &'a [u8]) -> Option<Stretch<'a>> {
        if data.is_empty() {
            return None;
        }
        if self.greeted == OTHER {
            return Some(Stretch::Other(std::mem::take(data)));
        }
        if !self.has_greeted() {
            return Some(self.greet(data));
        }
        if self.left > 0 {
            let payload = take(data, self.left);
            self.left -= payload.len();
            return Some(Stretch::Payload(payload));
        }
        let part = take(data, HEAD_LEN - self.head_len);
        self.head.0[self.head_len..][..part.len()].copy_from_slice(part);
        self.head_len += part.len();
        (self.head_len == HEAD_LEN).then(|| {
            self.head_len = 0;
            self.left = self.head.length();
            Stretch::Head(self.head)
        })
    }

    fn greet<'a>(&mut self, data: &mut &'a [u8]) -> Stretch<'a> {
        let due = &PREFACE[self.greeted..];
        let same = due.iter().zip(*data).take_while(|(a, b)| a == b).count();
        if same == 0 {
            self.greeted = OTHER;
            return Stretch::Other(std::mem::take(data));
        }
        self.greeted += same;
        Stretch::Preface(take(data, same))
    }

    /// What has come of a head that is not whole.
    pub(crate) fn unfinished(&self) -> &[u8] {
        &self.head.0[..self.head_len]
    }
}

fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows `stream` in pieces of `step` bytes; gives what went by as preface, frames and other bytes.
    fn follow(stream: &[u8], step: usize) -> (usize, Vec<(Head, Vec<u8>)>, usize) {
        let (mut frames, mut seen) = (Frames::default(), (0, Vec::new(), 0));
        for mut piece in stream.chunks(step) {
            while let Some(stretch) = frames.next(&mut piece) {
                match stretch {
                    Stretch::Preface(bytes) => seen.0 += bytes.len(),
                    Stretch::Head(head) => seen.1.push((head, Vec::new())),
                    Stretch::Payload(bytes) => seen.1.last_mut().unwrap().1.extend(bytes),
                    Stretch::Other(bytes) => seen.2 += bytes.len(),
                }
            }
        }
        seen
    }

    #[test]
    fn frames_are_seen_however_the_bytes_are_cut() {
        let frame = |kind: u8, payload: &[u8]| {
            let length = (payload.len() as u32).to_be_bytes();
            let head = Head([length[1], length[2], length[3], kind, 0, 0, 0, 0, 1]);
            (head, payload.to_vec())
        };
        let frames = [
            frame(SETTINGS, b""),
            frame(HEADERS, &[7; 300]),
            frame(DATA, b"x"),
        ];
        let mut stream = PREFACE.to_vec();
        for (head, payload) in &frames {
            stream.extend(head.0);
            stream.extend(payload);
        }
        for step in 1..=stream.len() {
            let seen = follow(&stream, step);
            assert_eq!(seen, (PREFACE.len(), frames.to_vec(), 0), "every {step}");
        }
    }

    #[test]
    fn other_protocols_have_no_frames() {
        for step in 1..30 {
            let seen = follow(b"PRI * HTTP/1.1\r\nhost: a\r\n\r\n", step);
            assert_eq!(seen, (11, Vec::new(), 16), "every {step}");
        }
        assert_eq!(follow(b"GET /", 2), (0, Vec::new(), 5));
    }
}
