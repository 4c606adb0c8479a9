// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting for events and times.

use std::ffi::{c_int, c_uint};

use flexsc::calls;
use libc::{epoll_event, itimerspec, pollfd, timespec};

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

/// Prepares eventfd(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_eventfd(
    call: *mut flexsc_call,
    counter: c_uint,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::eventfd2(counter, flags)) };
}

/// Prepares timerfd_create(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_timerfd_create(
    call: *mut flexsc_call,
    clock: c_int,
    flags: c_int,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::timerfd_create(clock, flags)) };
}

/// Prepares timerfd_settime(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flexsc_prep_timerfd_settime(
    call: *mut flexsc_call,
    fd: c_int,
    flags: c_int,
    time: *const itimerspec,
    old: *mut itimerspec,
) {
    // SAFETY: the caller's promise.
    unsafe { fill(call, calls::timerfd_settime(fd, flags, time, old)) };
}
