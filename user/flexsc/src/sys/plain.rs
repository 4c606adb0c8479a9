// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plain system calls: what is done with a call that the kernel refuses.

#![expect(unsafe_code, reason = "system calls by number")]

use nix::errno::Errno;
use nix::libc;

/// Makes a plain system call; returns what the kernel does: `-errno` on failure.
///
/// # Safety
///
/// As for the call itself: the arguments must be good for it.
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

/// Whether a seccomp filter decides over this thread's calls.
pub(crate) fn is_filtered() -> bool {
    // SAFETY: takes a number, no memory.
    unsafe { libc::prctl(libc::PR_GET_SECCOMP) != 0 }
}
