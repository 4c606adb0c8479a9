// SPDX-License-Identifier: GPL-2.0

//! Plain entries of a page that their owner executes in a row, in the core's
//! `syscall_invoke_plain()`.

use super::{area::PageRef, invoke::Frame};
use core::cell::UnsafeCell;
use core::mem::{offset_of, size_of};
use kernel::bindings;
use kernel::prelude::*;
use kernel::uapi::{flexsc_entry, flexsc_status_FLEXSC_DONE, FLEXSC_PAGE_ENTRIES};

// The core has its own struct for the layout of an entry.
static_assert!(size_of::<flexsc_entry>() == size_of::<bindings::syscall_posted>());
static_assert!(offset_of!(flexsc_entry, nr) == offset_of!(bindings::syscall_posted, nr));
static_assert!(offset_of!(flexsc_entry, flags) == offset_of!(bindings::syscall_posted, special));
static_assert!(offset_of!(flexsc_entry, reason) == offset_of!(bindings::syscall_posted, state));
static_assert!(offset_of!(flexsc_entry, args) == offset_of!(bindings::syscall_posted, args));
static_assert!(offset_of!(flexsc_entry, result) == offset_of!(bindings::syscall_posted, result));
static_assert!(FLEXSC_PAGE_ENTRIES == bindings::SYSCALL_POSTED_MAX);
static_assert!(flexsc_status_FLEXSC_DONE << 8 == bindings::SYSCALL_POSTED_DONE);
static_assert!(bindings::syscall_plain_call_SYSCALL_PLAIN_NEVER == 0);
static_assert!(bindings::syscall_plain_call_SYSCALL_PLAIN_ALWAYS == 1);
static_assert!(bindings::syscall_plain_call_SYSCALL_PLAIN_BY_FILE == 2);
static_assert!(bindings::syscall_plain_call_SYSCALL_PLAIN_ON_FILE == 3);

/// All numbers of plain calls are below this.
pub(crate) const CALLS: usize = bindings::SYSCALL_PLAIN_NR as usize;

/// Why [`Row::execute`] ended. An index names an entry that was started and has no result.
pub(crate) enum Stop {
    /// All entries were executed, or given away while one of them slept.
    Empty,
    /// The task must check its flags.
    Look,
    /// This entry is not plain, or the core refused its call.
    Other(u32),
    /// A signal interrupted this entry's call.
    Interrupted(u32),
}

/// See the module's documentation. Used by one task and its scheduler hook, which that task
/// calls; no code keeps a reference to a field.
pub(crate) struct Row(UnsafeCell<bindings::syscall_plain>);

impl Row {
    /// For each call number, `calls` says whether the call is plain: 0 never, 1 always, 2 unless
    /// the file in its first argument may block or keep the caller waiting, 3 unless it may do the
    /// latter.
    #[inline(always)]
    pub(crate) fn new(calls: &'static [u8; CALLS]) -> Self {
        Row(UnsafeCell::new(bindings::syscall_plain {
            posted: core::ptr::null_mut(),
            calls: calls.as_ptr(),
            todo: 0,
            first: 0,
            executing: bindings::SYSCALL_PLAIN_NONE,
        }))
    }

    /// Returns the entries to be started; bit 0 stands for entry [`Self::first`].
    #[inline(always)]
    pub(crate) fn todo(&self) -> u64 {
        // SAFETY: Valid; one task uses it.
        unsafe { (*self.0.get()).todo }
    }

    #[inline(always)]
    pub(crate) fn set_todo(&self, todo: u64) {
        // SAFETY: As above.
        unsafe { (*self.0.get()).todo = todo };
    }

    /// Returns the entry that comes before the others.
    #[inline(always)]
    pub(crate) fn first(&self) -> u32 {
        // SAFETY: As above.
        unsafe { (*self.0.get()).first }
    }

    #[inline(always)]
    pub(crate) fn set_first(&self, first: u32) {
        // SAFETY: As above.
        unsafe { (*self.0.get()).first = first };
    }

    /// Returns the entry whose call is executing.
    #[inline(always)]
    pub(crate) fn executing(&self) -> Option<u32> {
        // SAFETY: As above.
        let index = unsafe { (*self.0.get()).executing };
        (index != bindings::SYSCALL_PLAIN_NONE).then_some(index)
    }

    /// Notes which entry's call is executing from now on.
    #[inline(always)]
    pub(crate) fn set_executing(&self, index: Option<u32>) {
        let index = index.unwrap_or(bindings::SYSCALL_PLAIN_NONE);
        // SAFETY: As above.
        unsafe { (*self.0.get()).executing = index };
    }

    /// As their owner, executes entries of `page` until one is not plain or the task must check
    /// its flags.
    #[inline(always)]
    pub(crate) fn execute(&self, frame: &Frame, page: &PageRef<'_>) -> Stop {
        let row = self.0.get();
        // SAFETY: As above.
        unsafe { (*row).posted = page.as_ptr().cast() };
        // SAFETY: By the invariant of `Frame`; `page` has as many entries as the core accesses, in
        // its layout, and the table of calls is static and as long as the core expects.
        let stop = unsafe { bindings::syscall_invoke_plain(frame.as_ptr(), row) };
        match stop.why {
            bindings::syscall_plain_end_SYSCALL_PLAIN_EMPTY => Stop::Empty,
            bindings::syscall_plain_end_SYSCALL_PLAIN_LOOK => Stop::Look,
            bindings::syscall_plain_end_SYSCALL_PLAIN_OTHER => Stop::Other(stop.index),
            _ => Stop::Interrupted(stop.index),
        }
    }
}
