// SPDX-License-Identifier: GPL-2.0

//! The owner's wait for results: how many are ready, and how many are missing.

use super::Pages;
use crate::sys::{process, trace};
use core::sync::atomic::Ordering;

/// Numbers of entries by state.
#[derive(Clone, Copy, Default)]
pub(crate) struct Count {
    /// Entries with a result that was not reaped.
    pub(crate) ready: u32,
    /// Entries that were posted or taken and have no result.
    pub(crate) unfinished: u32,
}

impl Pages {
    /// Counts the entries that have a result, and those that will have one.
    #[inline(always)]
    pub(crate) fn count(&self) -> Count {
        let mut count = Count::default();
        for (words, bell) in self.words.iter().zip(self.area.doorbells(0)) {
            let taken = words.taken.load(Ordering::Relaxed);
            let done = words.done.load(Ordering::Relaxed);
            let busy = taken ^ done;
            let posted = bell.posted() ^ taken;
            let ready = done ^ bell.reaped();
            if ready != 0 {
                count.ready = count.ready.wrapping_add(process::weight(ready));
            }
            if busy | posted != 0 {
                let unfinished = process::weight(busy | posted);
                count.unfinished = count.unfinished.wrapping_add(unfinished);
            }
        }
        count
    }

    /// Counts a call of WAIT by the owner.
    pub(crate) fn count_wait(&self) {
        self.owner_stats.waits.add(1);
    }

    /// Returns the adaptive wait policy's rate of results, and when it was updated.
    pub(crate) fn rate(&self) -> (u64, u64) {
        (self.owner_stats.rate.get(), self.owner_stats.rate_at.get())
    }

    /// Sets [`Self::rate`]. For the owner.
    pub(crate) fn set_rate(&self, rate: u64, at: u64) {
        self.owner_stats.rate.set(rate);
        self.owner_stats.rate_at.set(at);
    }

    /// Prepares the owner's sleep for `need(count)` more results. Returns false if none is missing
    /// or the owner was nudged, so that it must not sleep.
    pub(crate) fn sleep_for(&self, need: impl FnOnce(Count) -> u32) -> bool {
        let mut inner = self.inner.lock();
        // Under the lock, so that later results are subtracted.
        let missing = need(self.count());
        if missing == 0 || core::mem::take(&mut inner.nudged) || !self.may_sleep() {
            return false;
        }
        inner.missing = missing;
        self.owner_stats.sleeps.add(1);
        trace::wait(self.id(), missing);
        true
    }

    /// Notes that the owner is awake again.
    pub(crate) fn awake(&self) {
        if self.has_parked() {
            self.attend_ready();
        }
        self.inner.lock().missing = 0;
    }

    /// Wakes the owner if it sleeps: no syscall thread can continue its entries.
    pub(crate) fn nudge(&self) {
        let mut inner = self.inner.lock();
        inner.nudged = true;
        if core::mem::take(&mut inner.missing) != 0 {
            self.owner.wake();
        }
    }
}
