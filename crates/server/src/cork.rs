//! Gathers what is written to a connection until it is flushed.
//!
//! h2 copies frames into a buffer and flushes that in one call. A frame of data of 256 bytes or more it does not copy, but writes at
//! once, together with what stands before it: then each answer that holds a value costs a system call, and 256 bytes more to copy
//! cost a hundredth of that. To a stream that claims to take one slice at a time h2 copies up to four times as much; what is larger
//! still would come as two writes, which are put together here.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is held back, at most. More is written at once, beside what was held.
const HELD_BYTES_MAX: usize = 16 << 10;

/// A connection whose writes are gathered.
pub(crate) struct Corked<S> {
    stream: S,
    held: Vec<u8>,
}

impl<S> Corked<S> {
    pub(crate) fn new(stream: S) -> Self {
        let held = Vec::new();
        Self { stream, held }
    }
}

impl<S: AsyncWrite + Unpin> Corked<S> {
    /// Writes what is held and then `data`; how much of that was written.
    fn poll_through(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let slices = [io::IoSlice::new(&self.held), io::IoSlice::new(data)];
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write_vectored(cx, &slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_held = written.min(self.held.len());
            self.held.drain(..of_held);
            if self.held.is_empty() {
                return Poll::Ready(Ok(written - of_held));
            }
        }
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            ready!(self.poll_through(cx, &[]))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Corked<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.held.len() + data.len() <= HELD_BYTES_MAX {
            this.held.extend_from_slice(data);
            return Poll::Ready(Ok(data.len()));
        }
        match ready!(this.poll_through(cx, data))? {
            // No more than what was held.
            0 => Pin::new(&mut this.stream).poll_write(cx, data),
            written => Poll::Ready(Ok(written)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_held(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        false
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Corked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Takes a few bytes at a time, and notes in how many writes.
    struct Narrow {
        taken: Vec<u8>,
        at_a_time: usize,
        writes: usize,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[io::IoSlice::new(data)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            let bytes = &bytes[..bytes.len().min(self.at_a_time)];
            self.taken.extend(bytes);
            self.writes += 1;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_written_arrives_whole_and_in_order() {
        for at_a_time in [1, 7, 1000, HELD_BYTES_MAX, usize::MAX] {
            let mut corked = Corked::new(Narrow {
                taken: Vec::new(),
                at_a_time,
                writes: 0,
            });
            let mut expected = Vec::new();
            for (number, length) in [1, 9000, 300, HELD_BYTES_MAX, 3, 40_000].iter().enumerate() {
                let data = vec![number as u8; *length];
                corked.write_all(&data).await.unwrap();
                expected.extend(data);
                if number == 2 {
                    corked.flush().await.unwrap();
                    assert_eq!(corked.stream.taken, expected);
                }
            }
            corked.shutdown().await.unwrap();
            assert!(corked.stream.taken == expected, "{at_a_time} at a time");
        }
    }

    #[tokio::test]
    async fn small_writes_are_one_and_a_large_one_takes_them_along() {
        let narrow = Narrow {
            taken: Vec::new(),
            at_a_time: usize::MAX,
            writes: 0,
        };
        let mut corked = Corked::new(narrow);
        for _ in 0..10 {
            corked.write_all(&[1; 100]).await.unwrap();
        }
        assert_eq!(corked.stream.writes, 0);
        corked.flush().await.unwrap();
        assert_eq!(corked.stream.writes, 1);
        corked.write_all(&[1; 9]).await.unwrap();
        corked.write_all(&[2; HELD_BYTES_MAX]).await.unwrap();
        assert_eq!(corked.stream.writes, 2);
    }

    #[tokio::test]
    async fn reads_pass() {
        let mut corked = Corked::new(tokio::io::join(&b"abc"[..], tokio::io::sink()));
        let mut read = String::new();
        corked.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "abc");
    }
}
