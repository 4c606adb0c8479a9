// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams to send to, whose bytes say where in the stream they are.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::files::pipe;
use super::net::{self, tcp_pair, unix_pair};
use super::ring::Call;
use super::until;
use crate::check::{Check, Ret};

/// The kinds of streams. TCP needs a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Unix,
    Tcp,
    Pipe,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Unix, Kind::Tcp, Kind::Pipe];

    /// All ways to send to such a stream.
    pub fn ways(self) -> &'static [Way] {
        match self {
            Kind::Pipe => &[Way::Write, Way::Writev],
            _ => &[Way::Write, Way::Writev, Way::Sendto, Way::Sendmsg],
        }
    }
}

/// The calls that send to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Write,
    Writev,
    Sendto,
    Sendmsg,
}

/// Byte number `at` of a stream.
fn byte(at: usize) -> u8 {
    (at * 31 + at / 251) as u8
}

/// Bytes to send, and what a call needs to name them.
pub struct Message {
    bytes: Vec<u8>,
    /// Vector of two parts.
    parts: Box<[u64; 4]>,
    /// `struct msghdr`
    head: Box<[u64; 7]>,
}

impl Message {
    fn new(bytes: Vec<u8>) -> Message {
        let (at, half) = (bytes.as_ptr() as u64, bytes.len() as u64 / 2);
        let rest = bytes.len() as u64 - half;
        let parts = Box::new([at, half, at + half, rest]);
        let head = Box::new([0, 0, parts.as_ptr() as u64, 2, 0, 0, 0]);
        Message { bytes, parts, head }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The call that sends the message.
    pub fn call(&self, way: Way, to: i32) -> Call {
        let (at, len) = (self.bytes.as_ptr(), self.bytes.len());
        match way {
            Way::Write => call!(SYS_write, to, at, len),
            Way::Writev => call!(SYS_writev, to, self.parts.as_ptr(), 2),
            Way::Sendto => call!(SYS_sendto, to, at, len, 0, 0, 0),
            Way::Sendmsg => call!(SYS_sendmsg, to, self.head.as_ptr(), 0),
        }
    }
}

/// A stream of small buffers, and how far it was written and read.
pub struct Stream {
    pub to: OwnedFd,
    pub from: OwnedFd,
    kind: Kind,
    written: AtomicUsize,
    read: AtomicUsize,
}

impl Stream {
    pub fn new(kind: Kind) -> Check<Stream> {
        let (to, from) = match kind {
            Kind::Unix => unix_pair(libc::SOCK_STREAM)?,
            Kind::Tcp => tcp_pair()?,
            Kind::Pipe => pipe().map(|(from, to)| (to, from))?,
        };
        if kind == Kind::Tcp {
            // Otherwise they grow as they are used.
            for (socket, option) in [(&to, libc::SO_SNDBUF), (&from, libc::SO_RCVBUF)] {
                let set = net::set(socket, libc::SOL_SOCKET, option, &65_536i32);
                check_ret!("size of a buffer", set, 0);
            }
        }
        Ok(Stream {
            to,
            from,
            kind,
            written: AtomicUsize::new(0),
            read: AtomicUsize::new(0),
        })
    }

    /// The number of the descriptor to send to.
    pub fn fd(&self) -> i32 {
        self.to.as_raw_fd()
    }

    /// The next bytes of the stream. The caller sends all of them.
    pub fn message(&self, len: usize) -> Message {
        let begin = self.written.fetch_add(len, Ordering::Relaxed);
        Message::new((begin..begin + len).map(byte).collect())
    }

    /// The last message was cut short: only its first `sent` bytes are in the stream.
    pub fn cut(&self, message: &Message, sent: i64) {
        let lost = message.len() - sent as usize;
        self.written.fetch_sub(lost, Ordering::Relaxed);
    }

    /// Puts in as much as there is room for, in pieces of up to `piece` bytes.
    pub fn fill(&self, piece: usize) -> Check {
        self.set_flags(libc::O_NONBLOCK)?;
        let mut size = piece;
        // At the end, only single bytes may find room.
        while size != 0 {
            let message = self.message(size);
            let sent = plain!(SYS_write, &self.to, message.bytes.as_ptr(), size);
            self.cut(&message, sent.max(0));
            if sent < 0 {
                check_ret!("write", sent, -libc::EAGAIN);
                size /= 2;
            }
            if size == 0 && self.kind == Kind::Tcp {
                until("a window that is shut", || self.is_window_shut())?;
                if self.takes_byte() {
                    size = piece;
                }
            }
        }
        self.set_flags(0)
    }

    fn set_flags(&self, flags: i32) -> Check {
        check_ret!(
            "F_SETFL",
            plain!(SYS_fcntl, &self.to, libc::F_SETFL, flags),
            0
        );
        Ok(())
    }

    /// Returns true if the other end of a connection has acknowledged everything that it was sent,
    /// and wants nothing more: until it is read, there is no more room. In the end it takes what is
    /// left of a small window, too.
    fn is_window_shut(&self) -> bool {
        /// Places of `tcpi_unacked` and `tcpi_snd_wnd` in `struct tcp_info`.
        const UNACKED: usize = 6;
        const WINDOW: usize = 57;
        let mut info = [u32::MAX; 64];
        let (at, mut len) = (info.as_mut_ptr(), size_of_val(&info) as u32);
        let len = std::ptr::from_mut(&mut len);
        let (level, option) = (libc::IPPROTO_TCP, libc::TCP_INFO);
        let got = plain!(SYS_getsockopt, self.fd(), level, option, at, len);
        got == 0 && info[UNACKED] == 0 && info[WINDOW] == 0
    }

    /// Returns true if a byte can be sent.
    fn takes_byte(&self) -> bool {
        let message = self.message(1);
        let sent = plain!(SYS_write, &self.to, message.bytes.as_ptr(), 1);
        self.cut(&message, sent.max(0));
        sent == 1
    }

    /// Number of bytes that were sent and not received.
    pub fn inside(&self) -> usize {
        self.written.load(Ordering::Relaxed) - self.read.load(Ordering::Relaxed)
    }

    /// Receives some bytes, up to `most`, and checks them. Returns how many; 0 at the end.
    pub fn take_some(&self, most: usize) -> Check<usize> {
        receive(&self.from, &self.read, most)
    }

    /// Receives this many bytes.
    pub fn take(&self, count: usize) -> Check {
        let mut left = count;
        while left != 0 {
            let got = self.take_some(left.min(50_000))?;
            check!(got != 0, "the end, {left} of {count} bytes before");
            left -= got;
        }
        Ok(())
    }

    /// Closes the end to send to, and checks that exactly the bytes that were sent are inside.
    pub fn finish(self) -> Check {
        let Stream {
            to,
            from,
            written,
            read,
            ..
        } = self;
        drop(to);
        while receive(&from, &read, 50_000)? != 0 {}
        check_eq!(
            "bytes that arrived",
            read.into_inner(),
            written.into_inner()
        );
        Ok(())
    }
}

/// See [`Stream::take_some`].
fn receive(from: &OwnedFd, read: &AtomicUsize, most: usize) -> Check<usize> {
    let mut piece = vec![0u8; most];
    let got = plain!(SYS_read, from, piece.as_mut_ptr(), most);
    check!(got >= 0, "read: {}", Ret(got));
    let begin = read.fetch_add(got as usize, Ordering::Relaxed);
    for (at, &there) in piece[..got as usize].iter().enumerate() {
        if there != byte(begin + at) {
            fail!("byte {} is {there}", begin + at);
        }
    }
    Ok(got as usize)
}
