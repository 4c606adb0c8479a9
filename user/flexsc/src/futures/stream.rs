// SPDX-License-Identifier: MIT OR Apache-2.0
//! A descriptor as a stream of bytes, for code that has buffers of its own. The traits are in
//! the submodules.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::net::Shutdown as How;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::{Reactor, Submitted};
use crate::Fd;
use crate::ops::{IoBuf, Read, Shutdown, Slice, Write};

/// Implements the traits that futures-io and tokio define alike, except for the name of the
/// function that closes.
#[cfg(any(feature = "futures-io", feature = "tokio"))]
macro_rules! alike {
    ($poll_close:ident) => {
        impl AsyncBufRead for Stream {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                self.get_mut().poll_fill(cx)
            }

            fn consume(self: Pin<&mut Self>, count: usize) {
                self.get_mut().take(count);
            }
        }

        impl AsyncWrite for Stream {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                self.get_mut().poll_put(cx, bytes)
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_written(cx)
            }

            fn $poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                self.get_mut().poll_shut(cx)
            }
        }
    };
}

#[cfg(feature = "futures-io")]
mod futures_io;
#[cfg(feature = "tokio")]
mod tokio;

/// A socket or a pipe with the traits for reading and writing of futures-io (with the feature
/// `futures-io`) and of tokio (with the feature `tokio`).
///
/// These traits lend a buffer only for a moment, but the kernel needs one until the operation
/// has finished. So the stream has buffers of its own and copies the bytes. Operations
/// ([`Read`], [`Write`]) need no copy.
///
/// A write starts at once and returns how many bytes the stream has taken; its error comes
/// with the next write, flush or close. Flush before you drop the stream: bytes that are not
/// written by then are lost. Bytes that were read but not taken are lost, too.
///
/// Closing flushes, and shuts a socket down for writing.
pub struct Stream {
    reactor: Reactor,
    fd: Fd,
    reading: Reading,
    writing: Writing,
    closing: Option<Submitted<Shutdown>>,
    capacity: usize,
}

enum Reading {
    /// The bytes from this index on were not taken.
    Filled(Vec<u8>, usize),
    InFlight(Submitted<Read<Vec<u8>>>),
}

#[derive(Default)]
struct Writing {
    in_flight: Option<Submitted<Write<Slice<Vec<u8>>>>>,
    /// The bytes to write next.
    next: Vec<u8>,
    /// An empty buffer, kept for its memory.
    spare: Vec<u8>,
}

/// The default size of each buffer, in bytes.
const CAPACITY: usize = 8 << 10;

impl Stream {
    /// Makes a stream of this descriptor.
    pub fn new(reactor: Reactor, fd: impl Into<Fd>) -> Self {
        Stream::with_capacity(reactor, fd, CAPACITY)
    }

    /// Makes a stream whose buffers have this many bytes, and at least one.
    pub fn with_capacity(reactor: Reactor, fd: impl Into<Fd>, capacity: usize) -> Self {
        Stream {
            reactor,
            fd: fd.into(),
            reading: Reading::Filled(Vec::new(), 0),
            writing: Writing::default(),
            closing: None,
            capacity: capacity.max(1),
        }
    }

    /// Returns the descriptor.
    #[must_use]
    pub fn fd(&self) -> &Fd {
        &self.fd
    }

    /// Returns bytes that were read but not taken; none at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        loop {
            match &mut self.reading {
                Reading::Filled(buf, at) if *at < buf.len() => break,
                Reading::Filled(buf, at) => {
                    let mut buf = mem::take(buf);
                    *at = 0;
                    buf.clear();
                    buf.reserve_exact(self.capacity);
                    let read = self.reactor.submit(Read::new(&self.fd, buf));
                    self.reading = Reading::InFlight(read);
                }
                Reading::InFlight(read) => {
                    let (count, buf) = ready!(Pin::new(read).poll(cx));
                    self.reading = Reading::Filled(buf, 0);
                    match count {
                        Ok(0) => return Poll::Ready(Ok(&[])),
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
        match &self.reading {
            Reading::Filled(buf, at) => Poll::Ready(Ok(&buf[*at..])),
            Reading::InFlight(_) => Poll::Pending,
        }
    }

    /// Takes bytes that [`Stream::poll_fill`] has shown.
    fn take(&mut self, count: usize) {
        if let Reading::Filled(buf, at) = &mut self.reading {
            *at = (*at + count).min(buf.len());
        }
    }

    /// Takes bytes to be written, if there is room.
    fn poll_put(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = self.poll_written(cx)?;
        let room = self.capacity.saturating_sub(self.writing.next.len());
        if room == 0 && progress.is_pending() {
            return Poll::Pending;
        }
        let count = room.min(bytes.len());
        self.writing.next.extend_from_slice(&bytes[..count]);
        // Starts the write, or finds another write in flight.
        match self.poll_written(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(count)),
        }
    }

    /// Ready when everything is written.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let writing = &mut self.writing;
        loop {
            if let Some(write) = &mut writing.in_flight {
                let (count, part) = ready!(Pin::new(write).poll(cx));
                writing.in_flight = None;
                let len = part.len();
                let buf = part.into_inner();
                let written = match count {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                    Err(error) => return Poll::Ready(Err(error)),
                };
                if written < len {
                    let from = buf.len() - (len - written);
                    let rest = Write::new(&self.fd, buf.slice(from..));
                    writing.in_flight = Some(self.reactor.submit(rest));
                } else {
                    writing.spare = buf;
                    writing.spare.clear();
                }
            } else if writing.next.is_empty() {
                return Poll::Ready(Ok(()));
            } else {
                let buf = mem::replace(&mut writing.next, mem::take(&mut writing.spare));
                let write = Write::new(&self.fd, buf.slice(..));
                writing.in_flight = Some(self.reactor.submit(write));
            }
        }
    }

    /// Ready when everything is written and the socket shut down.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_written(cx))?;
        let shutdown = || Shutdown::new(&self.fd, How::Write);
        let closing = self
            .closing
            .get_or_insert_with(|| self.reactor.submit(shutdown()));
        let shut = ready!(Pin::new(closing).poll(cx));
        self.closing = None;
        Poll::Ready(match shut {
            Err(error) if is_no_connection(&error) => Ok(()),
            other => other,
        })
    }
}

/// A pipe, or a socket whose peer is gone.
fn is_no_connection(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTSOCK | libc::ENOTCONN))
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("fd", &self.fd)
            .finish_non_exhaustive()
    }
}
