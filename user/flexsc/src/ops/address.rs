// SPDX-License-Identifier: MIT OR Apache-2.0
//! Socket addresses as the kernel reads and writes them.

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net;

use libc::{sockaddr_in, sockaddr_in6, sockaddr_un, socklen_t};

/// The size of the kernel's largest address, `sockaddr_storage`.
const ROOM: usize = size_of::<libc::sockaddr_storage>();

/// The address of a socket, of any family that the kernel knows.
///
/// It is made from the standard library's addresses, and converted back by
/// [`SockAddr::as_inet`] and [`SockAddr::as_unix`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct SockAddr {
    /// The C structure. Bytes that do not belong to it are zero.
    bytes: [u8; ROOM],
    /// Its length, at most [`ROOM`].
    len: socklen_t,
}

impl SockAddr {
    /// Room for an address.
    pub(super) fn room() -> Self {
        SockAddr {
            bytes: [0; ROOM],
            len: ROOM as socklen_t,
        }
    }

    pub(super) fn as_ptr(&self) -> *const libc::sockaddr {
        self.bytes.as_ptr().cast()
    }

    /// Returns pointers at which the kernel writes an address and its length.
    pub(super) fn as_mut_ptrs(&mut self) -> (*mut libc::sockaddr, *mut socklen_t) {
        // Two borrows one after the other would invalidate the first pointer.
        let SockAddr { bytes, len } = self;
        (bytes.as_mut_ptr().cast(), &raw mut *len)
    }

    pub(super) fn len(&self) -> socklen_t {
        self.len
    }

    /// Sets the length that the kernel has written elsewhere.
    pub(super) fn set_len(&mut self, len: socklen_t) {
        self.len = len;
    }

    /// The address that the kernel has written. It may have been longer than the room.
    pub(super) fn written(mut self) -> Self {
        self.len = self.len.min(ROOM as socklen_t);
        self.bytes[self.len as usize..].fill(0);
        self
    }

    fn new(family: libc::c_int, len: usize) -> Self {
        let mut address = SockAddr {
            bytes: [0; ROOM],
            len: len as socklen_t,
        };
        address.put(0, (family as libc::sa_family_t).to_ne_bytes());
        address
    }

    fn put<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&bytes);
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.bytes[at..at + N]);
        bytes
    }

    /// The address family, `libc::AF_…`; `libc::AF_UNSPEC` if there is no address.
    #[must_use]
    pub fn family(&self) -> libc::c_int {
        libc::sa_family_t::from_ne_bytes(self.get(0)).into()
    }

    fn is(&self, family: libc::c_int, len: usize) -> bool {
        self.family() == family && self.len as usize >= len
    }

    /// Returns the address if it is one of IPv4 or IPv6.
    #[must_use]
    pub fn as_inet(&self) -> Option<SocketAddr> {
        if self.is(libc::AF_INET, size_of::<sockaddr_in>()) {
            let ip = Ipv4Addr::from(self.get::<4>(offset_of!(sockaddr_in, sin_addr)));
            let port = u16::from_be_bytes(self.get(offset_of!(sockaddr_in, sin_port)));
            return Some((ip, port).into());
        }
        if !self.is(libc::AF_INET6, size_of::<sockaddr_in6>()) {
            return None;
        }
        let ip = Ipv6Addr::from(self.get::<16>(offset_of!(sockaddr_in6, sin6_addr)));
        let port = u16::from_be_bytes(self.get(offset_of!(sockaddr_in6, sin6_port)));
        let flow = u32::from_ne_bytes(self.get(offset_of!(sockaddr_in6, sin6_flowinfo)));
        let scope = u32::from_ne_bytes(self.get(offset_of!(sockaddr_in6, sin6_scope_id)));
        Some(SocketAddrV6::new(ip, port, flow, scope).into())
    }

    /// Returns the address if it is one of a Unix socket. It may be unnamed.
    #[must_use]
    pub fn as_unix(&self) -> Option<net::SocketAddr> {
        if !self.is(libc::AF_UNIX, 0) {
            return None;
        }
        let path = &self.bytes[offset_of!(sockaddr_un, sun_path)..(self.len as usize).max(2)];
        match path.split_first() {
            None => net::SocketAddr::from_pathname("").ok(),
            Some((0, name)) => net::SocketAddr::from_abstract_name(name).ok(),
            Some(_) => {
                let path = path.split(|&byte| byte == 0).next().unwrap_or(path);
                net::SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)).ok()
            }
        }
    }
}

impl From<SocketAddr> for SockAddr {
    fn from(address: SocketAddr) -> SockAddr {
        let port = address.port().to_be_bytes();
        match address.ip() {
            IpAddr::V4(ip) => {
                let mut made = SockAddr::new(libc::AF_INET, size_of::<sockaddr_in>());
                made.put(offset_of!(sockaddr_in, sin_port), port);
                made.put(offset_of!(sockaddr_in, sin_addr), ip.octets());
                made
            }
            IpAddr::V6(ip) => {
                let mut made = SockAddr::new(libc::AF_INET6, size_of::<sockaddr_in6>());
                made.put(offset_of!(sockaddr_in6, sin6_port), port);
                made.put(offset_of!(sockaddr_in6, sin6_addr), ip.octets());
                if let SocketAddr::V6(address) = address {
                    let (flow, scope) = (address.flowinfo(), address.scope_id());
                    made.put(offset_of!(sockaddr_in6, sin6_flowinfo), flow.to_ne_bytes());
                    made.put(offset_of!(sockaddr_in6, sin6_scope_id), scope.to_ne_bytes());
                }
                made
            }
        }
    }
}

impl TryFrom<&net::SocketAddr> for SockAddr {
    type Error = io::Error;

    /// # Errors
    ///
    /// Fails if the name is longer than the kernel's limit of 108 bytes, which the standard
    /// library's addresses never exceed.
    fn try_from(address: &net::SocketAddr) -> io::Result<SockAddr> {
        let at = offset_of!(sockaddr_un, sun_path);
        let name = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => [path.as_os_str().as_bytes(), &[0]].concat(),
            (None, Some(name)) => [&[0], name].concat(),
            (None, None) => Vec::new(),
        };
        if name.len() > size_of::<sockaddr_un>() - at {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut made = SockAddr::new(libc::AF_UNIX, at + name.len());
        made.bytes[at..at + name.len()].copy_from_slice(&name);
        Ok(made)
    }
}

impl fmt::Debug for SockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.as_inet() {
            return address.fmt(f);
        }
        match self.as_unix() {
            Some(address) => address.fmt(f),
            None => f.debug_tuple("SockAddr").field(&self.family()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_addresses_come_back() {
        for text in ["127.0.0.1:80", "[::1]:65535", "[fe80::1%7]:22"] {
            let address: SocketAddr = text.parse().unwrap();
            let made = SockAddr::from(address);
            assert_eq!(
                (made.as_inet(), made.as_unix().is_none()),
                (Some(address), true)
            );
            assert_eq!(made.written(), made);
        }
    }

    #[test]
    fn internet_addresses_are_the_kernels() {
        let made = SockAddr::from("1.2.3.4:258".parse::<SocketAddr>().unwrap());
        assert_eq!((made.family(), made.len), (libc::AF_INET, 16));
        assert_eq!(made.bytes[2..9], [1, 2, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn names_of_unix_sockets_come_back() {
        let path = net::SocketAddr::from_pathname("/run/socket").unwrap();
        let name = net::SocketAddr::from_abstract_name(b"a\0name").unwrap();
        let long = net::SocketAddr::from_abstract_name([b'x'; 107]).unwrap();
        let none = net::SocketAddr::from_pathname("").unwrap();
        for address in [path, name, long, none] {
            let made = SockAddr::try_from(&address).unwrap();
            let back = made.as_unix().unwrap();
            assert_eq!(back.as_pathname(), address.as_pathname());
            assert_eq!(back.as_abstract_name(), address.as_abstract_name());
            assert_eq!(made.as_inet(), None);
        }
    }

    #[test]
    fn a_path_without_its_end_is_a_path() {
        // bind(2) accepts 108 bytes without a zero.
        let mut made = SockAddr::new(libc::AF_UNIX, 110);
        made.bytes[2..110].fill(b'x');
        assert!(
            made.as_unix()
                .is_none_or(|unix| unix.as_pathname().is_some())
        );
    }

    #[test]
    fn lengths_that_the_kernel_reports_are_bounded() {
        let mut made = SockAddr::room();
        made.bytes.fill(1);
        made.len = 1000;
        assert_eq!(made.written().len, 128);
        made.len = 0;
        let none = made.written();
        assert_eq!(none.family(), libc::AF_UNSPEC);
        assert_eq!((none.as_inet(), none.as_unix().is_none()), (None, true));
    }
}
