// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for events and times.

use std::ffi::c_int;

use flexsc::calls;
use libc::{epoll_event, pollfd, timespec};

use super::fill;
use crate::call::flexsc_call;

/// Prepares epoll_ctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_epoll_ctl(
    call: *mut flexsc_call,
    epoll: c_int,
    op: c_int,
    fd: c_int,
    event: *mut epoll_event,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::epoll_ctl(epoll, op, fd, event)) };
}

/// Prepares epoll_wait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_epoll_wait(
    call: *mut flexsc_call,
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout_ms: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::epoll_wait(epoll, events, most, timeout_ms)) };
}

/// Prepares poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_poll(
    call: *mut flexsc_call,
    fds: *mut pollfd,
    count: u64,
    timeout_ms: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::poll(fds, count, timeout_ms)) };
}

/// Prepares clock_nanosleep(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_clock_nanosleep(
    call: *mut flexsc_call,
    clock: c_int,
    flags: c_int,
    time: *const timespec,
    rest: *mut timespec,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::clock_nanosleep(clock, flags, time, rest)) };
}
