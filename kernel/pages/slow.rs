// SPDX-License-Identifier: GPL-2.0

//! Calls with a path or a file that keep their owner in WAIT for long.
//!
//! The kernel cannot tell in advance how long a file system takes: a disk answers soon, a FUSE
//! daemon or an NFS server may never answer. WAIT returns only after the call, whatever its policy
//! is. So after a call that has slept for long, all calls that may ask a file system go to syscall
//! threads for some time.

use super::Pages;
use crate::sys::process;

/// A sleep of this length, longer than a disk takes, makes calls slow. In nanoseconds.
const LONG_NS: u64 = 20_000_000;

/// How long calls go to threads after such a sleep, in nanoseconds. Then one is tried inline again.
const FOR_NS: u64 = 1_000_000_000;

impl Pages {
    /// Called in the scheduler's hook: the owner goes to sleep in a call that it executes itself.
    pub(crate) fn owner_sleeps(&self) {
        self.owner_stats.asleep_since.set(process::now_ns());
    }

    /// Called in the scheduler's hook: the owner runs again.
    pub(crate) fn owner_runs(&self) {
        let now = process::now_ns();
        if now.saturating_sub(self.owner_stats.asleep_since.get()) >= LONG_NS {
            self.owner_stats.slow_until.set(now.saturating_add(FOR_NS));
        }
    }

    /// Returns true if calls that may ask a file system go to syscall threads now. Called by the
    /// owner.
    #[inline(always)]
    pub(crate) fn is_slow(&self) -> bool {
        self.owner_stats.slow_until.get() != 0 && self.is_still_slow()
    }

    #[cold]
    fn is_still_slow(&self) -> bool {
        let slow = process::now_ns() < self.owner_stats.slow_until.get();
        if !slow {
            self.owner_stats.slow_until.set(0);
        }
        slow
    }
}
