// SPDX-License-Identifier: GPL-2.0

//! Files of the current process.

use super::c;

/// Returns true if reading from or writing to `fd` of the current process may block for an
/// unbounded time.
pub(crate) fn may_block(fd: u32) -> bool {
    // SAFETY: No preconditions: the C side looks whether `fd` is open.
    unsafe { c::flexsc_file_may_block(fd) != 0 }
}
