// SPDX-License-Identifier: GPL-2.0

//! Files of the current process.

use kernel::bindings;

/// Returns true if reading from or writing to `fd` of the current process may block for an
/// unbounded time.
pub(crate) fn may_block(fd: u32) -> bool {
    // SAFETY: No preconditions: the core checks whether `fd` is open.
    unsafe { bindings::syscall_file_may_block(fd) }
}

/// Returns true if a call of the current task on `fd` may wait for a daemon, a server or a frozen file
/// system, and another task can make it.
pub(crate) fn keeps_waiting(fd: u32) -> bool {
    // SAFETY: As above.
    unsafe { bindings::syscall_file_keeps_waiting(fd) }
}
