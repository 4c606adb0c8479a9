// SPDX-License-Identifier: MIT OR Apache-2.0
//! Making, connecting and closing sockets.

use std::io;
use std::net::Shutdown as How;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::c_int;

use super::private::{End, Prepared, Sealed};
use super::simple::simple;
use super::{Operation, SockAddr};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Makes a socket
/// ([socket(2)](https://man7.org/linux/man-pages/man2/socket.2.html)). Gives back its
/// descriptor.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Socket {
    domain: c_int,
    kind: c_int,
    protocol: c_int,
}

impl Socket {
    /// Makes a socket of this domain (`libc::AF_…`) and type (`libc::SOCK_…`, to which
    /// `libc::SOCK_CLOEXEC` and `libc::SOCK_NONBLOCK` may be added).
    pub fn new(domain: c_int, kind: c_int) -> Self {
        Socket {
            domain,
            kind,
            protocol: 0,
        }
    }

    /// The protocol, `libc::IPPROTO_…`. If not set, the usual one of domain and type.
    pub fn protocol(mut self, protocol: c_int) -> Self {
        self.protocol = protocol;
        self
    }
}

impl Sealed for Socket {
    fn prepare(&mut self) -> Prepared {
        Prepared::new(calls::socket(self.domain, self.kind, self.protocol)).opens()
    }
}

impl Operation for Socket {
    type Output = io::Result<OwnedFd>;

    fn output(self, end: End) -> Self::Output {
        end.into_fd()
    }
}

/// Gives a socket its own address
/// ([bind(2)](https://man7.org/linux/man-pages/man2/bind.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Bind {
    fd: Fd,
    address: Box<SockAddr>,
}

impl Bind {
    /// Binds the socket to this address.
    pub fn new(fd: impl Into<Fd>, address: impl Into<SockAddr>) -> Self {
        Bind {
            fd: fd.into(),
            address: Box::new(address.into()),
        }
    }
}

simple!(
    Bind -> io::Result<()>,
    |this| calls::bind(this.fd.as_raw_fd(), this.address.as_ptr(), this.address.len()),
    |_, end| end.unit()
);

/// Lets a socket accept connections
/// ([listen(2)](https://man7.org/linux/man-pages/man2/listen.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Listen {
    fd: Fd,
    backlog: c_int,
}

impl Listen {
    /// Lets the socket keep this many connections that are not accepted yet.
    pub fn new(fd: impl Into<Fd>, backlog: c_int) -> Self {
        Listen {
            fd: fd.into(),
            backlog,
        }
    }
}

simple!(
    Listen -> io::Result<()>,
    |this| calls::listen(this.fd.as_raw_fd(), this.backlog),
    |_, end| end.unit()
);

/// Accepts a connection
/// ([accept4(2)](https://man7.org/linux/man-pages/man2/accept.2.html)). Gives back its
/// descriptor and the address of the peer.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Accept4 {
    fd: Fd,
    flags: c_int,
    address: Box<SockAddr>,
}

impl Accept4 {
    /// Accepts a connection of this socket, and waits for one if necessary.
    pub fn new(fd: impl Into<Fd>) -> Self {
        Accept4 {
            fd: fd.into(),
            flags: 0,
            address: Box::new(SockAddr::room()),
        }
    }

    /// Flags of the new descriptor: `libc::SOCK_CLOEXEC`, `libc::SOCK_NONBLOCK`.
    pub fn flags(mut self, flags: c_int) -> Self {
        self.flags = flags;
        self
    }
}

impl Sealed for Accept4 {
    fn prepare(&mut self) -> Prepared {
        let (address, len) = self.address.as_mut_ptrs();
        let call = calls::accept4(self.fd.as_raw_fd(), address, len, self.flags);
        Prepared::when(call, &self.fd, Readiness::Readable).opens()
    }
}

impl Operation for Accept4 {
    type Output = io::Result<(OwnedFd, SockAddr)>;

    fn output(self, end: End) -> Self::Output {
        Ok((end.into_fd()?, self.address.written()))
    }
}

/// Connects a socket to an address
/// ([connect(2)](https://man7.org/linux/man-pages/man2/connect.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Connect {
    fd: Fd,
    address: Box<SockAddr>,
}

impl Connect {
    /// Connects the socket, and waits for the connection unless the socket is non-blocking.
    pub fn new(fd: impl Into<Fd>, address: impl Into<SockAddr>) -> Self {
        Connect {
            fd: fd.into(),
            address: Box::new(address.into()),
        }
    }
}

simple!(
    Connect -> io::Result<()>,
    |this| calls::connect(this.fd.as_raw_fd(), this.address.as_ptr(), this.address.len()),
    |_, end| end.unit()
);

/// Ends a connection in one direction or both
/// ([shutdown(2)](https://man7.org/linux/man-pages/man2/shutdown.2.html)).
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct Shutdown {
    fd: Fd,
    how: How,
}

impl Shutdown {
    /// Ends this direction of the connection.
    pub fn new(fd: impl Into<Fd>, how: How) -> Self {
        Shutdown { fd: fd.into(), how }
    }
}

simple!(
    Shutdown -> io::Result<()>,
    |this| {
        let how = match this.how {
            How::Read => libc::SHUT_RD,
            How::Write => libc::SHUT_WR,
            How::Both => libc::SHUT_RDWR,
        };
        calls::shutdown(this.fd.as_raw_fd(), how)
    },
    |_, end| end.unit()
);
