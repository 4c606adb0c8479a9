// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sockets of the loopback interface, and options of sockets.

use std::os::fd::OwnedFd;

use super::sys;
use crate::check::{Check, Ret};

/// Switches the loopback interface of this network namespace on.
pub fn loopback_up() -> Check {
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&(libc::IFF_UP as u16).to_ne_bytes());
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let up = plain!(SYS_ioctl, &socket, libc::SIOCSIFFLAGS, request.as_ptr());
    check_ret!("SIOCSIFFLAGS", up, 0);
    Ok(())
}

/// A socket.
pub fn socket(family: i32, kind: i32) -> Check<OwnedFd> {
    let fd = plain!(SYS_socket, family, kind | libc::SOCK_CLOEXEC, 0);
    check!(fd >= 0, "socket: {}", Ret(fd));
    Ok(sys::own(fd as i32))
}

/// A connected pair of unix sockets of this kind.
pub fn unix_pair(kind: i32) -> Check<(OwnedFd, OwnedFd)> {
    let mut fds = [0i32; 2];
    let kind = kind | libc::SOCK_CLOEXEC;
    let ret = plain!(SYS_socketpair, libc::AF_UNIX, kind, 0, fds.as_mut_ptr());
    check_ret!("socketpair", ret, 0);
    Ok((sys::own(fds[0]), sys::own(fds[1])))
}

/// The address of a socket: its bytes and their number.
pub fn name(socket: &OwnedFd) -> Check<([u64; 16], u32)> {
    let (mut bytes, mut len) = ([0u64; 16], size_of::<[u64; 16]>() as u32);
    let at = std::ptr::from_mut(&mut len);
    let ret = plain!(SYS_getsockname, socket, bytes.as_mut_ptr(), at);
    check_ret!("getsockname", ret, 0);
    Ok((bytes, len))
}

/// Gives a socket some address, 127.0.0.1 or in the abstract namespace, that others can use.
pub fn bind(socket: &OwnedFd, family: i32) -> Check {
    let mut address = [0u8; 16];
    address[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    let len = if family == libc::AF_UNIX { 2 } else { 16 };
    check_ret!("bind", plain!(SYS_bind, socket, address.as_ptr(), len), 0);
    Ok(())
}

/// Connects a socket to the address of another one.
pub fn connect(socket: &OwnedFd, to: &OwnedFd) -> Check {
    let (address, len) = name(to)?;
    let ret = plain!(SYS_connect, socket, address.as_ptr(), len);
    check_ret!("connect", ret, 0);
    Ok(())
}

/// A socket that listens.
pub fn listener(family: i32) -> Check<OwnedFd> {
    let socket = socket(family, libc::SOCK_STREAM)?;
    bind(&socket, family)?;
    check_ret!("listen", plain!(SYS_listen, &socket, 8), 0);
    Ok(socket)
}

/// Both ends of a TCP connection.
pub fn tcp_pair() -> Check<(OwnedFd, OwnedFd)> {
    let listener = listener(libc::AF_INET)?;
    let one = socket(libc::AF_INET, libc::SOCK_STREAM)?;
    connect(&one, &listener)?;
    let two = plain!(SYS_accept4, &listener, 0, 0, libc::SOCK_CLOEXEC);
    check!(two >= 0, "accept4: {}", Ret(two));
    Ok((one, sys::own(two as i32)))
}

/// Two UDP sockets, the first of which is connected to the second.
pub fn udp_pair() -> Check<(OwnedFd, OwnedFd)> {
    let one = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    let two = socket(libc::AF_INET, libc::SOCK_DGRAM)?;
    bind(&two, libc::AF_INET)?;
    connect(&one, &two)?;
    Ok((one, two))
}

/// Sets an option of a socket.
pub fn set<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> i64 {
    let at = std::ptr::from_ref(value);
    plain!(
        SYS_setsockopt,
        socket,
        level,
        option,
        at,
        size_of::<T>() as i32
    )
}

/// Another descriptor of the same file.
pub fn duplicate(fd: &OwnedFd) -> Check<OwnedFd> {
    let copy = plain!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 3);
    check!(copy >= 0, "F_DUPFD_CLOEXEC: {}", Ret(copy));
    Ok(sys::own(copy as i32))
}
