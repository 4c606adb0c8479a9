// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sending to and receiving from sockets.

use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use libc::c_int;

use super::private::{End, Prepared, Sealed};
use super::simple::counts;
use super::{Operation, SockAddr};
use crate::sys::buf::{self, IoBuf, IoBufMut};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// With one of these flags a call does not wait.
const NO_WAIT: c_int = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE | libc::MSG_OOB;

/// With these flags and no others, a call has written to the buffer as many bytes as it
/// returns, or as many as there is room for. With MSG_TRUNC, a TCP socket writes nothing.
pub(super) const WRITES: c_int = NO_WAIT | libc::MSG_PEEK | libc::MSG_WAITALL;

pub(super) fn readiness(flags: c_int, needed: Readiness) -> Readiness {
    if flags & NO_WAIT == 0 {
        needed
    } else {
        Readiness::Always
    }
}

/// Sends a buffer to the peer of a socket
/// ([send(2)](https://man7.org/linux/man-pages/man2/send.2.html)). Gives back the number of
/// bytes that were sent and the buffer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Send<B = Vec<u8>> {
    fd: Fd,
    buf: B,
    flags: c_int,
    address: Option<Box<SockAddr>>,
}

impl<B: IoBuf> Send<B> {
    /// Sends at most `buf.len()` bytes.
    pub fn new(fd: impl Into<Fd>, buf: B) -> Self {
        Send {
            fd: fd.into(),
            buf,
            flags: 0,
            address: None,
        }
    }
}

impl<B> Send<B> {
    /// Flags, `libc::MSG_…`, such as `libc::MSG_NOSIGNAL`. With `libc::MSG_ZEROCOPY` the
    /// buffer comes back while the kernel still sends it: do not write to it until the
    /// socket says that it is sent.
    pub fn flags(mut self, flags: c_int) -> Self {
        self.flags = flags;
        self
    }
}

impl<B: IoBuf> Sealed for Send<B> {
    fn prepare(&mut self) -> Prepared {
        let (address, address_len) = match &self.address {
            Some(address) => (address.as_ptr(), address.len()),
            None => (ptr::null(), 0),
        };
        let (buf, len) = (self.buf.as_ptr().cast(), self.buf.len());
        let fd = self.fd.as_raw_fd();
        let call = calls::sendto(fd, buf, len, self.flags, address, address_len);
        Prepared::when(call, &self.fd, readiness(self.flags, Readiness::Writable))
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

counts!(Send: IoBuf);

/// Sends a buffer to an address
/// ([sendto(2)](https://man7.org/linux/man-pages/man2/send.2.html)). Gives back the number of
/// bytes that were sent and the buffer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct SendTo<B = Vec<u8>> {
    send: Send<B>,
}

impl<B: IoBuf> SendTo<B> {
    /// Sends at most `buf.len()` bytes to this address.
    pub fn new(fd: impl Into<Fd>, buf: B, address: impl Into<SockAddr>) -> Self {
        let mut send = Send::new(fd, buf);
        send.address = Some(Box::new(address.into()));
        SendTo { send }
    }
}

impl<B> SendTo<B> {
    /// Flags, as [`Send::flags`].
    pub fn flags(mut self, flags: c_int) -> Self {
        self.send.flags = flags;
        self
    }
}

impl<B: IoBuf> Sealed for SendTo<B> {
    fn prepare(&mut self) -> Prepared {
        self.send.prepare()
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        self.send.vec()
    }
}

impl<B: IoBuf> Operation for SendTo<B> {
    type Output = (io::Result<usize>, B);

    fn output(self, end: End) -> Self::Output {
        self.send.output(end)
    }
}

/// Receives from a socket
/// ([recv(2)](https://man7.org/linux/man-pages/man2/recv.2.html)). Gives back the number of
/// bytes, which is 0 at the end of a stream, and the buffer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Recv<B = Vec<u8>> {
    fd: Fd,
    buf: B,
    flags: c_int,
}

impl<B: IoBufMut> Recv<B> {
    /// Receives to the buffer, as [`Read::new`](super::Read::new) does.
    pub fn new(fd: impl Into<Fd>, buf: B) -> Self {
        Recv {
            fd: fd.into(),
            buf,
            flags: 0,
        }
    }

    fn call(&mut self, address: *mut libc::sockaddr, len: *mut libc::socklen_t) -> Prepared {
        if self.flags & !WRITES != 0 {
            buf::zero(&mut self.buf);
        }
        let (fd, room) = (self.fd.as_raw_fd(), self.buf.room());
        let buf = self.buf.as_mut_ptr().cast();
        let call = calls::recvfrom(fd, buf, room, self.flags, address, len);
        Prepared::when(call, &self.fd, readiness(self.flags, Readiness::Readable))
    }
}

impl<B> Recv<B> {
    /// Flags, `libc::MSG_…`. With `libc::MSG_TRUNC` the number can be larger than the
    /// buffer, and a TCP socket discards the bytes: the buffer then has zeros.
    pub fn flags(mut self, flags: c_int) -> Self {
        self.flags = flags;
        self
    }
}

impl<B: IoBufMut> Sealed for Recv<B> {
    fn prepare(&mut self) -> Prepared {
        self.call(ptr::null_mut(), ptr::null_mut())
    }

    fn settle(&mut self, end: &End) {
        buf::filled(&mut self.buf, end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        buf::as_vec(&mut self.buf)
    }
}

counts!(Recv: IoBufMut);

/// Receives from a socket, and returns the sender
/// ([recvfrom(2)](https://man7.org/linux/man-pages/man2/recv.2.html)). Gives back the number
/// of bytes, the address of the sender, and the buffer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct RecvFrom<B = Vec<u8>> {
    recv: Recv<B>,
    address: Box<SockAddr>,
}

impl<B: IoBufMut> RecvFrom<B> {
    /// Receives to the buffer, as [`Read::new`](super::Read::new) does.
    pub fn new(fd: impl Into<Fd>, buf: B) -> Self {
        RecvFrom {
            recv: Recv::new(fd, buf),
            address: Box::new(SockAddr::room()),
        }
    }
}

impl<B> RecvFrom<B> {
    /// Flags, as [`Recv::flags`].
    pub fn flags(mut self, flags: c_int) -> Self {
        self.recv.flags = flags;
        self
    }
}

impl<B: IoBufMut> Sealed for RecvFrom<B> {
    fn prepare(&mut self) -> Prepared {
        let (address, len) = self.address.as_mut_ptrs();
        self.recv.call(address, len)
    }

    fn settle(&mut self, end: &End) {
        self.recv.settle(end);
    }

    fn vec(&mut self) -> Option<&mut Vec<u8>> {
        self.recv.vec()
    }
}

impl<B: IoBufMut> Operation for RecvFrom<B> {
    type Output = (io::Result<(usize, SockAddr)>, B);

    fn output(self, end: End) -> Self::Output {
        let address = self.address.written();
        (end.count().map(|count| (count, address)), self.recv.buf)
    }
}
