//! A connection to a service that may answer before it has read what it is sent, and close: what cannot be sent any more
//! says nothing about the answer, which may be there already (RFC 9112, 9.5).

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection on which a failure to send is told by what can be read: an answer, or an end.
#[derive(Debug)]
pub(super) struct Listening<S> {
    stream: S,
    /// Whether the other side takes nothing any more.
    is_deaf: bool,
}

impl<S> Listening<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, is_deaf: false }
    }

    /// Takes what cannot be sent as sent.
    fn unless_deaf(&mut self, polled: Poll<Result<usize>>, length: usize) -> Poll<Result<usize>> {
        match polled {
            Poll::Ready(Err(_)) => {
                self.is_deaf = true;
                Poll::Ready(Ok(length))
            }
            polled => polled,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Listening<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listening<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.unless_deaf(polled, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let length = parts.iter().map(|part| part.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(length));
        }
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.unless_deaf(polled, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.is_deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_answer_counts_although_the_rest_could_not_be_sent() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Listening::new(near);
        near.write_all(b"some of it, ").await.unwrap();
        far.write_all(b"413").await.unwrap();
        drop(far);
        near.write_all(&[b'x'; 1_000]).await.unwrap();
        near.flush().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"413");
        assert!(near.is_deaf);
    }
}
