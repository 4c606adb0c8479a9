// SPDX-License-Identifier: GPL-2.0

//! Calls on paths or files that keep their owner in WAIT for a long time.
//!
//! The kernel cannot tell in advance how long a file system takes: a disk answers soon, a FUSE
//! daemon or an NFS server may never do so. WAIT returns only after the call, whatever its policy
//! is. So after an inline call that has slept for [`LONG_NS`], all calls of the registration that may
//! ask a file system (`policy/files.rs`) go to syscall threads for [`FOR_NS`]. This continues as
//! long as such a call sleeps in a thread, and for [`FOR_NS`] after one that has slept for
//! [`LONG_NS`] there. Then the next call is executed inline again.

use super::Pages;
use crate::{policy, sys::process};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A sleep of this length, longer than a disk takes, makes calls slow. In nanoseconds.
const LONG_NS: u64 = 20_000_000;

/// How long calls go to threads after such a sleep, in nanoseconds. Then they are inline again.
const FOR_NS: u64 = 1_000_000_000;

// ORDERING: Hints that may be a moment late.
const RELAXED: Ordering = Ordering::Relaxed;

/// State of a registration about slow calls.
#[derive(Default)]
pub(super) struct Slow {
    /// The time until which calls go to threads; 0 if they do not.
    until: AtomicU64,
    /// Number of calls that went to threads for this reason and sleep there.
    asleep: AtomicU32,
}

impl Slow {
    /// Notes that a call has slept since `since`.
    fn note(&self, since: u64) {
        let now = process::now_ns();
        if now.saturating_sub(since) >= LONG_NS {
            self.until.fetch_max(now.saturating_add(FOR_NS), RELAXED);
        }
    }
}

impl Pages {
    /// Called in the scheduler's hook: the owner is about to sleep in a call that it executes.
    pub(crate) fn owner_sleeps(&self) {
        self.owner_stats.asleep_since.set(process::now_ns());
    }

    /// Called in the scheduler's hook: the owner runs again.
    pub(crate) fn owner_runs(&self) {
        self.flags.slow.note(self.owner_stats.asleep_since.get());
    }

    /// Notes that the owner leaves entry `index` of `page` to a thread before its call enters a file
    /// system that may not answer. However long that takes, it says nothing about other calls.
    pub(crate) fn note_left(&self, page: u32, index: u32) {
        if let Some(words) = self.words(page) {
            // ORDERING: None needed: the entry is offloaded under the lock afterwards.
            words.left.fetch_or(1 << index, RELAXED);
        }
    }

    fn is_left(&self, page: u32, index: u32) -> bool {
        self.words(page)
            .is_some_and(|words| words.left.load(RELAXED) & (1 << index) != 0)
    }

    /// Called in the scheduler's hook: a syscall thread is about to sleep in the call of an entry.
    /// Returns the time if the owner has left the call to threads by chance or because such calls
    /// are slow: the first slow call may not have returned to the owner yet.
    pub(crate) fn slow_call_sleeps(&self, page: u32, index: u32) -> Option<u64> {
        if !self.is_owners(page, index) || self.is_left(page, index) {
            return None;
        }
        let nr = self.area.entry(page, index).head().nr();
        if !policy::is_inline(nr) || !policy::files::asks_files(nr) {
            return None;
        }
        self.flags.slow.asleep.fetch_add(1, RELAXED);
        Some(process::now_ns())
    }

    /// Called in the scheduler's hook: the thread runs again after it has slept since `since`.
    pub(crate) fn slow_call_runs(&self, since: u64) {
        if self.flags.slow.until.load(RELAXED) != 0 {
            self.flags.slow.note(since);
        }
        self.flags.slow.asleep.fetch_sub(1, RELAXED);
    }

    /// Returns true if calls that may ask a file system go to syscall threads now. Called by the
    /// owner.
    #[inline(always)]
    pub(crate) fn is_slow(&self) -> bool {
        self.flags.slow.until.load(RELAXED) != 0 && self.is_still_slow()
    }

    #[cold]
    fn is_still_slow(&self) -> bool {
        let until = self.flags.slow.until.load(RELAXED);
        if process::now_ns() < until || self.flags.slow.asleep.load(RELAXED) != 0 {
            return true;
        }
        // Fails if a thread has just noted another slow call.
        self.flags
            .slow
            .until
            .compare_exchange(until, 0, RELAXED, RELAXED)
            .is_err()
    }
}
