//! How messages get to a server and back: as datagrams, or on a stream of TCP or TLS, where they stand one behind the other
//! (RFC 8656, 12.5 and RFC 8489, 6.2.2). Nothing here waits for a slow network but the reader.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UdpSocket;

use super::client::Outgoing;
use super::message::{CHANNEL_HEADER, COOKIE, length};

/// The longest message that is taken: a datagram of 1,500 bytes in an indication, and room for what else a server puts in.
pub const LONGEST_MESSAGE: usize = 2048;
/// As much may wait to be written while datagrams are still taken: some 30 of them.
const FULL: usize = 64 * 1024;
/// Beyond that a server that does not read is given up.
const OVERFULL: usize = 256 * 1024;

/// A stream of TCP, or of TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The way to a server.
pub enum Wire {
    /// Connected.
    Datagrams(UdpSocket),
    /// Connected, and its handshake done.
    Stream(Box<Framed>),
}

impl Wire {
    /// On a stream.
    pub fn stream(stream: impl Stream + 'static) -> Self {
        Self::Stream(Box::new(Framed {
            stream: Box::new(stream),
            input: Vec::new(),
            skip: 0,
            begun: false,
            output: Vec::new(),
            written: 0,
            flushed: true,
        }))
    }

    /// Sends a message, or leaves a datagram out where there is no room: whether it went.
    ///
    /// # Errors
    ///
    /// When nothing can be sent any more.
    pub fn send(&mut self, outgoing: &Outgoing) -> io::Result<bool> {
        match self {
            Self::Datagrams(socket) => match socket.try_send(&outgoing.bytes) {
                Ok(_) => Ok(true),
                Err(error) if is_fatal(&error) => Err(error),
                // No room, too long for this link, or a local rule: requests are sent again, datagrams are lost.
                Err(_) => Ok(false),
            },
            Self::Stream(framed) => framed.push(outgoing),
        }
    }

    /// Waits for the next message, and writes meanwhile what is to be written. Nothing is lost when it is dropped.
    ///
    /// # Errors
    ///
    /// When nothing comes any more, or something that is no message of a relay.
    pub async fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Datagrams(socket) => {
                into.resize(LONGEST_MESSAGE, 0);
                let length = match socket.recv(into).await {
                    Ok(length) => length,
                    Err(error) if is_fatal(&error) => return Err(error),
                    // Such as a datagram that is too long, which some systems report: as if it were empty.
                    Err(_) => 0,
                };
                into.truncate(length);
                Ok(())
            }
            Self::Stream(framed) => poll_fn(|context| framed.poll(context, into)).await,
        }
    }
}

/// Whether a socket for datagrams is of no use any more.
fn is_fatal(error: &io::Error) -> bool {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown,
        NetworkUnreachable, NotConnected,
    };
    matches!(
        error.kind(),
        ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | NetworkUnreachable
            | NetworkDown
            | AddrNotAvailable
            | NotConnected
    )
}

/// A stream with the messages on it.
pub struct Framed {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    /// So much of what comes next belongs to a message that is too long.
    skip: usize,
    /// Whether there was a message: the first is an answer, never a datagram.
    begun: bool,
    output: Vec<u8>,
    written: usize,
    flushed: bool,
}

impl Framed {
    fn push(&mut self, outgoing: &Outgoing) -> io::Result<bool> {
        let waiting = self.output.len() - self.written;
        if waiting > FULL && outgoing.parcel {
            return Ok(false);
        }
        if waiting > OVERFULL {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.output.extend_from_slice(&outgoing.bytes);
        // What follows a datagram on a channel begins at a multiple of four.
        self.output
            .resize(self.output.len() + outgoing.bytes.len().next_multiple_of(4) - outgoing.bytes.len(), 0);
        Ok(true)
    }

    fn poll(&mut self, context: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<io::Result<()>> {
        self.poll_output(context)?;
        loop {
            if self.take(into)? {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = [0; 4096];
            let mut read = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let skipped = self.skip.min(read.filled().len());
            self.skip -= skipped;
            self.input.extend_from_slice(read.filled().get(skipped..).unwrap_or_default());
        }
    }

    /// Writes as much as goes; that it could not go on wakes the task later.
    fn poll_output(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while let Some(rest) = self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.stream).poll_write(context, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(length)) => (self.written, self.flushed) = (self.written + length, false),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        } else if self.written > FULL {
            self.output.drain(..self.written);
            self.written = 0;
        }
        if !self.flushed
            && let Poll::Ready(done) = Pin::new(&mut self.stream).poll_flush(context)
        {
            done?;
            self.flushed = true;
        }
        Ok(())
    }

    /// Takes the first message, if all of it is there.
    fn take(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        while let Some(head) = self.input.first_chunk::<CHANNEL_HEADER>() {
            let Some((whole, message)) = length(*head).filter(|_| self.is_one()) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if whole > LONGEST_MESSAGE {
                // Of a peer that sends more than anybody asked for: read over.
                let there = whole.min(self.input.len());
                self.input.drain(..there);
                self.skip = whole - there;
                continue;
            }
            if self.input.len() < whole {
                return Ok(false);
            }
            into.clear();
            into.extend_from_slice(self.input.get(..message).unwrap_or_default());
            self.input.drain(..whole);
            self.begun = true;
            return Ok(true);
        }
        Ok(false)
    }

    /// Whether what is there may be a message, as far as it is there: other servers are not waited for.
    fn is_one(&self) -> bool {
        let is_stun = self.input.first().is_some_and(|first| first & 0xc0 == 0);
        let cookie = self.input.get(4..8);
        if is_stun { cookie.is_none_or(|cookie| cookie == COOKIE) } else { self.begun }
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
