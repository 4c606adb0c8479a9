// SPDX-License-Identifier: GPL-2.0

//! Files, and the module's parameters.

use super::c;
use core::fmt;
use kernel::bindings;
use kernel::c_str;
use kernel::str::CStr;

/// Returns true if reading from or writing to `fd` of the current process may block for an unbounded
/// time.
pub(crate) fn may_block(fd: u32) -> bool {
    // SAFETY: Any number will do.
    unsafe { c::flexsc_file_may_block(fd) != 0 }
}

/// Parameter `enable`: returns true if the current task may open the device.
pub(crate) fn may_open() -> bool {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_may_open() }
}

/// Parameter `mode`.
pub(super) fn device_mode() -> bindings::umode_t {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_device_mode() }
}

/// Parameter `max_pages`: syscall pages that one engine may have.
pub(crate) fn max_pages() -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_max_pages() }
}

/// Parameter `max_threads`: syscall threads that one engine may have.
pub(crate) fn max_threads() -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_max_threads() }
}

/// Parameter `max_user_pages`: syscall pages that one user may have; 0: any number.
pub(crate) fn max_user_pages() -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_max_user_pages() }
}

/// The text of a file of proc or debugfs while it is written.
pub(crate) struct Lines(pub(super) *mut bindings::seq_file);

impl Lines {
    /// Adds a line `name:\tvalue`.
    pub(crate) fn put(&self, name: &CStr, value: u64) {
        // SAFETY: Made by the shim for `show_fdinfo` from a valid pointer, for its duration.
        unsafe { c::flexsc_seq_u64(self.0, name.as_char_ptr().cast(), value) };
    }

    /// Adds text.
    pub(crate) fn write(&self, text: fmt::Arguments<'_>) {
        // SAFETY: The pointer is as above; the format `%pA` wants a `fmt::Arguments`.
        unsafe {
            bindings::seq_printf(
                self.0,
                c_str!("%pA").as_char_ptr(),
                (&raw const text).cast::<core::ffi::c_void>(),
            )
        };
    }
}
