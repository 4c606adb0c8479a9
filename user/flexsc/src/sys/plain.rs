// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain system calls, for calls that the kernel refuses, and their results.

#![expect(unsafe_code, reason = "system calls by number")]

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// Makes a plain system call. Returns its result, `-errno` on failure.
///
/// # Safety
///
/// The arguments must be valid for this system call.
pub(crate) unsafe fn call(nr: u16, args: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller's promise.
    let result = unsafe { libc::syscall(libc::c_long::from(nr), a, b, c, d, e, f) };
    if result == -1 {
        -i64::from(Errno::last_raw())
    } else {
        result
    }
}

/// Owns the descriptor that a call has made. Returns `None` if it has failed.
///
/// # Safety
///
/// The result is that of a call that makes a descriptor, and nothing else owns the descriptor.
pub(crate) unsafe fn own(result: i64) -> Option<OwnedFd> {
    let fd = i32::try_from(result).ok().filter(|&fd| fd >= 0)?;
    // SAFETY: the caller's promise.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns true if this thread has a seccomp filter.
pub(crate) fn is_filtered() -> bool {
    // SAFETY: takes a number, no memory.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}
