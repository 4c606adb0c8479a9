// SPDX-License-Identifier: MIT OR Apache-2.0
//! Calls on sockets.

use std::ffi::{c_int, c_void};
use std::ptr;

use flexsc::{Call, calls};
use libc::{msghdr, sockaddr, socklen_t};

use super::fill;
use crate::call::flexsc_call;

/// Prepares socket(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_socket(
    call: *mut flexsc_call,
    domain: c_int,
    kind: c_int,
    protocol: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::socket(domain, kind, protocol)) };
}

/// Prepares bind(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_bind(
    call: *mut flexsc_call,
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::bind(fd, address, len)) };
}

/// Prepares listen(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_listen(call: *mut flexsc_call, fd: c_int, backlog: c_int) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::listen(fd, backlog)) };
}

/// Prepares accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_accept4(
    call: *mut flexsc_call,
    fd: c_int,
    address: *mut sockaddr,
    len: *mut socklen_t,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::accept4(fd, address, len, flags)) };
}

/// Prepares connect(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_connect(
    call: *mut flexsc_call,
    fd: c_int,
    address: *const sockaddr,
    len: socklen_t,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::connect(fd, address, len)) };
}

/// Prepares shutdown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_shutdown(call: *mut flexsc_call, fd: c_int, how: c_int) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::shutdown(fd, how)) };
}

/// Prepares sendto(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_sendto(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
    address: *const sockaddr,
    address_len: socklen_t,
) {
    // SAFETY: the caller's promise.
    unsafe {
        fill(
            call,
            calls::sendto(fd, buf, len, flags, address, address_len),
        )
    };
}

/// Prepares recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_recvfrom(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
    address: *mut sockaddr,
    address_len: *mut socklen_t,
) {
    // SAFETY: the caller's promise.
    unsafe {
        fill(
            call,
            calls::recvfrom(fd, buf, len, flags, address, address_len),
        )
    };
}

/// Prepares sendmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_sendmsg(
    call: *mut flexsc_call,
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
) {
    let args = [fd as u64, message.expose_provenance() as u64, flags as u64];
    // SAFETY: the caller's promise.
    unsafe { fill(call, Call::with_args(libc::SYS_sendmsg, args)) };
}

/// Prepares recvmsg(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_recvmsg(
    call: *mut flexsc_call,
    fd: c_int,
    message: *mut msghdr,
    flags: c_int,
) {
    let args = [fd as u64, message.expose_provenance() as u64, flags as u64];
    // SAFETY: the caller's promise.
    unsafe { fill(call, Call::with_args(libc::SYS_recvmsg, args)) };
}

/// Prepares setsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_setsockopt(
    call: *mut flexsc_call,
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    len: socklen_t,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::setsockopt(fd, level, option, value, len)) };
}

/// Prepares getsockopt(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_getsockopt(
    call: *mut flexsc_call,
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::getsockopt(fd, level, option, value, len)) };
}

/// Prepares send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_send(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *const c_void,
    len: usize,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::sendto(fd, buf, len, flags, ptr::null(), 0)) };
}

/// Prepares recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_recv(
    call: *mut flexsc_call,
    fd: c_int,
    buf: *mut c_void,
    len: usize,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe {
        fill(
            call,
            calls::recvfrom(fd, buf, len, flags, ptr::null_mut(), ptr::null_mut()),
        )
    };
}
