// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls on files that may wait: data that is already there comes at once, as from a plain call.

pub mod ready;
pub mod seen;
pub mod sends;
pub mod waiting;

use std::os::fd::{AsRawFd, OwnedFd};

use crate::check::Check;
use crate::kit::files::pipe;
use crate::kit::net::{self, tcp_pair, udp_pair, unix_pair};
use crate::kit::ring::Call;
use crate::kit::sys;

/// The bytes that are sent.
const TEXT: &[u8; 8] = b"abcdefgh";

// Offsets in a scene's memory, in words.
const DATA: usize = 0;
const DATA_LEN: usize = 32;
const PARTS: usize = 32;
const MESSAGE: usize = 40;
const NAME: usize = 48;
const NAME_LEN: usize = 64;
const WORDS: usize = 72;

/// Files in some state, and the memory that a call on the first file points to.
struct Scene {
    fds: Vec<OwnedFd>,
    words: Box<[u64; WORDS]>,
}

/// The kinds of calls that do the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// `read` or `write`
    Plain,
    /// `readv` or `writev`
    Vector,
    /// `recvfrom` or `sendto`
    Socket,
    /// `recvmsg` or `sendmsg`
    Message,
}

impl How {
    const ALL: [How; 4] = [How::Plain, How::Vector, How::Socket, How::Message];
    const FILE: [How; 2] = [How::Plain, How::Vector];
}

impl Scene {
    fn new(fds: impl IntoIterator<Item = OwnedFd>) -> Scene {
        Scene {
            fds: fds.into_iter().collect(),
            words: Box::new([0; WORDS]),
        }
    }

    fn at(&mut self, word: usize) -> u64 {
        std::ptr::from_mut(&mut self.words[word]) as u64
    }

    fn fd(&self) -> i32 {
        self.fds[0].as_raw_fd()
    }

    /// Two parts that together are `len` bytes of data, and a message of them.
    fn describe(&mut self, len: usize, name_len: u64) {
        let (data, parts, name) = (self.at(DATA), self.at(PARTS), self.at(NAME));
        let half = len as u64 / 2;
        let both = [data, half, data + half, len as u64 - half];
        self.words[PARTS..PARTS + 4].copy_from_slice(&both);
        let name = if name_len == 0 { 0 } else { name };
        let message = [name, name_len, parts, 2, 0, 0, 0];
        self.words[MESSAGE..MESSAGE + 7].copy_from_slice(&message);
    }

    /// A call that takes up to `len` bytes from the file.
    fn take(&mut self, how: How, len: usize, flags: i32) -> Call {
        assert!(len <= DATA_LEN * 8);
        self.describe(len, 128);
        self.words[NAME_LEN] = 128;
        let (fd, data, parts) = (self.fd(), self.at(DATA), self.at(PARTS));
        let (name, name_len, message) = (self.at(NAME), self.at(NAME_LEN), self.at(MESSAGE));
        match how {
            How::Plain => call!(SYS_read, fd, data, len),
            How::Vector => call!(SYS_readv, fd, parts, 2),
            How::Socket => call!(SYS_recvfrom, fd, data, len, flags, name, name_len),
            How::Message => call!(SYS_recvmsg, fd, message, flags),
        }
    }

    /// A call that gives `len` bytes to the file.
    fn give(&mut self, how: How, len: usize, flags: i32) -> Call {
        assert!(len <= DATA_LEN * 8);
        self.describe(len, 0);
        self.words[DATA] = u64::from_ne_bytes(*TEXT);
        let (fd, data, parts) = (self.fd(), self.at(DATA), self.at(PARTS));
        let message = self.at(MESSAGE);
        match how {
            How::Plain => call!(SYS_write, fd, data, len),
            How::Vector => call!(SYS_writev, fd, parts, 2),
            How::Socket => call!(SYS_sendto, fd, data, len, flags, 0, 0),
            How::Message => call!(SYS_sendmsg, fd, message, flags),
        }
    }

    /// A call that accepts a connection.
    fn accept(&mut self, flags: Option<i32>) -> Call {
        self.words[NAME_LEN] = 128;
        let (fd, name, name_len) = (self.fd(), self.at(NAME), self.at(NAME_LEN));
        match flags {
            None => call!(SYS_accept, fd, name, name_len),
            Some(flags) => call!(SYS_accept4, fd, name, name_len, flags),
        }
    }

    /// What a call has left in the memory, except for addresses, in which two scenes differ.
    fn left(&self) -> Vec<u64> {
        let family = self.words[NAME] & 0xFFFF;
        let message = [MESSAGE + 1, MESSAGE + 5, MESSAGE + 6, NAME_LEN];
        let mut left = self.words[DATA..DATA + DATA_LEN].to_vec();
        left.extend(message.map(|word| self.words[word]));
        left.push(family);
        left
    }
}

/// Two ends.
type Pair = (OwnedFd, OwnedFd);
type MakePair = fn() -> Check<Pair>;

/// Makes a scene.
type Make = fn() -> Check<Scene>;

fn send(to: &OwnedFd, len: usize) -> Check {
    let sent = plain!(SYS_write, to, TEXT.as_ptr(), len);
    check_ret!("write", sent, len as i64);
    Ok(())
}

/// The first end of a pair, after the second one has sent something.
fn with_data((one, two): Pair) -> Check<Scene> {
    send(&two, 5)?;
    Ok(Scene::new([one, two]))
}

fn swapped((one, two): Pair) -> Pair {
    (two, one)
}

/// An eventfd, a timerfd or the like.
fn own(what: &str, fd: i64) -> Check<OwnedFd> {
    check!(fd >= 0, "{what}: {}", crate::check::Ret(fd));
    Ok(sys::own(fd as i32))
}

fn event(count: u32) -> Check<Scene> {
    let fd = own("eventfd2", plain!(SYS_eventfd2, count, libc::EFD_CLOEXEC))?;
    Ok(Scene::new([fd]))
}

/// A timer that expires after `ns` nanoseconds.
fn timer(ns: i64) -> Check<Scene> {
    let clock = libc::CLOCK_MONOTONIC;
    let fd = plain!(SYS_timerfd_create, clock, libc::TFD_CLOEXEC);
    let fd = own("timerfd_create", fd)?;
    start(&fd, ns)?;
    Ok(Scene::new([fd]))
}

/// Lets a timer expire after `ns` nanoseconds; 0 stops it.
fn start(timer: &OwnedFd, ns: i64) -> Check {
    let time = [0i64, 0, 0, ns];
    let set = plain!(SYS_timerfd_settime, timer, 0, time.as_ptr(), 0);
    check_ret!("timerfd_settime", set, 0);
    Ok(())
}

fn packet_pipe() -> Check<Pair> {
    let mut fds = [0i32; 2];
    let flags = libc::O_CLOEXEC | libc::O_DIRECT;
    check_ret!("pipe2", plain!(SYS_pipe2, fds.as_mut_ptr(), flags), 0);
    Ok((sys::own(fds[0]), sys::own(fds[1])))
}

/// A connection, or something like one, of each kind that can be tried both ways.
const PAIRS: &[(&str, MakePair)] = &[
    ("unix stream", || unix_pair(libc::SOCK_STREAM)),
    ("unix seqpacket", || unix_pair(libc::SOCK_SEQPACKET)),
    ("unix datagrams", || unix_pair(libc::SOCK_DGRAM)),
    ("tcp", tcp_pair),
    ("udp", udp_pair),
    ("pipe", || Ok(swapped(pipe()?))),
    ("packets in a pipe", || Ok(swapped(packet_pipe()?))),
];

/// The calls that a pair of this name can be used with.
fn ways(pair: &str) -> &'static [How] {
    if pair.contains("pipe") {
        &How::FILE
    } else {
        &How::ALL
    }
}

fn option(socket: &OwnedFd, option: i32, value: i32) -> Check {
    let set = net::set(socket, libc::SOL_SOCKET, option, &value);
    check_ret!("setsockopt", set, 0);
    Ok(())
}
