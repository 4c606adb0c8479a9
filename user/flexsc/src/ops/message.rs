// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages of several buffers, with an address and descriptors.

#![expect(unsafe_code, reason = "received descriptors")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use libc::c_int;

use super::private::{End, Prepared, Sealed};
use super::transfer::{WRITES, readiness};
use super::{Operation, SockAddr};
use crate::sys::buf::{self, IoBuf, IoBufMut, Slices};
use crate::sys::message::{self, Message};
use crate::sys::poll::Readiness;
use crate::{Fd, calls};

/// Sends a message of several buffers
/// ([sendmsg(2)](https://man7.org/linux/man-pages/man2/send.2.html)). Gives back the number of
/// bytes that were sent, and the buffers.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use flexsc::ops::{RecvMsg, SendMsg};
/// use flexsc::{Fd, Ring, Wait};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = UnixStream::pair()?;
/// let mut ring = Ring::open(1)?;
/// let file = Fd::from(std::fs::File::open("/dev/null")?);
/// let send = SendMsg::new(Fd::from(near), vec!["a ", "file"]).descriptors([file]);
/// let recv = RecvMsg::new(Fd::from(far), vec![vec![0; 16]]).descriptors(1);
/// ring.submit(send, 0).unwrap();
/// ring.submit(recv, 1).unwrap();
/// ring.wait(Wait::all())?;
/// while let Some(done) = ring.next() {
///     if done.is::<RecvMsg>() {
///         let (received, bufs) = done.output::<RecvMsg>();
///         let received = received?;
///         assert_eq!((received.bytes, &bufs[0][..6]), (6, &b"a file"[..]));
///         assert_eq!(received.descriptors.len(), 1);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct SendMsg<B = Vec<u8>> {
    fd: Fd,
    bufs: Vec<B>,
    flags: c_int,
    address: Option<Box<SockAddr>>,
    descriptors: Vec<Fd>,
    message: Message,
}

impl<B: IoBuf> SendMsg<B> {
    /// Sends these buffers, one after the other.
    pub fn new(fd: impl Into<Fd>, bufs: Vec<B>) -> Self {
        SendMsg {
            fd: fd.into(),
            bufs,
            flags: 0,
            address: None,
            descriptors: Vec::new(),
            message: Message::default(),
        }
    }
}

impl<B> SendMsg<B> {
    /// Flags, as [`Send::flags`](super::Send::flags).
    pub fn flags(mut self, flags: c_int) -> Self {
        self.flags = flags;
        self
    }

    /// Sends to this address instead of the socket's peer.
    pub fn to(mut self, address: impl Into<SockAddr>) -> Self {
        self.address = Some(Box::new(address.into()));
        self
    }

    /// Sends these descriptors, too, at most 253, on a Unix socket
    /// ([unix(7)](https://man7.org/linux/man-pages/man7/unix.7.html), SCM_RIGHTS).
    pub fn descriptors(mut self, descriptors: impl IntoIterator<Item = Fd>) -> Self {
        self.descriptors = descriptors.into_iter().collect();
        self
    }
}

impl<B: IoBuf> Sealed for SendMsg<B> {
    fn prepare(&mut self) -> Prepared {
        let name = match &self.address {
            Some(address) => (address.as_ptr().cast_mut(), address.len()),
            None => (ptr::null_mut(), 0),
        };
        let fds: Vec<_> = self.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let slices = Slices::new(&self.bufs);
        let header = self.message.fill(slices, name, message::rights(&fds));
        let call = calls::sendmsg(self.fd.as_raw_fd(), header, self.flags);
        Prepared::when(call, &self.fd, readiness(self.flags, Readiness::Writable))
    }
}

impl<B: IoBuf> Operation for SendMsg<B> {
    type Output = (io::Result<usize>, Vec<B>);

    fn output(self, end: End) -> Self::Output {
        (end.count(), self.bufs)
    }
}

/// Receives a message to several buffers
/// ([recvmsg(2)](https://man7.org/linux/man-pages/man2/recv.2.html)). Gives back a
/// [`Received`] and the buffers. The example is at [`SendMsg`].
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct RecvMsg<B = Vec<u8>> {
    fd: Fd,
    bufs: Vec<B>,
    flags: c_int,
    descriptors: usize,
    address: Box<SockAddr>,
    message: Message,
    /// Owned from the end of the call on, so that they are closed if nobody takes them.
    received: Vec<OwnedFd>,
}

/// What a [`RecvMsg`] has received beside the bytes.
#[derive(Debug)]
#[non_exhaustive]
pub struct Received {
    /// The number of bytes, which is 0 at the end of a stream.
    pub bytes: usize,
    /// The address of the sender; of family AF_UNSPEC if the socket is connected.
    pub address: SockAddr,
    /// The descriptors of the message.
    pub descriptors: Vec<OwnedFd>,
    /// `libc::MSG_…`: MSG_TRUNC if the buffers were too small, MSG_CTRUNC if there was no
    /// room for all descriptors.
    pub flags: c_int,
}

impl<B: IoBufMut> RecvMsg<B> {
    /// Receives to these buffers, one after the other. Each has room as in
    /// [`Read::new`](super::Read::new).
    pub fn new(fd: impl Into<Fd>, bufs: Vec<B>) -> Self {
        RecvMsg {
            fd: fd.into(),
            bufs,
            flags: 0,
            descriptors: 0,
            address: Box::new(SockAddr::room()),
            message: Message::default(),
            received: Vec::new(),
        }
    }
}

impl<B> RecvMsg<B> {
    /// Flags, as [`Recv::flags`](super::Recv::flags).
    pub fn flags(mut self, flags: c_int) -> Self {
        self.flags = flags;
        self
    }

    /// Receives up to this many descriptors, too, which are closed by execve(2). Without
    /// this the kernel closes all of them.
    pub fn descriptors(mut self, most: usize) -> Self {
        self.descriptors = most;
        self
    }
}

impl<B: IoBufMut> Sealed for RecvMsg<B> {
    fn prepare(&mut self) -> Prepared {
        if self.flags & !WRITES != 0 {
            self.bufs.iter_mut().for_each(buf::zero);
        }
        let room = self.address.len();
        let name = (self.address.as_mut_ptrs().0, room);
        let slices = Slices::new_mut(&mut self.bufs);
        let control = message::room(self.descriptors);
        let header = self.message.fill(slices, name, control);
        let flags = self.flags | libc::MSG_CMSG_CLOEXEC;
        let call = calls::recvmsg(self.fd.as_raw_fd(), header, flags);
        Prepared::when(call, &self.fd, readiness(self.flags, Readiness::Readable))
    }

    fn settle(&mut self, end: &End) {
        buf::all_filled(&mut self.bufs, end);
        if end.made() && end.count().is_ok() {
            // SAFETY: by the invariant of `End` the operation's own call has succeeded, and so
            // has made these descriptors.
            self.received = unsafe { self.message.take_descriptors() };
        }
    }
}

impl<B: IoBufMut> Operation for RecvMsg<B> {
    type Output = (io::Result<Received>, Vec<B>);

    fn output(mut self, end: End) -> Self::Output {
        self.address.set_len(self.message.name_len());
        let received = end.count().map(|bytes| Received {
            bytes,
            address: self.address.written(),
            descriptors: self.received,
            flags: self.message.flags() & !libc::MSG_CMSG_CLOEXEC,
        });
        (received, self.bufs)
    }
}
