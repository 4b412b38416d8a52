//! What the other end of an HTTP/2 connection says first.
//!
//! It has to be its settings (RFC 9113, 3.4), and among them is how many streams it takes at once, which hyper keeps to itself. Settings
//! that it changes later are hyper's alone; servers do not change this one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

/// Bytes before a frame's payload: its length in three, its type, its flags, its stream in four.
const FRAME_HEAD: usize = 9;

const TYPE_SETTINGS: u8 = 4;

/// Bytes of one setting: its name in two, its value in four.
const SETTING: usize = 6;

const MAX_CONCURRENT_STREAMS: u16 = 3;

/// Settings are a few. More than this is not read: the connection is then taken as one without a limit.
const GREETING_BYTES_MAX: usize = 1024;

/// How a TLS server refuses to speak anything else: an alert, of any version of TLS.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// What was said first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Settings: so many streams at once.
    Settings { streams_max: u32 },
    /// That the other end speaks TLS.
    Tls,
    /// Something else, which hyper refuses.
    Other,
}

/// Passes everything on and reports the greeting.
#[derive(Debug)]
pub(super) struct Greeted<T> {
    io: T,
    /// What was read so far, and who waits.
    open: Option<(Vec<u8>, oneshot::Sender<Greeting>)>,
}

impl<T> Greeted<T> {
    /// The receiver gets the greeting, or an error if the connection ends without any.
    pub(super) fn new(io: T) -> (Self, oneshot::Receiver<Greeting>) {
        let (heard, news) = oneshot::channel();
        let open = Some((Vec::new(), heard));
        (Self { io, open }, news)
    }

    fn note(&mut self, read: &[u8]) {
        let Some((mut said, heard)) = self.open.take() else {
            return;
        };
        let room = GREETING_BYTES_MAX - said.len();
        said.extend_from_slice(&read[..read.len().min(room)]);
        match greeting(&said) {
            // Whoever waited may have given up.
            Some(greeting) => drop(heard.send(greeting)),
            None => self.open = Some((said, heard)),
        }
    }
}

/// What the bytes say; `None` if more are needed.
fn greeting(said: &[u8]) -> Option<Greeting> {
    if said.starts_with(&TLS_ALERT) {
        return Some(Greeting::Tls);
    }
    let head = said.get(..FRAME_HEAD)?;
    if head[3] != TYPE_SETTINGS {
        return Some(Greeting::Other);
    }
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let end = (FRAME_HEAD + length).min(GREETING_BYTES_MAX);
    let settings = said.get(FRAME_HEAD..end)?.chunks_exact(SETTING);
    let mut streams_max = u32::MAX;
    for setting in settings {
        if setting[..2] == MAX_CONCURRENT_STREAMS.to_be_bytes() {
            streams_max = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
        }
    }
    Some(Greeting::Settings { streams_max })
}

impl<T: AsyncRead + Unpin> AsyncRead for Greeted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        if !read.is_empty() && self.open.is_some() {
            self.note(read);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Greeted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// A frame of settings, with one that comes before.
    fn settings(streams_max: u32) -> Vec<u8> {
        let mut frame = vec![0, 0, 12, TYPE_SETTINGS, 0, 0, 0, 0, 0];
        frame.extend([0, 4, 0, 1, 0, 0]);
        frame.extend(MAX_CONCURRENT_STREAMS.to_be_bytes());
        frame.extend(streams_max.to_be_bytes());
        frame
    }

    #[test]
    fn greeting_is_read_once_it_is_whole() {
        let frame = settings(70_000);
        for length in 0..frame.len() {
            assert_eq!(greeting(&frame[..length]), None, "{length}");
        }
        let streams_max = 70_000;
        let whole = Some(Greeting::Settings { streams_max });
        assert_eq!(greeting(&frame), whole);
        let more = [frame.as_slice(), &[0; 100]].concat();
        assert_eq!(greeting(&more), whole);
        let none = [0, 0, 0, TYPE_SETTINGS, 0, 0, 0, 0, 0];
        let streams_max = u32::MAX;
        assert_eq!(greeting(&none), Some(Greeting::Settings { streams_max }));
        assert_eq!(greeting(&[0x15, 3, 3, 0, 2, 2, 70]), Some(Greeting::Tls));
        assert_eq!(greeting(b"HTTP/1.1 400 Bad Request"), Some(Greeting::Other));
    }

    /// The other end of one that says this, a few bytes at a time, and closes.
    fn speaker(said: &[u8]) -> impl AsyncRead + Unpin + use<> {
        let (mut speaker, listener) = duplex(3);
        let said = said.to_vec();
        tokio::spawn(async move { speaker.write_all(&said).await });
        listener
    }

    #[tokio::test]
    async fn everything_is_passed_on_and_the_greeting_told() {
        let said = [settings(7).as_slice(), b"more"].concat();
        let (mut greeted, news) = Greeted::new(speaker(&said));
        let mut read = Vec::new();
        greeted.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, said);
        assert_eq!(news.await, Ok(Greeting::Settings { streams_max: 7 }));
        let (mut greeted, news) = Greeted::new(speaker(&said[..5]));
        greeted.read_to_end(&mut read).await.unwrap();
        drop(greeted);
        assert!(news.await.is_err(), "it has ended before");
    }
}
