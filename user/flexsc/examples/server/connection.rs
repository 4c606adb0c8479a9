// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection, for handlers that do not know whether they block.

use std::ffi::CString;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use flexsc::Fd;
use flexsc::futures::Reactor;
use flexsc::ops::{Fstat, IoBuf, OFlag, OpenAt, Read, Recv, Send};

/// Bytes of one receive or read.
const CHUNK: usize = 16 << 10;

/// The operations of a handler on its connection and on files.
pub trait Connection {
    /// An open file.
    type File;

    /// Appends the received bytes. Returns their number, 0 at the end.
    async fn receive(&mut self, input: &mut Vec<u8>) -> io::Result<usize>;

    /// Sends everything, and empties the buffer.
    async fn send(&mut self, output: &mut Vec<u8>) -> io::Result<()>;

    /// Opens a regular file. Returns its length in bytes as well.
    async fn open(&mut self, path: &Path) -> io::Result<(Self::File, u64)>;

    /// Appends bytes of a file, from this offset on. Returns their number, 0 at the end.
    async fn read(&mut self, file: &Self::File, at: u64, to: &mut Vec<u8>) -> io::Result<usize>;
}

/// The error if the path names no regular file.
fn no_file() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// A connection that blocks its thread.
pub struct Blocking(pub TcpStream);

/// Runs a handler of a [`Blocking`] connection, which never has to wait.
pub fn run<F: Future>(handler: F) -> F::Output {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(handler).poll(&mut cx) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("a blocking connection blocks"),
    }
}

impl Connection for Blocking {
    type File = File;

    async fn receive(&mut self, input: &mut Vec<u8>) -> io::Result<usize> {
        let before = input.len();
        input.resize(before + CHUNK, 0);
        let received = self.0.read(&mut input[before..]);
        input.truncate(before + received.as_ref().unwrap_or(&0));
        received
    }

    async fn send(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        self.0.write_all(output)?;
        output.clear();
        Ok(())
    }

    async fn open(&mut self, path: &Path) -> io::Result<(File, u64)> {
        let file = File::open(path)?;
        let stat = file.metadata()?;
        if !stat.is_file() {
            return Err(no_file());
        }
        Ok((file, stat.len()))
    }

    async fn read(&mut self, file: &File, at: u64, to: &mut Vec<u8>) -> io::Result<usize> {
        let before = to.len();
        to.resize(before + CHUNK, 0);
        let read = file.read_at(&mut to[before..], at);
        to.truncate(before + read.as_ref().unwrap_or(&0));
        read
    }
}

/// A connection of a reactor.
pub struct Posted {
    reactor: Reactor,
    fd: Fd,
    /// Kept for its memory.
    chunk: Vec<u8>,
}

impl Posted {
    pub fn new(reactor: Reactor, fd: OwnedFd) -> Self {
        Posted {
            reactor,
            fd: fd.into(),
            chunk: Vec::with_capacity(CHUNK),
        }
    }

    /// Appends the content of the chunk that an operation has returned.
    fn append(
        &mut self,
        count: io::Result<usize>,
        mut chunk: Vec<u8>,
        to: &mut Vec<u8>,
    ) -> io::Result<usize> {
        to.extend_from_slice(&chunk);
        chunk.clear();
        self.chunk = chunk;
        count
    }
}

impl Connection for Posted {
    type File = Fd;

    async fn receive(&mut self, input: &mut Vec<u8>) -> io::Result<usize> {
        let recv = Recv::new(&self.fd, std::mem::take(&mut self.chunk));
        let (count, chunk) = self.reactor.submit(recv).await;
        self.append(count, chunk, input)
    }

    async fn send(&mut self, output: &mut Vec<u8>) -> io::Result<()> {
        let mut sent = 0;
        while sent < output.len() {
            let rest = std::mem::take(output).slice(sent..);
            let send = Send::new(&self.fd, rest).flags(libc::MSG_NOSIGNAL);
            let (count, rest) = self.reactor.submit(send).await;
            *output = rest.into_inner();
            sent += count?;
        }
        output.clear();
        Ok(())
    }

    async fn open(&mut self, path: &Path) -> io::Result<(Fd, u64)> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let open = OpenAt::new(Fd::cwd(), path, OFlag::O_RDONLY | OFlag::O_CLOEXEC);
        let file = Fd::from(self.reactor.submit(open).await.0?);
        let stat = self.reactor.submit(Fstat::new(&file)).await?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(no_file());
        }
        Ok((file, stat.st_size as u64))
    }

    async fn read(&mut self, file: &Fd, at: u64, to: &mut Vec<u8>) -> io::Result<usize> {
        let read = Read::new(file, std::mem::take(&mut self.chunk)).at(at as i64);
        let (count, chunk) = self.reactor.submit(read).await;
        self.append(count, chunk, to)
    }
}
