// SPDX-License-Identifier: MIT OR Apache-2.0
//! Options of sockets, each with the type of its value.

#![expect(unsafe_code, reason = "a promise about an option")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::time::Duration;

use libc::{c_int, socklen_t};

use super::Operation;
use super::private::{End, Prepared, Sealed};
use crate::{Fd, calls};

/// Room for the values of all options here.
const ROOM: usize = 16;

/// An option of a socket, whose value is a `T`.
#[derive(Debug, PartialEq, Eq)]
pub struct SockOpt<T> {
    level: c_int,
    name: c_int,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for SockOpt<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SockOpt<T> {}

impl<T: SockOptValue> SockOpt<T> {
    /// Makes an option from its numbers, such as `libc::SOL_SOCKET` and `libc::SO_REUSEADDR`.
    ///
    /// # Safety
    ///
    /// The value of the option has this type: an integer (`c_int`, or `bool`), a time
    /// (`struct timeval`), or a linger time (`struct linger`). Setting it does not break
    /// the promises of other code, for example through a descriptor number, and the
    /// value contains no address.
    #[must_use]
    pub const unsafe fn new(level: c_int, name: c_int) -> Self {
        SockOpt {
            level,
            name,
            value: PhantomData,
        }
    }
}

/// Makes constants of options.
macro_rules! options {
    ($($type:ty { $($(#[$doc:meta])* $name:ident = $level:ident, $option:ident;)* })*) => {
        $(impl SockOpt<$type> {
            $(
                $(#[$doc])*
                pub const $name: Self = {
                    // SAFETY: socket(7), tcp(7), ip(7) and ipv6(7) say so.
                    unsafe { SockOpt::new(libc::$level, libc::$option) }
                };
            )*
        })*
    };
}

options! {
    bool {
        /// SO_REUSEADDR: bind to an address that a closed connection still has.
        REUSE_ADDR = SOL_SOCKET, SO_REUSEADDR;
        /// SO_REUSEPORT: several sockets share an address.
        REUSE_PORT = SOL_SOCKET, SO_REUSEPORT;
        /// SO_KEEPALIVE: probe idle connections.
        KEEP_ALIVE = SOL_SOCKET, SO_KEEPALIVE;
        /// SO_BROADCAST: may send to broadcast addresses.
        BROADCAST = SOL_SOCKET, SO_BROADCAST;
        /// SO_ACCEPTCONN: the socket listens. Cannot be set.
        ACCEPT_CONN = SOL_SOCKET, SO_ACCEPTCONN;
        /// TCP_NODELAY: send small packets at once.
        TCP_NODELAY = IPPROTO_TCP, TCP_NODELAY;
        /// TCP_CORK: send full packets only.
        TCP_CORK = IPPROTO_TCP, TCP_CORK;
        /// IPV6_V6ONLY: no IPv4 connections.
        IPV6_V6ONLY = IPPROTO_IPV6, IPV6_V6ONLY;
    }
    c_int {
        /// SO_RCVBUF: the size of the receive buffer in bytes. The kernel doubles what is
        /// set.
        RECV_BUF = SOL_SOCKET, SO_RCVBUF;
        /// SO_SNDBUF: the size of the send buffer in bytes. The kernel doubles what is set.
        SEND_BUF = SOL_SOCKET, SO_SNDBUF;
        /// SO_RCVLOWAT: how many bytes make a stream socket readable.
        RECV_LOW_WATER = SOL_SOCKET, SO_RCVLOWAT;
        /// SO_TYPE: the type, `libc::SOCK_…`. Cannot be set.
        TYPE = SOL_SOCKET, SO_TYPE;
        /// SO_DOMAIN: the domain, `libc::AF_…`. Cannot be set.
        DOMAIN = SOL_SOCKET, SO_DOMAIN;
        /// SO_ERROR: the pending error, an errno, which is cleared; 0 if there is none.
        /// Cannot be set.
        ERROR = SOL_SOCKET, SO_ERROR;
        /// IP_TTL: the number of hops that packets may take.
        IP_TTL = IPPROTO_IP, IP_TTL;
    }
    Option<Duration> {
        /// SO_RCVTIMEO: how long a call waits to receive; `None` means forever.
        RECV_TIMEOUT = SOL_SOCKET, SO_RCVTIMEO;
        /// SO_SNDTIMEO: how long a call waits to send; `None` means forever.
        SEND_TIMEOUT = SOL_SOCKET, SO_SNDTIMEO;
    }
    Linger {
        /// SO_LINGER: whether closing the socket waits until everything is sent.
        LINGER = SOL_SOCKET, SO_LINGER;
    }
}

/// The value of SO_LINGER: how long closing a socket waits until everything is sent, in
/// seconds. With `None` it does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linger(pub Option<u16>);

/// The value of a [`SockOpt`].
pub trait SockOptValue: value::Value {}

impl<T: value::Value> SockOptValue for T {}

mod value {
    use super::{Duration, Linger, ROOM, c_int};

    /// The form in which the kernel reads a value.
    pub trait Value: Copy + Send + 'static {
        fn encode(self) -> ([u8; ROOM], usize);
        fn decode(bytes: [u8; ROOM]) -> Self;
    }

    fn pair<const N: usize>(first: [u8; N], second: [u8; N]) -> ([u8; ROOM], usize) {
        let mut bytes = [0; ROOM];
        bytes[..N].copy_from_slice(&first);
        bytes[N..2 * N].copy_from_slice(&second);
        (bytes, 2 * N)
    }

    fn nth<const N: usize>(bytes: [u8; ROOM], nth: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&bytes[nth * N..(nth + 1) * N]);
        part
    }

    impl Value for c_int {
        fn encode(self) -> ([u8; ROOM], usize) {
            let (bytes, _) = pair(self.to_ne_bytes(), [0; 4]);
            (bytes, size_of::<c_int>())
        }

        fn decode(bytes: [u8; ROOM]) -> Self {
            c_int::from_ne_bytes(nth(bytes, 0))
        }
    }

    impl Value for bool {
        fn encode(self) -> ([u8; ROOM], usize) {
            c_int::from(self).encode()
        }

        fn decode(bytes: [u8; ROOM]) -> Self {
            c_int::decode(bytes) != 0
        }
    }

    impl Value for Option<Duration> {
        fn encode(self) -> ([u8; ROOM], usize) {
            // A time of zero means forever, so a time below a microsecond becomes one microsecond.
            let time = self.map(|time| time.max(Duration::from_micros(1)));
            let time = time.unwrap_or_default();
            let seconds = time.as_secs().min(i64::MAX as u64) as i64;
            pair(
                seconds.to_ne_bytes(),
                i64::from(time.subsec_micros()).to_ne_bytes(),
            )
        }

        fn decode(bytes: [u8; ROOM]) -> Self {
            let [seconds, micros] = [0, 1].map(|at| i64::from_ne_bytes(nth(bytes, at)));
            let time = Duration::from_secs(seconds.unsigned_abs())
                .saturating_add(Duration::from_micros(micros.unsigned_abs()));
            (!time.is_zero()).then_some(time)
        }
    }

    impl Value for Linger {
        fn encode(self) -> ([u8; ROOM], usize) {
            pair(
                c_int::from(self.0.is_some()).to_ne_bytes(),
                c_int::from(self.0.unwrap_or(0)).to_ne_bytes(),
            )
        }

        fn decode(bytes: [u8; ROOM]) -> Self {
            let [on, seconds] = [0, 1].map(|at| c_int::from_ne_bytes(nth(bytes, at)));
            let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
            Linger((on != 0).then_some(seconds))
        }
    }
}

/// The memory of a value.
#[derive(Debug)]
#[repr(C, align(8))]
struct Record {
    bytes: [u8; ROOM],
    len: socklen_t,
}

/// Sets an option of a socket
/// ([setsockopt(2)](https://man7.org/linux/man-pages/man2/setsockopt.2.html)).
///
/// ```
/// use std::net::TcpStream;
/// use flexsc::ops::{SetSockOpt, SockOpt};
///
/// fn keep_alive(socket: TcpStream) -> SetSockOpt {
///     SetSockOpt::new(socket, SockOpt::KEEP_ALIVE, true)
/// }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct SetSockOpt {
    fd: Fd,
    level: c_int,
    name: c_int,
    record: Box<Record>,
}

impl SetSockOpt {
    /// Sets this option of this socket to this value.
    pub fn new<T: SockOptValue>(fd: impl Into<Fd>, option: SockOpt<T>, value: T) -> Self {
        let (bytes, len) = value.encode();
        SetSockOpt {
            fd: fd.into(),
            level: option.level,
            name: option.name,
            record: Box::new(Record {
                bytes,
                len: len as socklen_t,
            }),
        }
    }
}

impl Sealed for SetSockOpt {
    fn prepare(&mut self) -> Prepared {
        Prepared::new(calls::setsockopt(
            self.fd.as_raw_fd(),
            self.level,
            self.name,
            self.record.bytes.as_ptr().cast(),
            self.record.len,
        ))
    }
}

impl Operation for SetSockOpt {
    type Output = io::Result<()>;

    fn output(self, end: End) -> Self::Output {
        end.unit()
    }
}

/// Asks for an option of a socket
/// ([getsockopt(2)](https://man7.org/linux/man-pages/man2/getsockopt.2.html)). Gives back its
/// value.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is submitted"]
pub struct GetSockOpt<T> {
    fd: Fd,
    option: SockOpt<T>,
    record: Box<Record>,
}

impl<T: SockOptValue> GetSockOpt<T> {
    /// Asks for this option of this socket.
    pub fn new(fd: impl Into<Fd>, option: SockOpt<T>) -> Self {
        GetSockOpt {
            fd: fd.into(),
            option,
            record: Box::new(Record {
                bytes: [0; ROOM],
                len: ROOM as socklen_t,
            }),
        }
    }
}

impl<T: SockOptValue> Sealed for GetSockOpt<T> {
    fn prepare(&mut self) -> Prepared {
        Prepared::new(calls::getsockopt(
            self.fd.as_raw_fd(),
            self.option.level,
            self.option.name,
            self.record.bytes.as_mut_ptr().cast(),
            &raw mut self.record.len,
        ))
    }
}

impl<T: SockOptValue> Operation for GetSockOpt<T> {
    type Output = io::Result<T>;

    fn output(self, end: End) -> Self::Output {
        end.unit().map(|()| T::decode(self.record.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::value::Value;
    use super::*;

    #[test]
    fn values_are_the_kernels() {
        let (bytes, len) = (-2 as c_int).encode();
        assert_eq!((&bytes[..4], len), (&(-2_i32).to_ne_bytes()[..], 4));
        assert_eq!(true.encode().1, 4);
        let (bytes, len) = Some(Duration::from_millis(1500)).encode();
        assert_eq!(len, size_of::<libc::timeval>());
        assert_eq!(bytes[8..], 500_000_i64.to_ne_bytes());
        assert_eq!(Linger(Some(9)).encode().1, size_of::<libc::linger>());
    }

    #[test]
    fn values_come_back() {
        fn comes_back<T: Value + PartialEq + std::fmt::Debug>(value: T) {
            assert_eq!(T::decode(value.encode().0), value);
        }
        comes_back(7 as c_int);
        comes_back(true);
        comes_back(None::<Duration>);
        comes_back(Some(Duration::from_micros(3_000_001)));
        comes_back(Linger(None));
        comes_back(Linger(Some(u16::MAX)));
        // Not forever.
        let (bytes, _) = Some(Duration::ZERO).encode();
        let least = Option::<Duration>::decode(bytes);
        assert_eq!(least, Some(Duration::from_micros(1)));
    }
}
