// SPDX-License-Identifier: GPL-2.0

//! Calls that wait for their file without a thread. See `park.c` and `park/`.

use super::{c, deferred::Trigger, process::Thread};
use core::ptr::NonNull;
use kernel::ffi::{c_int, c_uint};
use kernel::prelude::*;
use kernel::sync::Arc;

/// The reaction of a registration's owner to files that become ready. As in `helpers.h`.
#[derive(Clone, Copy)]
pub(crate) enum Attention {
    /// The owner does nothing: a syscall thread executes the call.
    Away = 0,
    /// The owner checks before it sleeps or leaves.
    Looks = 1,
    /// The owner must be woken.
    Sleeps = 2,
}

/// Counters of parked calls. As in `helpers.h`.
#[derive(Clone, Copy)]
pub(crate) enum Counted {
    /// Number of times a call began to wait for its file.
    Parked = 0,
    /// Number of times a file woke a parked call.
    Woken = 1,
    /// Number of spurious wake-ups: the file was not ready after all.
    Vain = 2,
    /// Number of wake-ups passed on to other waiters.
    Passed = 3,
    /// Number of times the time of a call expired.
    TimedOut = 4,
}

/// The answer of poll() about the file of a call that begins to wait.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Armed {
    /// The call may have to wait.
    Waits,
    /// The call need not wait.
    Ready,
    /// The call cannot be parked, and does not wait.
    Not,
}

/// Collects which entries have ready files and notifies the owner; one for each registration.
///
/// # Invariants
///
/// Owns memory from `flexsc_parker_new`, which keeps a pointer to the memory of `later`.
pub(crate) struct Parker {
    c: NonNull<c::flexsc_parker>,
    pages: u32,
    later: Arc<Trigger>,
}

// SAFETY: The C side uses atomics, and its references may be dropped anywhere.
unsafe impl Send for Parker {}
// SAFETY: As above.
unsafe impl Sync for Parker {}

impl Parker {
    /// For `pages` pages of `owner`. Pulls `later` if a file is ready while the owner is away.
    pub(crate) fn new(owner: &Thread, later: Arc<Trigger>, pages: u32) -> Result<Arc<Self>> {
        // SAFETY: Both are valid; the new value keeps the trigger.
        let c = unsafe { c::flexsc_parker_new(owner.as_ptr(), later.as_ptr(), pages) };
        let c = NonNull::new(c).ok_or(ENOMEM)?;
        // INVARIANT: See above.
        let parker = Parker { c, pages, later };
        Ok(Arc::new(parker, GFP_KERNEL_ACCOUNT)?)
    }

    /// Sets what the owner does from now on. The owner checks [`Self::ready`] after this.
    pub(crate) fn attend(&self, attention: Attention) {
        // SAFETY: By the invariant.
        unsafe { c::flexsc_parker_attend(self.c.as_ptr(), attention as c_int) };
    }

    /// Returns true if the owner is going to check.
    pub(crate) fn attends(&self) -> bool {
        // SAFETY: By the invariant.
        unsafe { c::flexsc_parker_attends(self.c.as_ptr()) }
    }

    /// Returns the pages with ready entries, one bit for each.
    pub(crate) fn ready(&self) -> u64 {
        // SAFETY: By the invariant.
        unsafe { c::flexsc_parker_ready(self.c.as_ptr()) }
    }

    /// Takes the ready ones of the entries `parked` of `page`.
    pub(crate) fn take(&self, page: u32, parked: u64) -> u64 {
        let page = core::cmp::min(page, self.pages.wrapping_sub(1));
        // SAFETY: By the invariant, and `page` is one of its pages.
        unsafe { c::flexsc_parker_take(self.c.as_ptr(), page, parked) }
    }

    /// Returns the trigger of the engine's deferred work.
    pub(crate) fn trigger(&self) -> &Trigger {
        &self.later
    }

    /// Starts the engine's deferred work, without its pause.
    pub(crate) fn pull(&self) {
        self.later.pull_now();
    }

    /// Entry `index` of `page` is parked now, and may be ready already.
    pub(crate) fn parked(&self, page: u32, index: u32) {
        if page < self.pages {
            // SAFETY: By the invariant, and `page` is one of its pages.
            unsafe { c::flexsc_parker_parked(self.c.as_ptr(), page, index) };
        }
    }

    pub(crate) fn counted(&self, what: Counted) -> u64 {
        // SAFETY: By the invariant.
        unsafe { c::flexsc_parker_counted(self.c.as_ptr(), what as c_uint) }
    }
}

impl Drop for Parker {
    fn drop(&mut self) {
        // SAFETY: By the invariant; each `Parked` holds the parker, so there is none left.
        unsafe { c::flexsc_parker_free(self.c.as_ptr()) };
    }
}

/// A call with the file that it waits for, in the file's wait queue or not.
///
/// Dropping it unhooks it and puts the file, so never drop it with a lock held or in the
/// scheduler's hook.
///
/// # Invariants
///
/// Owns memory from `flexsc_parked_new`, which keeps a pointer to the memory of `parker`.
pub(crate) struct Parked {
    c: NonNull<c::flexsc_parked>,
    _parker: Arc<Parker>,
}

// SAFETY: The call may be used and dropped anywhere.
unsafe impl Send for Parked {}
// SAFETY: A shared reference only reads fields that do not change, or that the wake function
// changes under the lock of its queue.
unsafe impl Sync for Parked {}

impl Parked {
    /// Prepares to park call `nr` of entry `index` of `page`. Returns `None` if that is impossible.
    pub(crate) fn new(
        parker: Arc<Parker>,
        (page, index): (u32, u32),
        nr: u16,
        args: &[u64; 6],
    ) -> Option<Self> {
        if page >= parker.pages || index >= u64::BITS {
            return None;
        }
        let call = c::flexsc_parked_call { args: *args, nr };
        // SAFETY: The parker is valid and kept, and has this page; `call` is copied.
        let c = unsafe { c::flexsc_parked_new(parker.c.as_ptr(), page, index, &call) };
        // INVARIANT: See above.
        NonNull::new(c).map(|c| Parked { c, _parker: parker })
    }

    pub(super) fn as_ptr(&self) -> *mut c::flexsc_parked {
        self.c.as_ptr()
    }

    /// Returns the call's number and arguments.
    pub(crate) fn call(&self) -> (u16, [u64; 6]) {
        // SAFETY: By the invariant; the call never changes.
        let call = unsafe { *c::flexsc_parked_call(self.c.as_ptr()) };
        (call.nr, call.args)
    }

    /// Waits for the file from now on. The caller must check afterwards whether the call must
    /// wait at all.
    pub(crate) fn arm(&mut self) -> Armed {
        // SAFETY: By the invariant; exclusive, and the file's queue is not locked.
        match unsafe { c::flexsc_park_arm(self.c.as_ptr()) } {
            0 => Armed::Waits,
            1 => Armed::Ready,
            _ => Armed::Not,
        }
    }

    /// Stops waiting for the file.
    pub(crate) fn unhook(&mut self) {
        // SAFETY: By the invariant; exclusive, and the file's queue is not locked.
        unsafe { c::flexsc_park_unhook(self.c.as_ptr()) };
    }

    /// Counts a wake-up after which the call must wait again, if it was spurious. Returns how
    /// many spurious ones there were.
    pub(crate) fn count_in_vain(&mut self) -> u32 {
        // SAFETY: By the invariant; exclusive.
        unsafe { c::flexsc_parked_in_vain(self.c.as_ptr()) }
    }

    /// Returns true if the call has sent any bytes since the last time.
    pub(crate) fn advances(&mut self) -> bool {
        // SAFETY: By the invariant; exclusive.
        unsafe { c::flexsc_parked_advances(self.c.as_ptr()) }
    }

    /// Returns true if the call has sent a part of its bytes.
    pub(crate) fn has_begun(&self) -> bool {
        // SAFETY: By the invariant; only a task that has the call to itself changes this.
        unsafe { c::flexsc_parked_has_begun(self.c.as_ptr()) }
    }

    /// Ends the call, which no longer waits, as a signal would. Returns its result.
    pub(crate) fn cancel(&mut self) -> i64 {
        // SAFETY: By the invariant; exclusive, and called by a task of the process.
        unsafe { c::flexsc_parked_cancel(self.c.as_ptr()) as i64 }
    }

    /// Notes that the call was made, with this result.
    pub(crate) fn set_result(&mut self, result: i64) {
        // SAFETY: By the invariant; exclusive.
        unsafe { c::flexsc_parked_end(self.c.as_ptr(), result as _) };
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        // SAFETY: By the invariant it is owned.
        unsafe { c::flexsc_parked_free(self.c.as_ptr()) };
    }
}
