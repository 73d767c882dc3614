//! A bound on what a server makes this end keep: an element of its stream may be as long as it likes, and is kept until it
//! is whole.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most bytes that may come without a whole element among them: the items of 16 machines with 64 peers each are some
/// 600 kB.
const MOST_BYTES: usize = 1 << 20;

/// What may still come; refilled whenever an element was whole.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<AtomicUsize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(MOST_BYTES)))
    }
}

impl Budget {
    pub(super) fn refill(&self) {
        self.0.store(MOST_BYTES, Ordering::Relaxed);
    }
}

/// A stream that fails once the budget is used up.
#[derive(Debug)]
pub(super) struct Budgeted<S> {
    inner: S,
    budget: Budget,
}

impl<S> Budgeted<S> {
    pub(super) fn new(inner: S, budget: Budget) -> Self {
        Self { inner, budget }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Budgeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = buf.filled().len().saturating_sub(before);
        let left = self.budget.0.load(Ordering::Relaxed);
        if read > left {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the server sends too much at once",
            )));
        }
        self.budget.0.store(left - read, Ordering::Relaxed);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Budgeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_endless_element_ends_the_stream() {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        let budget = Budget::default();
        let mut near = Budgeted::new(near, budget.clone());
        let flood = tokio::spawn(async move { while far.write_all(&[b'x'; 32 << 10]).await.is_ok() {} });
        let mut piece = vec![0; 32 << 10];
        let mut read = 0;
        let error = loop {
            match near.read(&mut piece).await {
                Ok(count) => read += count,
                Err(error) => break error,
            }
            if read < MOST_BYTES {
                // Whole elements among them.
                budget.refill();
            }
            assert!(read <= 3 * MOST_BYTES, "{read}");
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read > MOST_BYTES);
        flood.abort();
    }
}
