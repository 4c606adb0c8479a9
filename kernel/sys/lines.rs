// SPDX-License-Identifier: GPL-2.0

//! The text of a proc or debugfs file.

use super::c;
use core::fmt;
use kernel::bindings;
use kernel::c_str;
use kernel::str::CStr;

/// The text of a proc or debugfs file while it is being written.
pub(crate) struct Lines(pub(super) *mut bindings::seq_file);

impl Lines {
    /// Adds a line `name:\tvalue`.
    pub(crate) fn put(&self, name: &CStr, value: u64) {
        // SAFETY: Made by the shim for `show_fdinfo` from a valid pointer, for its duration.
        unsafe { c::flexsc_seq_u64(self.0, name.as_char_ptr().cast(), value) };
    }

    /// Adds text.
    pub(crate) fn write(&self, text: fmt::Arguments<'_>) {
        // SAFETY: The pointer is as above; the format `%pA` takes a `fmt::Arguments`.
        unsafe {
            bindings::seq_printf(
                self.0,
                c_str!("%pA").as_char_ptr(),
                (&raw const text).cast::<core::ffi::c_void>(),
            )
        };
    }
}
