// SPDX-License-Identifier: GPL-2.0

//! The module's parameters, see `helpers/params.c`.

use super::c;
use kernel::bindings;

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

/// Parameter `max_user_pages`: syscall pages that one user may have; 0: no limit.
pub(crate) fn max_user_pages() -> u32 {
    // SAFETY: No preconditions.
    unsafe { c::flexsc_max_user_pages() }
}
