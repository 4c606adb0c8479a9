// SPDX-License-Identifier: GPL-2.0

//! Notifies tasks that wait with poll(), epoll or an eventfd that results are ready.

use super::{arch::FullBarrier, c};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;

/// See `helpers/notify.c`.
///
/// # Invariants
///
/// Owns memory from `flexsc_notifier_new`.
pub(crate) struct Notifier(NonNull<c::flexsc_notifier>);

// SAFETY: The C side locks for itself.
unsafe impl Send for Notifier {}
// SAFETY: As above.
unsafe impl Sync for Notifier {}

impl Notifier {
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: No preconditions.
        NonNull::new(unsafe { c::flexsc_notifier_new() })
            .map(Notifier)
            .ok_or(ENOMEM)
    }

    /// Signals that results were published before `barrier`. Allowed in the scheduler's hook.
    #[inline(always)]
    pub(crate) fn signal(&self, _barrier: &FullBarrier) {
        // SAFETY: By the invariant it is valid.
        let watched = unsafe { &(*self.0.as_ptr()).watched };
        // ORDERING: See `flexsc_notifier_signal()`. The word never becomes 0 again.
        if watched.load(Ordering::Relaxed) != 0 {
            // SAFETY: By the invariant it is valid.
            unsafe { c::flexsc_notifier_signal(self.0.as_ptr()) };
        }
    }

    /// Signals eventfd `fd` from now on, or none if it is negative. Fails with `EBADF` or `EINVAL`.
    pub(crate) fn set_eventfd(&self, fd: i32) -> Result {
        // SAFETY: By the invariant it is valid.
        to_result(unsafe { c::flexsc_notifier_set_eventfd(self.0.as_ptr(), fd) })
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is owned.
        unsafe { c::flexsc_notifier_free(self.0.as_ptr()) };
    }
}

/// A poll() in progress.
pub(crate) struct Poll {
    pub(super) file: *mut bindings::file,
    pub(super) table: *mut bindings::poll_table_struct,
}

impl Poll {
    /// Lets `notifier` wake the caller up. The caller must check the results after this call.
    pub(crate) fn wait_on(&self, notifier: &Notifier) {
        // SAFETY: Made by the shim for `poll` from valid pointers, for its duration.
        unsafe { c::flexsc_notifier_poll(notifier.0.as_ptr(), self.file, self.table) };
    }
}
